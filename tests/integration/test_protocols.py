"""All protocols, two label sizes and studies as what is tested, through the bundle as its users run it."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from sklearn.metrics import roc_auc_score

from monai_cxrpair.cohort import Cohort, split_patients
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.contrast import build_encoder, save_encoder
from monai_cxrpair.phantom import write_phantom

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    place = tmp_path_factory.mktemp("protocols")
    write_phantom(place / "pacs", patients=40, file_format="dicom", seed=3)
    key = place / "cohort.key"  # a given key, so that pseudonyms and with them the split are the same in every run
    key.write_text("5a" * 32)
    key.chmod(0o600)
    index_source(place / "pacs", out=place / "cohort.parquet", labels=place / "pacs" / "truth.csv")
    cohort = Cohort.read(place / "cohort.parquet")
    card = {
        "format": "cxrpair-encoder/1", "encoder": "resnet18", "in_channels": 1,
        "preprocessing": {"image_size": 32, "mean": 0.5, "std": 0.25},
        "cohort": {"fingerprint": cohort.fingerprint(), "test_fraction": 0.3, "split_seed": 0, "near_duplicates":
                   split_patients(cohort, test_fraction=0.3).near_duplicates},
    }  # fmt: skip
    torch.manual_seed(0)
    save_encoder(build_encoder("resnet18", in_channels=1, image_size=32), place / "encoder.pt", card)
    return place


def evaluate(place, out, *overlays, **override):
    hook = sys.excepthook
    workflow = ConfigWorkflow(
        config_file=[str(ROOT / "bundle" / "configs" / "evaluate.yaml"), *map(str, overlays)], run_id="evaluating",
        logging_file=False, bundle_root=str(ROOT / "bundle"), workflow_type="infer",
        cohort_file=str(place / "cohort.parquet"), encoder_file={"mine": str(place / "encoder.pt")},
        output_dir=str(place / out), **override,
    )  # fmt: skip
    workflow.initialize()
    sys.excepthook = hook
    workflow.run()
    return json.loads((place / out / "results.json").read_text())


@pytest.fixture(scope="module")
def results(workplace):
    return evaluate(
        workplace, "all", protocols=["linear", "knn", "fine_tune"], label_fraction=[0.5, 1.0], draws=2,
        aggregate="study_max", fine_tune={"preset": "modern", "epochs": 2, "warmup_epochs": 1, "holdout": 0.2},
    )  # fmt: skip


def test_the_first_size_is_the_contract_and_every_size_has_its_place(results):
    for entry in results["encoders"].values():
        for protocol in ("linear", "knn", "fine_tune"):
            sizes = entry["by_fraction"][protocol]
            assert list(sizes) == ["0.5", "1"]
            labels = sizes["0.5"].pop("labels")
            assert entry[protocol] == sizes["0.5"]
            assert labels["studies"] == results["protocols"][protocol]["0.5"]["studies_per_draw"]
            assert len(entry[protocol]["auc_draws"]) == 2
    assert {pair["protocol"] for pair in results["comparisons"]} == {"linear", "knn", "fine_tune"}
    assert results["protocol"]["level"] == "study_max"
    assert results["protocols"]["fine_tune"]["0.5"]["settings"] == "modern"


def test_the_predictions_are_studies_and_give_the_auc_of_the_results(workplace, results):
    with (workplace / "all" / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    studies = [(row["patient_id"], row["study_id"]) for row in rows]
    assert len(set(studies)) == len(studies) == results["protocol"]["tested"]
    assert {"mine", "mine (knn)", "mine (fine_tune)"} <= rows[0].keys()
    whole = results["encoders"]["mine"]["by_fraction"]["knn"]["1"]
    assert whole["auc_draws"][0] == whole["auc_draws"][1]  # all labels: all draws are the same
    truth = [int(row["pleural_effusion"]) for row in rows]
    found = roc_auc_score(truth, [float(row["mine (knn)"]) for row in rows])
    assert found == pytest.approx(results["encoders"]["mine"]["knn"]["auc_mean"], abs=0.1)  # of the mean over the draws


def test_the_report_shows_every_protocol_and_the_learning_curve(workplace, results):
    page = (workplace / "all" / "report.html").read_text(encoding="utf-8")
    for protocol in ("knn", "fine_tune"):
        for entry in results["encoders"].values():
            assert f"{entry[protocol]['auc_mean']:.3f}" in page
    assert "How many labels" in page
    assert (workplace / "all" / "learning_curve.svg").stat().st_size > 1000
    curve = results["learning_curve"]["linear"]
    for found in curve["encoders"].values():
        counts = [point["studies"] for point in found["points"]]
        assert counts == sorted(counts)
        assert found["no_fit"] == "2 numbers of labels: a forecast needs 3"


def test_the_papers_own_way_runs_as_an_overlay(workplace):
    overlay = ROOT / "configs" / "evaluation" / "paper.yaml"
    known = ConfigParser.load_config_file(str(ROOT / "bundle" / "configs" / "evaluate.yaml"))
    assert ConfigParser.load_config_file(str(overlay)).keys() <= known.keys()
    results = evaluate(workplace, "paper", overlay, protocols=["linear"], label_fraction=0.1, draws=1)
    said = results["protocol"]
    assert (said["settings"], said["batch_norm"], said["train"], said["epochs"]) == ("paper, live", "live", "head", 95)
    assert (said["blank"], said["draw_by"], said["level"]) == ("zeros", "radiograph", "study_max")
