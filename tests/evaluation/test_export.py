"""A classifier as a bundle of its own: what is in it, and whether it computes the same."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from monai_cxrpair import cli
from monai_cxrpair.contrast import build_encoder, feature_dim
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation import classifier_network, load_classifier
from monai_cxrpair.evaluation.classifier import Classifier, save_classifier
from monai_cxrpair.evaluation.export import export_bundle, export_onnx, export_torchscript

SIZE = 64


def _save(folder, name="resnet18"):
    torch.manual_seed(1)
    encoder = build_encoder(name)
    pixels = {"image_size": SIZE, "mean": 0.5, "std": 0.25}
    card = {"finding": "pneumothorax", "preprocessing": pixels, "test_auc": 0.8,
            "encoder_card": {"encoder": name, "preprocessing": pixels}}  # fmt: skip
    return save_classifier(Classifier(encoder, features=feature_dim(encoder)), folder, card)


def test_the_exported_bundle_runs_by_monais_own_command_and_its_torchscript_is_the_classifier(bundle, tmp_path):
    model = _save(tmp_path / "report")
    out = tmp_path / "classification"
    done = CliRunner().invoke(
        cli.app, ["export-bundle", str(model), "--out", str(out), "--bundle", str(bundle), "--json"]
    )
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout.splitlines()[-1])
    assert set(said["files"]) == {
        "LICENSE", "configs/inference.yaml", "configs/logging.conf", "configs/metadata.json", "docs/README.md",
        "models/model.json", "models/model.pt", "models/model.ts",
    }  # fmt: skip
    metadata = json.loads((out / "configs/metadata.json").read_text())
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == [SIZE, SIZE]
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "pneumothorax"}
    assert "effusion" not in (out / "configs/metadata.json").read_text().replace("pleural_effusion", "")

    views = torch.randn(5, 1, SIZE, SIZE)
    with torch.no_grad():
        theirs = torch.jit.load(out / "models/model.ts")(views)
        ours = load_classifier(classifier_network(model), model)(views)
    assert torch.allclose(theirs, ours, atol=1e-4)

    shutil.rmtree(tmp_path / "report")  # it stands alone
    (tmp_path / "in").mkdir()
    import cv2

    picture = np.random.default_rng(0).integers(0, 256, (90, 80)).astype(np.uint8)
    assert cv2.imwrite(str(tmp_path / "in" / "a.png"), picture)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "inference", "--config_file",
         "configs/inference.yaml", "--dataset_dir", "../in", "--output_dir", "../out"],
        cwd=out, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert "a.png,,pneumothorax,0." in (tmp_path / "out" / "predictions.csv").read_text()


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_onnx_computes_what_torch_computes_for_any_number_of_radiographs(name, tmp_path):
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    torch.manual_seed(2)
    encoder = build_encoder(name)
    network = Classifier(encoder, features=feature_dim(encoder)).eval()
    assert export_onnx(network, tmp_path / "model.onnx", image_size=SIZE) <= 1e-4
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for number in (1, 4):
        views = torch.randn(number, 1, SIZE, SIZE)
        with torch.no_grad():
            ours = network(views).numpy()
        assert session.run(["logit"], {"image": views.numpy()})[0] == pytest.approx(ours, abs=1e-4)


def test_what_an_export_computes_otherwise_is_refused(tmp_path):
    class Fickle(nn.Module):
        def forward(self, image):
            bonus = 1.0 if image.shape[0] == 2 else 0.0  # a trace keeps the branch of its example
            return image.mean(dim=(1, 2, 3))[:, None] + bonus

    with pytest.raises(CxrPairError, match="logits differ"):
        export_torchscript(Fickle(), tmp_path / "model.ts", image_size=SIZE)


def test_a_folder_that_holds_something_and_one_that_is_no_bundle_are_refused(bundle, tmp_path):
    model = _save(tmp_path / "report")
    with pytest.raises(CxrPairError, match="not empty"):
        export_bundle(model, tmp_path / "report", bundle=bundle)
    with pytest.raises(CxrPairError, match="--bundle"):
        export_bundle(model, tmp_path / "new", bundle=tmp_path)
    assert not (tmp_path / "new").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["report"]
