import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from monai_cxrpair.cohort.split.draws import label_draws
from monai_cxrpair.evaluation.measure import measure_calibrated
from monai_cxrpair.evaluation.protocols.data import make_cases
from monai_cxrpair.evaluation.protocols.learned import Learned
from monai_cxrpair.evaluation.protocols.runner import run_protocol
from monai_cxrpair.evaluation.statistics.calibration import fit_temperature, with_temperature


class TooSure:
    """Scores that are right but for a temperature; what is held out needs another one than the test side."""

    def __init__(self, labels, *, few=False):
        rng = np.random.default_rng(5)
        self.truth = rng.normal(size=len(labels)) + 1.5 * labels - 1
        self.few = few

    def learn(self, encoder, draws, rows):
        held = [None if self.few else (own, expit(2.5 * self.truth[own])) for own in draws]
        return Learned(scores=np.stack([expit(4 * self.truth[rows])] * len(draws)), held_out=held)

    def describe(self):
        return {}


def run(*, calibrate, few=False, aggregate="image"):
    rng = np.random.default_rng(0)
    who = rng.integers(0, 200, 900)
    study = rng.integers(0, 3, 900)
    labels = (rng.random(900) < 0.4).astype(float)
    cases = make_cases(labels, who, study, np.flatnonzero(who % 2), np.flatnonzero(who % 2 == 0), aggregate=aggregate)
    train = cases.train
    drawn = label_draws(labels[train], who[train], study[train], fraction=0.5, draws=2, seed=0)
    result = run_protocol(
        "linear", TooSure(labels, few=few), ["e"], cases, drawn, seed=0, replicates=50, calibrate=calibrate
    )
    return result, labels


@pytest.mark.parametrize("aggregate", ["image", "study_max"])
def test_the_temperature_is_that_of_scipys_minimiser_on_what_the_draw_held_out(aggregate):
    result, labels = run(calibrate=True, aggregate=aggregate)
    found = result.encoders["e"]["calibrated"]
    truth = TooSure(labels).truth
    for own, temperature in zip(result.draws, found["temperatures"], strict=True):
        scores, present = expit(2.5 * truth[own]), labels[own] == 1
        if aggregate == "study_max":
            keys = list(zip(result.cases.patients[own], result.cases.studies[own], strict=True))
            groups = [[row for row, key in enumerate(keys) if key == one] for one in dict.fromkeys(keys)]
            scores = np.array([scores[rows].max() for rows in groups])
            present = np.array([present[rows].any() for rows in groups])
        x = logit(scores)
        best = minimize(lambda t, x=x, p=present: log_loss(p, expit(x / t[0])), [1.0], method="Nelder-Mead",
                        options={"xatol": 1e-9, "fatol": 1e-14})  # fmt: skip
        assert temperature == pytest.approx(best.x[0], rel=1e-5)
    assert result.protocol["calibrate"] is True


def test_only_the_calibration_changes_and_the_order_stays():
    scaled, plain = run(calibrate=True)[0], run(calibrate=False)[0]
    found = dict(scaled.encoders["e"])
    calibrated = found.pop("calibrated")
    assert found == plain.encoders["e"]  # AUCs, operating points and the calibration before
    assert scaled.comparisons == plain.comparisons
    after = [with_temperature(row, t) for row, t in zip(scaled.scores["e"], calibrated["temperatures"], strict=True)]
    for row, before in zip(after, scaled.scores["e"], strict=True):
        assert roc_auc_score(scaled.test_labels, row) == pytest.approx(
            roc_auc_score(scaled.test_labels, before), abs=1e-9
        )
    brier = np.mean([brier_score_loss(scaled.test_labels, row) for row in after])
    assert calibrated["calibration"]["brier"]["mean"] == pytest.approx(brier, abs=1e-12)
    assert brier < found["calibration"]["brier"]["mean"]  # the scores were too sure, on both sides
    assert found["calibration"]["slope"] < calibrated["calibration"]["slope"]


def test_the_test_side_has_no_part_in_the_temperature():
    result, _ = run(calibrate=True)
    of_the_test_side = fit_temperature(result.test_labels, result.scores["e"][0])
    assert min(result.encoders["e"]["calibrated"]["temperatures"]) < 0.8 * of_the_test_side


def test_a_draw_that_is_too_small_says_so():
    result, _ = run(calibrate=True, few=True)
    assert "too few labels" in result.encoders["e"]["calibrated"]["not_measured"]
    none = measure_calibrated(
        np.array([True, False]), np.arange(2), np.zeros((1, 2)), np.ones((1, 2), int), np.ones((1, 1), int), None
    )
    assert list(none) == ["not_measured"]


def test_without_being_asked_nothing_is_calibrated():
    result, _ = run(calibrate=False)
    assert "calibrated" not in result.encoders["e"]
    assert result.protocol["calibrate"] is False
