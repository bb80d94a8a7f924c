import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from report_page import read
from sklearn.metrics import roc_auc_score
from small_evaluation import FINDING, evaluated_on, make_cohort, make_table

from monai_cxrpair.cohort.split.seen import seen_patients
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.evaluation.final_classifier import final_classifier
from monai_cxrpair.evaluation.report.page import write_report
from monai_cxrpair.evaluation.statistics.delong import delong


class Four(torch.nn.Module):
    def forward(self, x):
        return x.mean((2, 3)).repeat(1, 4)


class Radiographs:
    """Of the dataset, what the card is measured on."""

    def __init__(self, count):
        self.images = np.random.default_rng(1).integers(0, 256, (count, 1, 32, 32), dtype=np.uint8)
        self.data = [{"image": "radiograph.png"}] * count
        table = pd.DataFrame({"patient_id": [f"p{row}" for row in range(count)]})
        self.cohort = SimpleNamespace(table=table, source="chexpert")

    def __getitems__(self, rows):
        return {"image": self.images[rows]}

    def radiographs(self, rows):
        return [np.empty((48, 32), np.uint8) for _ in rows]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    done = evaluated_on(make_cohort(make_table(200)))
    rng = np.random.default_rng(0)
    present = np.nan_to_num(done.labels, nan=0.0) == 1
    embeddings = (rng.normal(size=(len(present), 4)) + 0.6 * present[:, None]).astype(np.float32)
    card = {"encoder": "resnet18", "preprocessing": {"image_size": 32}}
    encoder = FrozenEncoder(network=Four(), mean=0.5, std=0.2, card=card)
    found = final_classifier(
        "ours",
        encoder,
        embeddings,
        done.linear,
        dataset=Radiographs(len(present)),
        finding=FINDING,
        output_dir=folder,
        seed=0,
    )
    return done, embeddings, folder, *found


def test_the_classifier_has_its_auc_with_the_interval_of_the_test_patients(made):
    done, embeddings, folder, card, probe = made
    scores = probe.predict_proba(embeddings[done.linear.test_rows])
    assert card["test_auc"] == pytest.approx(roc_auc_score(done.linear.test_labels, scores))
    _, error = delong(done.linear.test_labels, scores, done.linear.test_patients).contrast([1.0])
    low, high = card["test_auc_ci95"]
    assert low < card["test_auc"] < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)  # DeLong, by patient
    written = json.loads((folder / "model.json").read_text())
    assert written["test_auc_ci95"] == [low, high]
    assert written["input"]["quantiles"]["aspect"]["0.5"] == pytest.approx(np.log(48 / 32), abs=1e-4)  # their logarithm
    labels = done.labels[done.split.train_rows]
    learned = card["trained_on"].pop("patients_seen")
    rows = [f"p{row}" for row in done.split.train_rows if done.labels[row] in (0, 1)]
    assert seen_patients(learned, [f"p{row}" for row in range(len(done.labels))]) == set(rows)
    assert card["trained_on"] == {
        "radiographs": int(np.isin(labels, (0, 1)).sum()),
        "present": int((labels == 1).sum()),
    }


def page(folder, card, *, level):
    linear = {"auc_mean": 0.75, "auc_sd": 0.01, "ci95": [0.7, 0.8], "auc_draws": [0.74, 0.76]}
    results = {
        "finding": FINDING,
        "protocol": {"draws": 2, "label_fraction": 0.4, "radiographs_per_draw": [10, 12], "level": level},
        "cohort": {side: {"radiographs": 9} for side in ("train", "test")},
        "encoders": {"ours": {"linear": linear, "card": {}}},
        "comparisons": [],
        "classifier": card,
    }
    return read(write_report(results, out_dir=folder).read_text(encoding="utf-8"))[1]


@pytest.mark.parametrize(("level", "word"), [("study_max", "highest"), ("study_mean", "mean"), ("image", None)])
def test_the_page_says_where_a_threshold_for_radiographs_is_tested_on_studies(made, tmp_path, level, word):
    card = made[3]
    text = page(tmp_path, card, level=level)
    low, high = card["test_auc_ci95"]
    assert f"Test AUC {card['test_auc']:.3f} (95 % CI {low:.3f} to {high:.3f}; bootstrap over test" in text
    assert ("The threshold was chosen for radiographs" in text) == (word is not None)
    assert word is None or f"applied to studies, by the {word} score" in text


@pytest.mark.parametrize("calibration", [{"temperature": 1.25}, {"slope": 1.25, "intercept": -0.5}])
def test_the_page_says_that_the_calibration_is_not_applied_in_its_figures(made, tmp_path, calibration):
    card = made[3]
    text = page(tmp_path, {**card, "calibration": {**calibration, "source": "folds"}}, level="image")
    said = ", ".join(f"{key} {value:.4g}" for key, value in calibration.items())
    assert f"A calibration was fitted too: {said}. No figure of this page has it applied" in text
    assert "A calibration was fitted" not in page(tmp_path, {**card, "calibration": None}, level="image")
