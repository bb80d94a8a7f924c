"""What a training run shows of itself: monitors, kNN probe, history, TensorBoard and MLflow, through the bundle."""

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigWorkflow

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.split.make import make_split_file
from monai_cxrpair.cohort.split.near_duplicates import find_links
from monai_cxrpair.cohort.split.saved import write_split
from monai_cxrpair.errors import CxrPairError

PATIENTS = 48


@pytest.fixture(autouse=True)
def _leave_the_process_as_it_was(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Noise for radiographs, two of each patient; a cohort file, and a split file with a validation side."""
    place = tmp_path_factory.mktemp("monitoring")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"patient_id": [f"kowalski{row // 2:02}" for row in range(2 * PATIENTS)]}, dtype="str")
    table["study_id"], table["image_id"] = table["patient_id"], [f"image{row:02}" for row in range(2 * PATIENTS)]
    table["path"] = [f"{name}.png" for name in table["image_id"]]
    table["effusion"] = np.arange(2 * PATIENTS) // 2 % 2.0
    for name in table["path"]:
        cv2.imwrite(str(place / name), rng.integers(0, 255, (40, 36)).astype(np.uint8))
    cohort = Cohort(table, root=place, findings=["effusion"], source="table")
    cohort.write(place / "cohort.parquet")
    sides = np.zeros(len(table), dtype=np.int64)
    sides[:16], sides[16:32] = 2, 1
    write_split(make_split_file(cohort, find_links(cohort), sides, method={}), place / "split.json")
    return place


def config(place, name, bundle, *, cohort="cohort.parquet", tracking=None, **override):
    settings = {"image_size": 32, "batch_size": 16, "queue_size": 16, "max_epochs": 2, "precision": "fp32", **override}
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "train.yaml"), run_id="training", logging_file=False,
        bundle_root=str(bundle), workflow_type="train", tracking=tracking, cohort_file=str(place / cohort),
        output_dir=str(place / name), **settings,
    )  # fmt: skip
    handlers = workflow.parser.get("train#handlers")
    board = next(n for n, handler in enumerate(handlers) if handler["_target_"] == "TensorBoardStatsHandler")
    workflow.parser[f"train#handlers#{board}#iteration_log"] = 1
    workflow.initialize()
    return workflow


def train(place, name, bundle, **override):
    config(place, name, bundle, **override).run()
    return [json.loads(line) for line in (place / name / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def probed(place, bundle):
    """A run with the probe that stops after its first epoch, and is resumed."""
    settings = {"split_file": str(place / "split.json"), "knn_finding": "effusion"}
    first = config(place, "probed", bundle, **settings)
    trainer = first.parser.get_parsed_content("train#trainer")
    trainer.add_event_handler("EPOCH_COMPLETED", trainer.terminate)
    first.run()
    assert len((place / "probed" / "history.jsonl").read_text().splitlines()) == 1
    return train(place, "probed", bundle, resume=True, **settings)


def test_the_probe_changes_no_number_of_the_training(place, bundle, probed):
    plain = train(place, "plain", bundle, split_file=str(place / "split.json"))
    newest = [max((place / name / "checkpoints").glob("epoch_*.pt")) for name in ("plain", "probed")]
    states = [torch.load(file, weights_only=True) for file in newest]
    assert [state["trainer"]["iteration"] for state in states] == [8, 8]
    states = [state["network"] for state in states]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    timed = {"pairs_per_second", "data_wait", "knn_auc"}
    for mine, theirs in zip(plain, probed, strict=True):
        assert {k: v for k, v in mine.items() if k not in timed} == {k: v for k, v in theirs.items() if k not in timed}


def test_each_epoch_of_a_resumed_run_has_its_figures_once_in_history_card_and_tensorboard(place, probed):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    figures = {"loss", "alignment", "uniformity", "effective_rank", "queue_age", "same_patient_rate", "self_pair_rate",
               "knn_auc", "data_wait", "accuracy", "positive_similarity", "negative_similarity"}  # fmt: skip
    assert [(line["epoch"], line["iteration"]) for line in probed] == [(1, 4), (2, 8)]
    assert all(figures <= line.keys() for line in probed)
    card = json.loads((place / "probed" / "encoder.json").read_text())
    assert figures <= card["training"]["last_epoch"].keys()
    assert card["training"]["knn"]["finding"] == "effusion"
    assert card["training"]["chosen_by"] == "knn_auc"
    best = max(probed, key=lambda line: (line["knn_auc"], -line["epoch"]))
    assert card["training"]["epoch"] == best["epoch"]

    points = {}  # a resumed run writes a file of its own, beside the first
    for file in sorted((place / "probed").glob("events.*")):
        board = EventMultiplexer().AddRun(str(file)).Reload()
        (run,) = board.Runs()
        for tag in board.Runs()[run]["scalars"]:
            points.setdefault(tag, []).extend((event.step, event.value) for event in board.Scalars(run, tag))
    assert figures <= points.keys()
    for name in figures:
        assert points[name] == [(line["epoch"], pytest.approx(line[name], rel=1e-5)) for line in probed], name
    assert [step for step, _ in points["train_loss"]] == list(range(1, 9))


def test_validation_patients_are_kept_out_of_pre_training_where_no_split_file_names_them(place, bundle):
    without = config(place, "unused", bundle).parser
    held = config(place, "unused", bundle, knn_finding="effusion", validation_fraction=0.4).parser
    sides = held.get_parsed_content("split")
    kept = set(sides.validation_patients)
    assert kept
    training = set(held.get_parsed_content("train#dataset").cohort.table["patient_id"])
    assert not training & kept
    assert training | kept == set(without.get_parsed_content("train#dataset").cohort.table["patient_id"])
    card = held.get_parsed_content("card")["cohort"]
    assert card["validation_fraction"] == 0.4
    assert card["split_hash"] == without.get_parsed_content("split").hash
    assert without.get_parsed_content("card")["cohort"]["validation_fraction"] == 0
    assert without.get_parsed_content("card")["training"]["knn"] is None
    assert without.get_parsed_content("validate#dataset") is None


def test_a_validation_side_of_one_class_is_an_error_before_any_radiograph_is_read(place, bundle):
    cohort = Cohort.read(place / "cohort.parquet")
    table = cohort.table.assign(effusion=cohort.table["effusion"].where(~np.isin(np.arange(96), range(16, 32)), 0.0))
    Cohort(table, root=Path("nowhere"), findings=["effusion"], source="table").write(place / "one_class.parquet")
    with pytest.raises((RuntimeError, CxrPairError)) as caught:
        train(place, "one_class", bundle, cohort="one_class.parquet", split_file=str(place / "split.json"),
              knn_finding="effusion")  # fmt: skip
    cause = caught.value
    while not isinstance(cause, CxrPairError):
        cause = cause.__cause__
    assert "the validation side has 0 labelled radiographs with it and 16 without" in str(cause)


def test_tracking_adds_mlflows_handler_in_a_form_that_fits_our_trainer(place, bundle, monkeypatch):
    """The config alone: whether MLflow is there is all that is asked."""
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "mlflow" or find(name))
    parser = config(place, "tracked", bundle, tracking="mlflow").parser
    handlers = parser.get("train#handlers")
    assert handlers[-1]["_target_"] == "MLFlowHandler"
    read = parser.get_parsed_content(f"train#handlers#{len(handlers) - 1}#output_transform")
    assert read({"loss": 1.5, "numbers": {}}) == 1.5
    assert parser.get_parsed_content("tracking_uri").startswith("sqlite:///")


def test_mlflow_gets_every_figure_and_no_patient(place, bundle):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install mlflow")
    lines = train(place, "mlflow", bundle, tracking="mlflow", split_file=str(place / "split.json"),
                  knn_finding="effusion")  # fmt: skip
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{place / 'mlflow' / 'mlruns.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "monai_experiment"]
    (run,) = client.search_runs([experiment.experiment_id])
    for name in ("loss", "knn_auc", "effective_rank"):
        points = client.get_metric_history(run.info.run_id, name)
        assert [(p.step, p.value) for p in points] == [(line["epoch"], pytest.approx(line[name])) for line in lines]
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 8
    for file in [p for p in (place / "mlflow").rglob("*") if p.is_file()]:
        assert b"kowalski" not in file.read_bytes(), file
