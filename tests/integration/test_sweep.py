"""A sweep that really trains and evaluates, and is started a second time."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from monai_cxrpair import cli
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.experiments.estimate import ENCODER_BYTES
from monai_cxrpair.phantom import write_phantom

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TABLE = {
    "name": "tiny",
    "source": "a paper",
    "settings": {"image_size": 48, "max_epochs": 1, "batch_size": 16},
    "evaluate": {"finding": "pleural_effusion", "label_fraction": 0.5, "draws": 2},
    "rows": [
        {"name": "random", "baseline": "random"},
        {"name": "MoCo v2", "overlays": [str(CONFIGS / "pairing" / "no_metadata.yaml")]},
        {"name": "same study, with a comma", "overlays": [str(CONFIGS / "pairing" / "same_study.yaml")],
         "overrides": {"pairing#include_self": True}, "paper": {"linear": [0.9, 0.01]}},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    write_phantom(folder / "ph", patients=30, file_format="png", seed=3)
    index_source(folder / "ph" / "truth.csv", out=folder / "cohort.parquet", root=folder / "ph", file_format="table")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TABLE))
    return folder


def sweep(place, *more):
    words = ["sweep", str(place / "tiny.yaml"), "--cohort", str(place / "cohort.parquet"), "--out", str(place / "out")]
    words += ["--seeds", "1", "--bundle", str(CONFIGS.parent / "bundle"), "--json", *more]
    done = CliRunner().invoke(cli.app, words)
    assert done.exception is None, (done.exception, [p.read_text()[-2000:] for p in place.rglob("log.txt")])
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_two_rows_are_trained_evaluated_and_tabled_once(place):
    found = sweep(place)
    assert found["failed"] == []
    folder = place / "out" / "tiny"
    for row, rate in {"moco_v2": 1.0, "same_study_with_a_comma": 0.95}.items():
        card = json.loads((folder / row / "seed0" / "encoder.json").read_text())
        assert card["training"]["last_epoch"]["self_pair_rate"] <= rate
        assert (card["preprocessing"]["image_size"], card["training"]["batch_size"]) == (48, 16)
        size = sum(path.stat().st_size for path in (folder / row / "seed0").rglob("*") if path.is_file())
        # One epoch: one checkpoint of four copies, and encoder.pt; what the estimate reckons with for two.
        assert size == pytest.approx(5 * ENCODER_BYTES["resnet18"], rel=0.1)
    results = json.loads(next((folder / "evaluation").rglob("results.json")).read_text())
    (block,) = json.loads((folder / "table.json").read_text())["blocks"]
    for row, name in zip(block["rows"], ["random weights", "MoCo v2", "same study, with a comma"], strict=True):
        assert row["auc_draws"] == [results["encoders"][name]["linear"]["auc_draws"]]
    difference = {pair["a"]: pair for pair in block["comparisons"]}["same study, with a comma"]
    assert difference["difference"] == pytest.approx(block["rows"][2]["auc_mean"] - block["rows"][1]["auc_mean"])
    assert difference["not_established"] is not None  # one seed
    assert "0.900 ± 0.010" in (folder / "table.md").read_text()
    pixels = list((place / "out" / "pixels").rglob("*"))
    assert pixels

    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name in ("encoder.pt", "results.json")}
    assert len(times) == 3
    assert sweep(place) == found
    assert {path: path.stat().st_mtime_ns for path in times} == times
    shown = sweep(place, "--dry-run")
    assert [run["state"] for run in shown["runs"]] == ["done", "done"]
    assert shown["estimate"]["seconds"] == 0
