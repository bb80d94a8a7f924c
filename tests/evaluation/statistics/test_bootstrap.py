import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.auc import weighted_aucs
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, patient_weights, weighted_sums
from monai_cxrpair.evaluation.statistics.delong import delong


def test_the_interval_of_nothing_but_nan_is_an_error():
    with pytest.raises(CxrPairError, match="no bootstrap replicate holds both classes"):
        ci95([np.nan, np.nan])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 5))
def test_every_row_of_a_patient_has_the_patients_multiplicity_and_as_many_patients_are_drawn_as_there_are(codes, seed):
    patients = np.array(codes) * 1000 - 3
    weights = patient_weights(patients, replicates=7, seed=seed)
    assert weights.shape == (7, len(patients))
    distinct, first = np.unique(patients, return_index=True)
    for patient in distinct:
        assert (np.ptp(weights[:, patients == patient], axis=1) == 0).all()
    assert (weights[:, first].sum(axis=1) == len(distinct)).all()
    np.testing.assert_array_equal(weights, patient_weights(patients, replicates=7, seed=seed))


def test_multiplicities_have_the_mean_and_variance_of_resampling_with_replacement():
    weights = patient_weights(np.arange(50), replicates=4000, seed=0).astype(float)
    assert abs(weights.mean() - 1) < 1e-12
    assert weights.var() == pytest.approx(1 - 1 / 50, rel=0.03)


def test_replicates_below_one_are_an_error():
    with pytest.raises(CxrPairError, match="replicates must be at least 1, got 0"):
        patient_weights([1, 2], replicates=0, seed=0)


def test_weighted_sums_equal_the_plain_product_whatever_the_block(monkeypatch):
    rng = np.random.default_rng(0)
    weights, columns = rng.integers(0, 4, (13, 30)).astype(np.int16), rng.normal(size=(30, 2))
    expected = [[sum(row * column) for column in columns.T] for row in weights]
    for block in (1, 100, 10**6):
        monkeypatch.setattr("monai_cxrpair.evaluation.statistics.bootstrap._BLOCK", block)
        np.testing.assert_allclose(weighted_sums(columns, weights), expected, rtol=1e-12)


def test_one_patient_is_drawn_in_every_replicate():
    assert (patient_weights([7, 7, 7], replicates=5, seed=0) == 1).all()


@pytest.mark.slow
def test_the_interval_covers_the_true_auc_in_ninety_five_of_a_hundred_cohorts():
    # 1 to 4 radiographs a patient, scores and labels alike within him. The AUC of scores from two patients is known:
    # the difference of two normals of variance 0.6 + 0.4, one unit apart.
    truth, cohorts, patients = norm.cdf(1 / np.sqrt(2)), 1000, 150
    covered = by_row = by_delong = 0
    for trial in range(cohorts):
        rng = np.random.default_rng(trial)
        who = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
        labels = rng.random(len(who)) < np.where(rng.random(patients) < 0.4, 0.95, 0.05)[who]
        scores = np.sqrt(0.6) * rng.normal(size=patients)[who] + np.sqrt(0.4) * rng.normal(size=len(who)) + labels
        low, high = ci95(weighted_aucs(labels, scores, patient_weights(who, replicates=500, seed=trial)))
        covered += low <= truth <= high
        for patients_known in (True, False):
            value, error = delong(labels, scores, who if patients_known else None).contrast([1])
            inside = abs(value - truth) <= 1.959964 * error
            by_delong += inside and patients_known
            by_row += inside and not patients_known
    assert 0.93 <= covered / cohorts <= 0.97
    assert 0.93 <= by_delong / cohorts <= 0.97
    assert by_row / cohorts < 0.91  # rows taken as independent: too narrow
