import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.proportion import proportion


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_independent_rows_get_scipys_wilson_interval(hits):
    expected = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    for patients in (None, np.arange(len(hits))):
        found = proportion(hits, patients)
        assert found["value"] == sum(hits) / len(hits)
        assert found["ci95"] == pytest.approx([expected.low, expected.high], abs=1e-9)


def test_copies_of_a_row_in_the_same_patient_add_no_certainty():
    hits, patients = np.arange(30) % 3 == 0, np.arange(30)
    once = proportion(hits, patients)["ci95"]
    assert proportion(np.repeat(hits, 4), np.repeat(patients, 4))["ci95"] == pytest.approx(once, abs=1e-12)
    every = np.ones(30, bool)
    assert proportion(np.repeat(every, 4), np.repeat(patients, 4))["ci95"] == pytest.approx(
        proportion(every)["ci95"], abs=1e-12
    )


def test_patients_who_contradict_themselves_count_for_no_more_than_their_rows():
    hits, patients = np.arange(40) % 2 == 0, np.arange(40) // 2
    assert proportion(hits, patients)["ci95"] == pytest.approx(proportion(hits)["ci95"], abs=1e-12)


def test_the_interval_covers_the_truth_where_the_rows_of_a_patient_are_alike():
    rng = np.random.default_rng(0)
    covered = plain = 0
    for _ in range(1000):
        patients = np.repeat(np.arange(80), rng.integers(1, 6, 80))
        hits = rng.random(len(patients)) < rng.beta(4.25, 0.75, 80)[patients]  # mean 0.85
        low, high = proportion(hits, patients)["ci95"]
        covered += low <= 0.85 <= high
        low, high = proportion(hits)["ci95"]
        plain += low <= 0.85 <= high
    assert 0.93 <= covered / 1000 <= 0.97
    assert plain / 1000 < 0.92


def test_no_row_and_one_patient_have_no_interval():
    assert proportion([]) == {"value": None, "ci95": None, "n": 0}
    assert proportion([1, 0], [7, 7]) == {"value": 0.5, "ci95": None, "n": 2}


def test_hits_that_are_no_booleans_are_an_error():
    with pytest.raises(CxrPairError, match="hits must be 0 or 1"):
        proportion([0.5])
