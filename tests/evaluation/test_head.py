import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from monai_cxrpair.evaluation.head import fit_head


@pytest.fixture(scope="module")
def rows():
    """120 rows of 60 patients, 40 with the finding, which three of 20 features tell."""
    rng = np.random.default_rng(1)
    y = np.repeat((np.arange(60) % 3 == 0).astype(float), 2)
    x = rng.normal(size=(120, 20))
    x[:, :3] += 1.5 * y[:, None]
    return x.astype(np.float32), y, np.repeat(np.arange(60), 2)


def test_the_operating_point_is_where_youdens_index_is_largest_on_out_of_fold_rows(rows):
    x, y, patients = rows
    head = fit_head(x, y, patients, seed=0)
    scores, point = head.probe.out_of_fold(x, y, patients), head.operating_point

    def youden(threshold):
        return (scores[y == 1] >= threshold).mean() + (scores[y == 0] < threshold).mean() - 1

    assert youden(point["threshold"]) == pytest.approx(max(youden(t) for t in scores))
    assert point["sensitivity"] == pytest.approx((scores[y == 1] >= point["threshold"]).mean())
    assert point["specificity"] == pytest.approx((scores[y == 0] < point["threshold"]).mean())
    assert (point["rule"], point["present"], point["absent"]) == ("youden", 40, 80)
    assert 0 < point["threshold"] < 1


def test_the_calibration_is_that_of_an_unpenalised_logistic_regression_on_out_of_fold_rows(rows):
    x, y, patients = rows
    head = fit_head(x, y, patients, seed=0)
    scores = head.probe.out_of_fold(x, y, patients)
    logits = np.log(scores / (1 - scores))
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], y)
    assert head.calibration["slope"] == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
    assert head.calibration["intercept"] == pytest.approx(oracle.intercept_[0], abs=1e-4)
    assert "folds by patient" in head.calibration["source"]


def test_with_too_few_rows_of_a_class_there_is_neither(rows):
    x, y, patients = rows
    few = np.concatenate([np.flatnonzero(y == 1)[:6], np.flatnonzero(y == 0)])
    head = fit_head(x[few], y[few], patients[few], seed=0)
    assert head.operating_point is None
    assert head.calibration is None
