import numpy as np
import pytest
from scipy.optimize import curve_fit

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.learning_curve import fit_learning_curve

COUNTS = (20, 50, 100, 200, 500, 1000)


def power(n, a=0.9, b=0.8, c=0.5):
    return a - b * np.asarray(n, dtype=float) ** -c


def noisy(seed, *, draws=8, spread=0.01, **line):
    rng = np.random.default_rng(seed)
    return {n: list(power(n, **line) + spread * rng.normal(size=draws)) for n in COUNTS}


def test_a_curve_without_noise_is_found():
    curve = fit_learning_curve({n: [power(n)] for n in COUNTS}, replicates=10)
    assert (curve.a, curve.b, curve.c) == pytest.approx((0.9, 0.8, 0.5), rel=0.02)
    fitted, bounds = curve.auc([30, 700])
    assert fitted == pytest.approx(power([30, 700]), abs=2e-4)
    assert np.ptp(bounds, axis=1) == pytest.approx([0, 0])  # one draw each: nothing to resample


def test_the_fit_is_no_worse_than_scipys():
    aucs = noisy(1)
    means = np.array([np.mean(aucs[n]) for n in COUNTS])
    curve = fit_learning_curve(aucs, replicates=2)
    best, _ = curve_fit(power, COUNTS, means, p0=(0.85, 1, 0.6), bounds=([0, 0, 0.02], [1, 50, 3]))
    assert ((curve.auc(COUNTS)[0] - means) ** 2).sum() <= ((power(COUNTS, *best) - means) ** 2).sum() + 1e-7


def test_the_forecast_is_the_inverse_of_the_curve():
    curve = fit_learning_curve(noisy(2))
    for auc in (0.8, 0.88):
        found = curve.labels_for(auc)
        assert curve.auc([found["labels"]])[0][0] == pytest.approx(auc, abs=1e-9)
        assert found["ci95"][0] <= found["labels"]
    assert "inside what was measured" in curve.labels_for(0.8)["verdict"]
    assert "a forecast: " in curve.labels_for(0.885)["verdict"]


def test_an_auc_above_the_plateau_is_not_reachable_by_this_fit():
    found = fit_learning_curve(noisy(3)).labels_for(0.97)
    assert found["labels"] is None
    assert found["ci95"][1] is None
    assert found["reachable"] < 0.5
    assert found["verdict"].startswith("AUC 0.97 is not reachable by this fit: it levels off at 0.")


def test_a_curve_that_does_not_rise_reaches_nothing_and_says_so():
    found = fit_learning_curve({n: [0.7, 0.7] for n in COUNTS}).labels_for(0.8)
    assert (found["labels"], found["ci95"], found["reachable"]) == (None, [None, None], 0)
    falling = fit_learning_curve({20: [0.8], 50: [0.75], 100: [0.7]})
    assert falling.b == 0


def test_no_auc_above_one_is_promised():
    curve = fit_learning_curve({n: [min(1.0, 0.5 + 0.08 * np.log(n))] for n in (10, 50, 100, 200)})
    assert curve.a <= 1
    assert curve.labels_for(0.999)["labels"] is None or curve.labels_for(0.999)["labels"] > 200


def test_the_interval_holds_the_true_curve_about_as_often_as_it_says():
    covered = 0
    for seed in range(40):
        _, bounds = fit_learning_curve(noisy(100 + seed, draws=10), replicates=100).auc([100])
        covered += bounds[0, 0] <= power(100) <= bounds[0, 1]
    assert covered / 40 > 0.8  # ten draws resampled give a little too narrow an interval


def test_the_same_seed_gives_the_same_interval():
    first, second = (fit_learning_curve(noisy(4), seed=1).labels_for(0.85) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("aucs", "message"),
    [
        ({}, "0 label counts from none"),
        ({10: [0.6], 20: [0.7]}, "2 label counts"),
        ({0: [0.5], 10: [0.6], 20: [0.7]}, r"from 0\.0"),
        ({10: [0.6], 20: [], 30: [0.7]}, "at 20 labels are missing"),
        ({10: [0.6], 20: [np.nan], 30: [0.7]}, "at 20 labels are missing"),
    ],
)
def test_too_little_to_fit_is_an_error(aucs, message):
    with pytest.raises(CxrPairError, match=message):
        fit_learning_curve(aucs)


def test_an_auc_that_is_none_is_an_error():
    with pytest.raises(CxrPairError, match="must lie between 0 and 1, got 1"):
        fit_learning_curve(noisy(0)).labels_for(1)
