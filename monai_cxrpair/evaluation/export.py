"""A classifier as a bundle of its own, also as TorchScript and ONNX: each is compared with torch before it is kept."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from monai_cxrpair.cohort.files import check_folder
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.bundle_words import bundle_metadata, bundle_readme
from monai_cxrpair.evaluation.cards import read_classifier_card
from monai_cxrpair.evaluation.classifier import classifier_network, load_classifier

TOLERANCE = 1e-4  # of logits, on views of mean 0 and SD 1; float32 itself reaches 1e-6
TRACED, TRIED = 2, (1, 3)  # radiographs at once: any number must do afterwards
COPIED = ("configs/inference.yaml", "configs/logging.conf", "LICENSE")


def export_bundle(model_file: str | Path, out: str | Path, *, bundle: str | Path, onnx: bool = False) -> dict[str, Any]:
    """Write a bundle folder for inference with one classifier.

    Args:
        model_file: `model.pt` of `evaluating`, with `model.json` beside it.
        out: the new folder. It is written whole or not at all.
        bundle: the project's bundle folder, whose config, licence and metadata are taken.
        onnx: also `models/model.onnx`; needs the extra `export`.

    Returns:
        `bundle`, `files`, and `largest_difference` of each export from torch, in logits.

    Raises:
        CxrPairError: `out` is there and not empty, the classifier cannot be loaded, an extra is not installed, or an
            export does not compute what torch computes.
    """
    model_file, out, bundle = Path(model_file), Path(out), Path(bundle)
    card = read_classifier_card(model_file)
    network = load_classifier(classifier_network(model_file), model_file)
    absent = [name for name in (*COPIED, "configs/metadata.json") if not (bundle / name).is_file()]
    if absent:
        raise CxrPairError(f"{bundle} is not the project's bundle: there is no {absent[0]}; name it by --bundle")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CxrPairError(f"{out} is there and not empty: name a new folder")
    check_folder(out.absolute().parent, what=str(out))
    size = int(card["preprocessing"]["image_size"])
    with tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}.") as temporary:
        draft = Path(temporary) / "bundle"
        for name in COPIED:
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / name, draft / name)
        models = draft / "models"
        models.mkdir()
        shutil.copyfile(model_file, models / "model.pt")
        shutil.copyfile(model_file.with_suffix(".json"), models / "model.json")
        differences = {"torchscript": export_torchscript(network, models / "model.ts", image_size=size)}
        if onnx:
            differences["onnx"] = export_onnx(network, models / "model.onnx", image_size=size)
        original = json.loads((bundle / "configs/metadata.json").read_text(encoding="utf-8"))
        metadata = json.dumps(bundle_metadata(original, card), indent=4, ensure_ascii=False) + "\n"
        (draft / "configs/metadata.json").write_text(metadata, encoding="utf-8")
        (draft / "docs").mkdir()
        (draft / "docs/README.md").write_text(bundle_readme(card, onnx=onnx), encoding="utf-8")
        files = sorted(path.relative_to(draft).as_posix() for path in draft.rglob("*") if path.is_file())
        if out.exists():
            out.rmdir()
        draft.replace(out)
    return {"bundle": str(out), "files": files, "largest_difference": differences}


def export_torchscript(network: nn.Module, path: Path, *, image_size: int) -> float:
    """Write a network as TorchScript: normalised views float32 (B, 1, S, S) -> logits (B, 1), for any B.

    Returns:
        The largest difference from torch, in logits.

    Raises:
        CxrPairError: it does not compute what torch computes, or cannot be traced.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # on what depends on the input's size; the comparison tells
            torch.jit.trace(network.eval(), _views(TRACED, image_size)).save(str(path))
        loaded = torch.jit.load(str(path))
    except Exception as error:  # whatever a network of somebody's own raises
        raise _cannot("TorchScript", error) from error
    return _compared(network, lambda views: loaded(views), image_size, what="TorchScript")


def export_onnx(network: nn.Module, path: Path, *, image_size: int) -> float:
    """Write a network as ONNX, input `image` float32 (batch, 1, S, S), output `logit` (batch, 1), in one file.

    Returns:
        The largest difference of onnxruntime from torch, in logits.

    Raises:
        CxrPairError: the extra `export` is not installed, it does not compute what torch computes, or cannot be made.
    """
    try:
        import onnx  # noqa: F401 - torch asks for it
        import onnxruntime
    except ImportError as error:
        raise CxrPairError(f"--onnx needs {error.name or 'onnx'}: pip install 'monai-cxrpair[export]'") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Not by `dynamo`, which takes ten times as long and another package for the same numbers.
            torch.onnx.export(
                network.eval(),
                (_views(TRACED, image_size),),
                str(path),
                input_names=["image"],
                output_names=["logit"],
                dynamic_axes={"image": {0: "batch"}, "logit": {0: "batch"}},
                dynamo=False,
            )
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _cannot("ONNX", error) from error

    def run(views: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logit"], {"image": views.numpy()})[0])

    return _compared(network, run, image_size, what="ONNX")


def _compared(network: nn.Module, other: Any, image_size: int, *, what: str) -> float:
    worst = 0.0
    with torch.no_grad():
        for number in TRIED:
            views = _views(number, image_size)
            ours, theirs = network(views), other(views)
            if theirs.shape != ours.shape:
                raise CxrPairError(
                    f"{what}: {number} radiographs give {tuple(theirs.shape)} logits: the network fixes their number"
                )
            worst = max(worst, float((ours - theirs).abs().max()))
    if not worst <= TOLERANCE:  # also NaN
        raise CxrPairError(f"{what}: logits differ from torch's by {worst:.2g}, more than {TOLERANCE:g}")
    return worst


def _views(number: int, image_size: int) -> Tensor:
    """Like normalised radiographs: values of mean 0 and SD 1, on the CPU as exports are made there."""
    values = np.random.default_rng(number).normal(size=(number, 1, image_size, image_size))
    return torch.from_numpy(values.astype(np.float32))


def _cannot(what: str, error: Exception) -> CxrPairError:
    return CxrPairError(f"{what}: the network cannot be exported ({' '.join(str(error).split())[:200]})")
