"""A network of the user's own, defined in the config, through training, evaluating and inference."""

import csv
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import monai
import pytest
import torch
from monai.bundle import ConfigWorkflow
from torch import nn

import monai_cxrpair
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.phantom import write_phantom


class OwnNet(nn.Module):
    """Two convolutions; the feature is the mean over the image."""

    def __init__(self, in_channels, widths):
        super().__init__()
        self.first = nn.Conv2d(in_channels, widths[0], 5, stride=4)
        self.second = nn.Conv2d(widths[0], widths[1], 3)

    def forward(self, x):
        return self.second(self.first(x).relu()).relu().mean(dim=(2, 3))


# As a user writes it in an overlay; a part of it refers to another key.
OWN = {"_target_": f"{__name__}.OwnNet", "in_channels": "@in_channels", "widths": [8, 16]}
GIVEN = {**OWN, "in_channels": 3}


@pytest.fixture(autouse=True)
def _keep_the_exception_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def run(config, run_id, place, **override):
    root = Path(__file__).resolve().parents[2]
    workflow = ConfigWorkflow(
        config_file=str(root / "bundle" / "configs" / f"{config}.yaml"), run_id=run_id, logging_file=False,
        workflow_type="train" if config == "train" else "infer", bundle_root=str(root / "bundle"),
        cohort_file=str(place / "cohort.parquet"), **override,
    )  # fmt: skip
    workflow.initialize()
    workflow.run()


def train(place, name, **override):
    run("train", "training", place, output_dir=str(place / name), image_size=48, max_epochs=1, batch_size=8,
        in_channels=3, **override)  # fmt: skip
    return str(place / name / "encoder.pt")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    place = tmp_path_factory.mktemp("encoders")
    write_phantom(place / "pacs", patients=30, file_format="png", seed=3)
    index_source(place / "pacs" / "truth.csv", out=place / "cohort.parquet")
    train(place, "own", encoder=OWN)
    train(place, "resnet", encoder="resnet18", imagenet_weights=_imagenet(place), normalisation=[0.5, 0.25])
    return place


def _imagenet(place):
    from monai_cxrpair.contrast import build_encoder

    state = build_encoder("resnet18", in_channels=3).state_dict()
    path = place / "imagenet.pth"
    torch.save({key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, path)
    return str(path)


def evaluate(place, files, name, **override):
    run("evaluate", "evaluating", place, output_dir=str(place / name), encoder_file=files, label_fraction=0.5,
        draws=1, **override)  # fmt: skip
    return json.loads((place / name / "results.json").read_text())


def test_the_card_says_what_the_encoder_is_and_with_what_it_was_made(workplace):
    card = json.loads((workplace / "own" / "encoder.json").read_text())
    assert card["encoder"] == GIVEN
    assert card["in_channels"] == 3
    assert card["versions"] == {
        "monai-cxrpair": monai_cxrpair.__version__,
        "monai": monai.__version__,
        "torch": version("torch"),
        "python": platform.python_version(),
    }
    assert torch.load(workplace / "own" / "encoder.pt", weights_only=True)["first.weight"].shape == (8, 3, 5, 5)
    other = json.loads((workplace / "resnet" / "encoder.json").read_text())
    assert other["training"]["started_from"] == "ImageNet weights"
    assert (other["preprocessing"]["mean"], other["preprocessing"]["std"]) == (0.5, 0.25)


def test_a_run_with_a_network_of_ones_own_can_be_resumed(workplace):
    train(workplace, "resumed", encoder=OWN)
    run("train", "training", workplace, output_dir=str(workplace / "resumed"), image_size=48, max_epochs=2,
        batch_size=8, in_channels=3, encoder=OWN, resume=True)  # fmt: skip
    assert json.loads((workplace / "resumed" / "encoder.json").read_text())["training"]["epochs"] == 2


def test_networks_of_two_kinds_are_compared_and_the_classifier_predicts(workplace):
    files = {name: str(workplace / name / "encoder.pt") for name in ("resnet", "own")}
    results = evaluate(workplace, files, "report", encoder=GIVEN)
    kinds = ("resnet18, 3 channels", "OwnNet, 3 channels")
    assert list(results["encoders"]) == [*(f"random weights ({kind})" for kind in kinds), "resnet", "own"]
    assert results["not_run"] == {
        f"ImageNet weights ({kind})": "no file was given (imagenet_weights)" for kind in kinds
    }
    page = (workplace / "report" / "report.html").read_text(encoding="utf-8")
    assert "not run" in page
    assert "no file was given (imagenet_weights)" in page
    model = str(workplace / "report" / "model.pt")
    run("inference", "inference", workplace, model_file=model, encoder=GIVEN, output_dir=str(workplace / "out"))
    with (workplace / "out" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)
    assert len({row["probability"] for row in rows}) > 1


@pytest.mark.parametrize("job", ["evaluating", "inference"])
def test_a_card_from_elsewhere_that_names_code_is_refused_by_a_line_that_names_the_key(workplace, job, monkeypatch):
    files = {"encoder_file": str(workplace / "own" / "encoder.pt"), "label_fraction": 0.5, "draws": 1}
    if job == "inference":
        evaluate(workplace, files["encoder_file"], "alone", encoder=GIVEN)
        files = {"model_file": str(workplace / "alone" / "model.pt")}
    monkeypatch.setattr(OwnNet, "__init__", lambda *_, **__: pytest.fail("code that a card names was run"))
    config = {"evaluating": "evaluate", "inference": "inference"}[job]
    with pytest.raises((RuntimeError, CxrPairError)) as caught:
        run(config, job, workplace, output_dir=str(workplace / "refused"), **files)
    cause = caught.value
    while not isinstance(cause, CxrPairError):
        cause = cause.__cause__
    assert "no code that a card names is run" in str(cause)
    assert "set encoder in your config" in str(cause)
