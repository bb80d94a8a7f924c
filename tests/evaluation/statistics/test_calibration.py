import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.calibration import (
    brier,
    expected_calibration_error,
    fit_temperature,
    recalibration,
    reliability,
    weighted_recalibrations,
    with_temperature,
)


def made(seed=0, rows=4000, *, slope=1.0, intercept=0.0):
    """Scores whose true recalibration line is known."""
    rng = np.random.default_rng(seed)
    scores = expit(rng.normal(-0.5, 1.2, rows))
    return (rng.random(rows) < expit(intercept + slope * logit(scores))).astype(float), scores


def test_brier_equals_scikit_learn_and_its_closed_forms():
    labels, scores = made()
    assert brier(labels, scores) == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)
    assert brier([0, 1], [0.5, 0.5]) == 0.25
    assert brier([1, 1], [1.0, 1.0]) == 0


def test_the_bins_equal_scikit_learns_quantile_bins():
    labels, scores = made()
    table = reliability(labels, scores)
    observed, predicted = calibration_curve(labels, scores, n_bins=10, strategy="quantile")
    assert [row["observed"] for row in table] == pytest.approx(list(observed), abs=1e-9)
    assert [row["predicted"] for row in table] == pytest.approx(list(predicted), abs=1e-9)
    assert [row["n"] for row in table] == [400] * 10
    low, high = binomtest(round(400 * observed[3]), 400).proportion_ci(method="wilson")
    assert table[3]["ci95"] == pytest.approx([low, high], abs=1e-9)


def test_equal_scores_stay_in_one_bin():
    table = reliability([0, 1, 0, 1, 1], [0.2, 0.2, 0.2, 0.2, 0.9])
    assert [(row["n"], row["predicted"]) for row in table] == [(4, pytest.approx(0.2)), (1, 0.9)]
    assert [row["n"] for row in reliability([0, 1, 1], [0.5] * 3)] == [3]
    assert reliability([], []) == []


def test_the_calibration_error_of_constant_scores_is_their_distance_from_the_prevalence():
    assert expected_calibration_error([1, 0, 0, 0], [0.6] * 4) == pytest.approx(0.35)
    labels = np.tile([0, 1], 500)
    assert expected_calibration_error(labels, 0.9 * labels) == pytest.approx(0.05)


def test_right_probabilities_have_slope_one_and_wrong_ones_the_slope_they_were_made_with():
    for slope, intercept in ((1.0, 0.0), (0.5, 0.4), (1.8, -0.6)):
        found = recalibration(*made(7, 40_000, slope=slope, intercept=intercept))
        assert found["slope"] == pytest.approx(slope, abs=0.06)
        assert found["intercept"] == pytest.approx(intercept, abs=0.06)
        assert found["slope_ci95"][0] <= slope <= found["slope_ci95"][1]
    assert recalibration(*made(7, 40_000))["in_the_large"] == pytest.approx(0, abs=0.04)


def test_slope_and_intercept_are_those_of_a_direct_search():
    labels, scores = made(1, 300, slope=0.7)
    found = recalibration(labels, scores)
    x = logit(scores)

    def loss(line):
        return log_loss(labels, expit(line[0] + line[1] * x))

    best = minimize(loss, [0, 1], method="BFGS", options={"gtol": 1e-9}).x
    assert [found["intercept"], found["slope"]] == pytest.approx(best, abs=1e-5)
    large = minimize(lambda a: loss([a[0], 1]), [0], method="BFGS", options={"gtol": 1e-9}).x[0]
    assert found["in_the_large"] == pytest.approx(large, abs=1e-5)


def test_copies_in_the_same_patient_leave_the_interval_of_the_slope():
    labels, scores = made(2, 200)
    alone = recalibration(labels, scores)["slope_ci95"]
    copies = recalibration(np.tile(labels, 3), np.tile(scores, 3), np.tile(np.arange(200), 3))["slope_ci95"]
    assert copies == pytest.approx(alone, abs=1e-4)
    assert np.ptp(recalibration(np.tile(labels, 3), np.tile(scores, 3))["slope_ci95"]) < 0.7 * np.ptp(alone)


@pytest.mark.parametrize("scores", [[0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1], [0.3] * 4, [0, 0, 1, 1]])
def test_scores_that_separate_or_say_nothing_have_no_slope(scores):
    found = recalibration([0, 0, 1, 1], scores)
    assert (found["slope"], found["slope_ci95"], found["intercept"]) == (None, None, None)
    assert np.isfinite(found["in_the_large"])


def test_the_temperature_undoes_the_one_that_was_applied():
    labels, scores = made(3, 20_000)
    for temperature in (0.5, 1, 3):
        spoilt = with_temperature(scores, 1 / temperature)
        assert fit_temperature(labels, spoilt) == pytest.approx(temperature, rel=0.05)
    hot = with_temperature(scores, 0.25)
    mended = with_temperature(hot, fit_temperature(labels, hot))
    assert log_loss(labels, mended) < log_loss(labels, hot)
    assert (np.diff(mended[np.argsort(hot)]) >= 0).all()  # the order stays


def test_no_other_temperature_has_a_lower_loss():
    labels, scores = made(4, 300, slope=0.6)
    best = fit_temperature(labels, scores)
    loss = log_loss(labels, with_temperature(scores, best))
    assert all(loss <= log_loss(labels, with_temperature(scores, t)) + 1e-12 for t in np.geomspace(0.02, 50, 300))


def test_wrong_input_is_an_error():
    with pytest.raises(CxrPairError, match=r"between 0 and 1, got 1\.5"):
        brier([0, 1], [0.2, 1.5])
    with pytest.raises(CxrPairError, match="there is no recalibration"):
        recalibration([1, 1], [0.2, 0.4])
    with pytest.raises(CxrPairError, match="there is no temperature"):
        fit_temperature([0, 0], [0.2, 0.4])
    with pytest.raises(CxrPairError, match="not finite"):
        reliability([0, 1], [0.2, np.nan])


def test_a_bootstrap_by_one_step_is_close_to_refitting_each_replicate():
    labels, scores = made(3, 600, slope=0.6, intercept=0.5)
    found = recalibration(labels, scores)
    weights = np.random.default_rng(0).multinomial(600, [1 / 600] * 600, size=400)
    samples = weighted_recalibrations(labels, scores, found, weights)
    refits = [recalibration(np.repeat(labels, row), np.repeat(scores, row)) for row in weights[:40]]
    for key in ("slope", "intercept", "in_the_large"):
        expected = np.array([refit[key] for refit in refits])
        assert np.sqrt(np.mean((samples[key][:40] - expected) ** 2)) < 0.1 * expected.std()
    low, high = found["slope_ci95"]  # the sandwich is another way to the same spread
    assert samples["slope"].std() == pytest.approx((high - low) / 2 / 1.96, rel=0.1)
    once = weighted_recalibrations(labels, scores, found, np.ones((1, 600)))
    assert [once[key][0] for key in once] == pytest.approx([found[key] for key in once], abs=1e-6)


def test_weights_that_leave_nothing_to_fit_and_scores_that_separate_give_no_sample():
    labels, scores = made(3, 50)
    alone = np.zeros((1, 50))
    alone[0, 0] = 50
    assert np.isnan(weighted_recalibrations(labels, scores, recalibration(labels, scores), alone)["slope"]).all()
    apart = np.where(labels == 1, 0.9, 0.1)
    samples = weighted_recalibrations(labels, apart, recalibration(labels, apart), np.ones((3, 50)))
    assert np.isnan(samples["slope"]).all()
    assert not np.isnan(samples["in_the_large"]).any()
