import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.auc import weighted_aucs
from monai_cxrpair.evaluation.statistics.bootstrap import patient_weights
from monai_cxrpair.evaluation.statistics.delong import delong

# Hanley and McNeil, Radiology 1982;143:29-36, table I: 109 CT images, 58 normal and 51 abnormal, rated 1 to 5.
NORMAL, ABNORMAL = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)


def hanley():
    labels = np.repeat([0, 1], [sum(NORMAL), sum(ABNORMAL)])
    return labels, np.concatenate([np.repeat(np.arange(1, 6), counts) for counts in (NORMAL, ABNORMAL)])


def brute_force(labels, models, patients):
    """Structural components over all pairs, summed by patient as Obuchowski (1997) writes it."""
    labels, patients = np.asarray(labels), np.asarray(patients)
    x, y = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    tables = []
    for scores in models:
        table = np.array([[(scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j]) for j in y] for i in x], float)
        tables.append(table)
    aucs = [table.mean() for table in tables]
    result = np.zeros((len(models), len(models)))
    with_x, with_y, everybody = set(patients[x]), set(patients[y]), set(patients)
    for a, first in enumerate(tables):
        for b, second in enumerate(tables):
            xx = yy = xy = 0.0
            for one in everybody:
                mine_x, mine_y = patients[x] == one, patients[y] == one
                of_x = [t.mean(axis=1)[mine_x].sum() - mine_x.sum() * auc for t, auc in zip(tables, aucs, strict=True)]
                of_y = [t.mean(axis=0)[mine_y].sum() - mine_y.sum() * auc for t, auc in zip(tables, aucs, strict=True)]
                xx += of_x[a] * of_x[b]
                yy += of_y[a] * of_y[b]
                xy += of_x[a] * of_y[b] + of_y[a] * of_x[b]
            i10, i01, i = len(with_x), len(with_y), len(everybody)
            m, n = first.shape
            s10, s01, s11 = i10 / ((i10 - 1) * m) * xx, i01 / ((i01 - 1) * n) * yy, i / (i - 1) * xy
            result[a, b] = s10 / m + s01 / n + s11 / (m * n)
            assert second.shape == (m, n)
    return np.array(aucs), result


def test_the_area_and_error_are_those_of_hanley_and_mcneils_images():
    """The ratings and the area of 0.893 were checked against other software's copies of table I.

    The error of 0.0307 and the interval of 0.83295 to 0.95339 are as Stata's manual ([R] roctab) is said to print them;
    that page could not be looked up. The oracle of the error is the sum over all pairs below.
    """
    found = delong(*hanley())
    value, error = found.contrast([1])
    assert value == pytest.approx(0.8932, abs=5e-5)
    assert error == pytest.approx(0.0307, abs=5e-5)
    assert value - 1.959964 * error == pytest.approx(0.83295, abs=5e-6)
    assert value + 1.959964 * error == pytest.approx(0.95339, abs=5e-6)


def test_the_error_is_close_to_hanley_and_mcneils_closed_form():
    # Their formula supposes exponential scores; for binormal ones it is right within a few per cent.
    rng = np.random.default_rng(0)
    labels = np.arange(6000) % 2
    found = delong(labels, rng.normal(size=6000) + labels)
    a, m, n = found.aucs[0], 3000, 3000
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    closed = (a * (1 - a) + (m - 1) * (q1 - a**2) + (n - 1) * (q2 - a**2)) / (m * n)
    assert found.covariance[0, 0] == pytest.approx(closed, rel=0.08)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.booleans())
def test_the_covariance_equals_the_sum_over_all_pairs(seed, models, clustered):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 0, 1, 1], rng.integers(0, 2, 20)])
    scores = np.round(rng.normal(size=(models, 24)) + labels, 1 if seed % 2 else 0)  # ties
    patients = np.concatenate([[0, 1, 0, 1], rng.integers(0, 8, 20)]) if clustered else np.arange(24)
    found = delong(labels, scores, patients)
    aucs, covariance = brute_force(labels, scores, patients)
    np.testing.assert_allclose(found.aucs, aucs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.aucs, [roc_auc_score(labels, row) for row in scores], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance, rtol=0, atol=1e-12)


def test_one_radiograph_a_patient_is_the_case_of_independent_rows():
    labels, scores = hanley()
    patients = np.random.default_rng(0).permutation(len(labels)) * 7
    np.testing.assert_allclose(delong(labels, scores, patients).covariance, delong(labels, scores).covariance, 1e-12)


def test_copies_of_a_radiograph_in_the_same_patient_add_no_certainty():
    labels, scores = hanley()
    thrice = delong(np.repeat(labels, 3), np.repeat(scores, 3), np.repeat(np.arange(len(labels)), 3))
    np.testing.assert_allclose(thrice.covariance, delong(labels, scores).covariance, rtol=1e-12)
    assert delong(np.repeat(labels, 3), np.repeat(scores, 3)).covariance[0, 0] < 0.4 * thrice.covariance[0, 0]


def test_the_clustered_error_is_that_of_the_bootstrap():
    rng = np.random.default_rng(1)
    patients = rng.integers(0, 300, 900)
    labels = (rng.random(900) < 0.4).astype(int)
    scores = rng.normal(size=(2, 900)) + rng.normal(size=300)[patients] + labels
    _, error = delong(labels, scores, patients).contrast([1, -1])
    samples = weighted_aucs(labels, scores, patient_weights(patients, replicates=4000, seed=0))
    assert error == pytest.approx(np.std(samples[0] - samples[1]), rel=0.06)


def test_the_p_of_a_model_against_itself_is_one_and_of_a_sure_difference_zero():
    labels, scores = hanley()
    assert delong(labels, [scores, scores]).p([1, -1]) == 1
    perfect = labels.astype(float)
    assert delong(labels, [perfect, -perfect]).p([1, -1]) == 0
    assert delong(labels, np.zeros(len(labels))).contrast([1]) == (0.5, 0)  # ties everywhere


def test_under_the_null_p_is_uniform():
    rng = np.random.default_rng(2)
    labels = np.arange(100) % 2
    p = [delong(labels, rng.normal(size=(2, 100)) + labels).p([1, -1]) for _ in range(600)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.025)
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("labels", "patients", "message"),
    [
        ([1, 1, 1], None, r"all 3 labels are present"),
        ([1, 0, 0], None, "only one radiograph with the finding"),
        ([1, 1, 0, 0], [0, 0, 1, 2], "only one patient with the finding"),
        ([1, 1, 0, 0], [0, 1, 2, 2], "only one patient without the finding"),
        ([1, 1, 0, 0], [0, 1], "4 labels but patients of shape"),
    ],
)
def test_what_has_no_variance_is_an_error_that_says_why(labels, patients, message):
    with pytest.raises(CxrPairError, match=message):
        delong(labels, np.arange(len(labels)), patients)


def test_a_contrast_of_the_wrong_length_is_an_error():
    with pytest.raises(CxrPairError, match=r"1 AUCs but weights of shape \(2,\)"):
        delong(*hanley()).contrast([1, -1])
