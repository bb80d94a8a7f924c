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
from monai_cxrpair.evaluation.statistics.bootstrap import draw_weights, patient_weights
from monai_cxrpair.evaluation.statistics.calibration import fit_temperature, recalibration, with_temperature


class OneStudy:
    """A draw that, as studies, has the finding throughout: each of its studies has a radiograph that shows it."""

    def learn(self, encoder, draws, rows):
        held = [(own, np.linspace(0.2, 0.8, len(own))) for own in draws]
        return Learned(scores=np.stack([np.linspace(0.1, 0.9, len(rows))] * len(draws)), held_out=held)

    def describe(self):
        return {}


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


def test_slope_and_intercepts_are_means_over_the_draws_with_the_interval_of_refitted_replicates():
    rng = np.random.default_rng(8)
    x = rng.normal(size=(2, 500))
    present = rng.random(500) < expit(x.mean(axis=0))
    scores, patients = expit(2 * x + 0.5), np.repeat(np.arange(250), 2)
    weights = patient_weights(patients, replicates=80, seed=0)
    repeats = draw_weights(2, replicates=80, seed=0)
    found = measure_calibrated(present, patients, scores, weights, repeats, [1.0, 1.0])["calibration"]
    assert found["without_slope"] == 0
    refits = [[recalibration(np.repeat(present, row), np.repeat(s, row)) for row in weights] for s in scores]
    for key in ("slope", "intercept", "in_the_large"):
        assert found[key] == pytest.approx(np.mean([recalibration(present, row)[key] for row in scores]))
        table = np.array([[refit[key] for refit in row] for row in refits])  # (draws, replicates)
        expected = np.percentile((table.T * repeats).sum(axis=1) / 2, [2.5, 97.5])
        assert found[f"{key}_ci95"] == pytest.approx(list(expected), abs=0.1 * np.ptp(expected))


def test_scores_that_separate_have_no_slope_and_it_is_counted_in_how_many_draws():
    present = np.arange(40) % 2 == 0
    scores = np.stack([np.where(present, 0.9, 0.1), np.random.default_rng(0).uniform(0.1, 0.9, 40)])
    weights, repeats = np.ones((5, 40), np.int16), np.ones((5, 2), np.int16)
    found = measure_calibrated(present, np.arange(40), scores, weights, repeats, [1.0, 1.0])["calibration"]
    assert (found["slope"], found["slope_ci95"], found["intercept_ci95"], found["without_slope"]) == (None,) * 3 + (1,)
    assert found["in_the_large_ci95"][0] == pytest.approx(found["in_the_large"], abs=1e-6)


def test_a_draw_whose_studies_are_all_of_one_class_has_no_threshold_and_no_temperature():
    who = np.arange(60) // 2
    labels = np.tile([0.0, 1.0], 30)
    labels[40:50] = 0  # the test side needs studies without
    cases = make_cases(labels, who, who, np.arange(40), np.arange(40, 60), aggregate="study_max")
    drawn = label_draws(labels[:40], who[:40], who[:40], fraction=0.5, draws=2, seed=0)
    found = run_protocol("linear", OneStudy(), ["e"], cases, drawn, seed=0, replicates=20, calibrate=True).encoders["e"]
    assert found["operating_points"] is None
    assert "one class" in found["calibrated"]["not_measured"]
