import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.probe import DEFAULT_C, GRID, LinearProbe


def sample(rng, n=120, features=40, signal=1.0):
    labels = (np.arange(n) % 3 == 0).astype(float)
    embeddings = rng.normal(size=(n, features)) * rng.uniform(0.01, 30, features) + rng.normal(size=features) * 10
    embeddings[:, 0] += signal * labels * embeddings[:, 0].std()
    embeddings[:, -1] = 4.2  # a dead feature
    return embeddings.astype(np.float32), labels, np.arange(n) // 2


def test_the_folded_layer_gives_the_same_probabilities_as_scikit_learns_pipeline():
    x, y, patients = sample(np.random.default_rng(0))
    probe = LinearProbe(c=0.1).fit(x, y, patients)
    weight, bias = probe.as_linear()
    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(x.astype(float), y == 1)

    assert weight.shape == (40,)
    assert isinstance(bias, float)
    expected = oracle.predict_proba(x.astype(float))[:, 1]
    np.testing.assert_allclose(probe.predict_proba(x), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(1 / (1 + np.exp(-(x @ weight + bias))), expected, rtol=0, atol=1e-6)


def test_the_penalty_is_the_documented_default_unless_asked_for():
    x, y, patients = sample(np.random.default_rng(0))
    probe = LinearProbe().fit(x, y, patients)
    assert (probe.c, probe.c_source) == (DEFAULT_C, "fixed")


@pytest.mark.parametrize("signal", [0.0, 1.0, 3.0])
def test_the_penalty_chosen_inside_the_draw_has_the_smallest_out_of_fold_log_loss(signal):
    x, y, patients = sample(np.random.default_rng(4), signal=signal)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    losses = {}
    for c in GRID:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000))
        found = cross_val_predict(model, x.astype(float), y, groups=patients, cv=folds, method="predict_proba")
        losses[c] = log_loss(y, found[:, 1])

    probe = LinearProbe(c=None).fit(x, y, patients)

    assert probe.c_source == "cross-validated"
    assert probe.c == min(losses, key=losses.get)


def test_a_draw_with_fewer_than_ten_of_a_class_falls_back_to_the_default():
    x, y, patients = sample(np.random.default_rng(0), n=24)
    probe = LinearProbe(c=None).fit(x, y, patients)
    assert (probe.c, probe.c_source) == (DEFAULT_C, "fixed")
    assert probe.out_of_fold(x, y, patients) is None


def test_a_class_that_sits_in_one_patient_cannot_be_cross_validated():
    x, y, _ = sample(np.random.default_rng(0))
    patients = np.where(y == 1, 0, 1 + np.arange(len(y)))
    probe = LinearProbe(c=None).fit(x, y, patients)
    assert probe.c_source == "fixed"
    assert probe.out_of_fold(x, y, patients) is None


def test_out_of_fold_predictions_never_saw_the_patient():
    # Noise that is the same in all rows of a patient: a row-wise split would read the label off it.
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(40), 4)
    y = np.repeat((np.arange(40) % 2).astype(float), 4)
    x = np.repeat(rng.normal(size=(40, 60)), 4, axis=0) + 0.01 * rng.normal(size=(160, 60))
    probe = LinearProbe(c=1.0).fit(x, y, patients)
    by_patient = roc_auc_score(y, probe._out_of_fold(x, y == 1, patients, 1.0))
    by_row = roc_auc_score(y, probe._out_of_fold(x, y == 1, np.arange(160), 1.0))
    assert by_row > 0.99
    assert by_patient < 0.75


def test_the_same_seed_gives_the_same_probe():
    x, y, patients = sample(np.random.default_rng(0))
    one, two = (LinearProbe(c=None, seed=3).fit(x, y, patients).as_linear() for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    assert one[1] == two[1]


def test_wrong_input_is_an_error_that_shows_it():
    x, y, patients = sample(np.random.default_rng(0))
    with pytest.raises(CxrPairError, match="call fit before"):
        LinearProbe().predict_proba(x)
    with pytest.raises(CxrPairError, match="c must be a number above 0, got -1"):
        LinearProbe(c=-1)
    with pytest.raises(CxrPairError, match="folds must be at least 2, got 1"):
        LinearProbe(folds=1)
    with pytest.raises(CxrPairError, match=r"both there; got \[0.0\] in 120 rows"):
        LinearProbe().fit(x, y * 0, patients)
    with pytest.raises(CxrPairError, match="do not match"):
        LinearProbe().fit(x, y[:-1], patients)
    with pytest.raises(CxrPairError, match="1 of 120 embeddings hold NaN"):
        LinearProbe().fit(np.where(np.arange(120)[:, None] == 3, np.nan, x), y, patients)
    with pytest.raises(CxrPairError, match=r"must be \(N, 40\), got \(120, 39\)"):
        LinearProbe().fit(x, y, patients).predict_proba(x[:, 1:])
