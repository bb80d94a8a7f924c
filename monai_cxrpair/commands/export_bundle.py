from pathlib import Path
from typing import Annotated

import typer

import monai_cxrpair
from monai_cxrpair.commands.common import JsonOption, print_json

_BUNDLE = Path(monai_cxrpair.__file__).resolve().parents[1] / "bundle"  # of a checkout; a wheel brings none


def export_bundle(
    model_file: Annotated[Path, typer.Argument(metavar="MODEL.pt", help="Of `evaluating`, with model.json beside it.")],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The new folder; MONAI Label wants `classification` in its name."),
    ],
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Also models/model.onnx; needs pip install 'monai-cxrpair[export]'.")
    ] = False,
    bundle: Annotated[
        Path, typer.Option(metavar="DIR", help="The project's bundle folder; default: that of the checkout.")
    ] = _BUNDLE,
    as_json: JsonOption = False,
) -> None:
    """Write a classifier as a MONAI bundle of its own, which `python -m monai.bundle run` runs, also as TorchScript.

    Each export is compared with torch: logits that differ by more than 0.0001 are an error.
    """
    from monai_cxrpair.evaluation.export import export_bundle as write_bundle

    result = write_bundle(model_file, out, bundle=bundle, onnx=onnx)
    if as_json:
        print_json(result)
        return
    for file in result["files"]:
        typer.echo(f"{out / file}")
    for kind, difference in result["largest_difference"].items():
        typer.echo(f"{kind}: logits differ from torch's by at most {difference:.1e}")
