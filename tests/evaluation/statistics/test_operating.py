import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_score, recall_score, roc_curve

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.bootstrap import patient_weights
from monai_cxrpair.evaluation.statistics.operating import (
    at_threshold,
    sensitivity_threshold,
    weighted_shares,
    youden_threshold,
)


def made(seed, rows=80):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0, 1], rng.integers(0, 2, rows - 2)])
    return labels, np.round(rng.normal(size=rows) + labels, 1 + seed % 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 1))
def test_the_threshold_is_the_highest_that_finds_enough(seed, sensitivity):
    labels, scores = made(seed)
    threshold = sensitivity_threshold(labels, scores, sensitivity=sensitivity)
    assert (scores >= threshold)[labels == 1].mean() >= sensitivity - 1e-9
    higher = np.unique(scores[scores >= threshold])[1:]
    assert all((scores >= t)[labels == 1].mean() < sensitivity for t in higher)


def test_nineteen_of_twenty_are_ninety_five_per_cent():
    labels = np.repeat([1, 0], [20, 5])
    threshold = sensitivity_threshold(labels, np.append(np.arange(20.0, 0, -1), np.zeros(5)))
    assert threshold == 1.5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_no_threshold_has_a_higher_youden_index(seed):
    labels, scores = made(seed)
    false_rate, true_rate, _ = roc_curve(labels, scores)
    called = scores >= youden_threshold(labels, scores)
    index = called[labels == 1].mean() - called[labels == 0].mean()
    # "nothing is positive" is left out: with a useless model it would be the best
    assert index == pytest.approx(max(np.max((true_rate - false_rate)[1:]), 0), abs=1e-12)


def test_the_shares_equal_scikit_learn_and_their_intervals_scipy():
    labels, scores = made(3)
    found = at_threshold(labels, scores, 0.6)
    called = scores >= 0.6
    (tn, fp), (fn, tp) = confusion_matrix(labels, called)
    assert found["confusion"] == {"tp": tp, "fp": fp, "fn": fn, "tn": tn}
    assert found["sensitivity"]["value"] == pytest.approx(recall_score(labels, called), abs=1e-12)
    assert found["specificity"]["value"] == pytest.approx(recall_score(labels, called, pos_label=0), abs=1e-12)
    assert found["ppv"]["value"] == pytest.approx(precision_score(labels, called), abs=1e-12)
    assert found["npv"]["value"] == pytest.approx(precision_score(labels, called, pos_label=0), abs=1e-12)
    for name, hits, rows in (("sensitivity", tp, tp + fn), ("specificity", tn, tn + fp), ("ppv", tp, tp + fp)):
        low, high = binomtest(hits, rows).proportion_ci(method="wilson")
        assert found[name]["ci95"] == pytest.approx([low, high], abs=1e-9)


def test_rows_of_the_same_patient_widen_the_interval():
    labels, scores = made(4)
    alone = at_threshold(labels, scores, 0.5)["sensitivity"]["ci95"]
    thrice = at_threshold(np.tile(labels, 3), np.tile(scores, 3), 0.5, np.tile(np.arange(80), 3))
    assert thrice["sensitivity"]["ci95"] == pytest.approx(alone, abs=1e-12)


def test_weighted_shares_are_those_of_the_repeated_rows():
    labels, scores = made(5)
    called = scores >= 0.5
    weights = patient_weights(np.arange(80) // 2, replicates=20, seed=0)
    found = weighted_shares(labels == 1, called, weights)
    for number, row in enumerate(weights):
        oracle = at_threshold(np.repeat(labels, row), np.repeat(scores, row), 0.5)
        for name, values in found.items():
            assert values[number] == pytest.approx(oracle[name]["value"], abs=1e-12)


def test_a_share_of_nothing_is_none_or_nan():
    found = at_threshold([0, 1], [0.1, 0.2], 0.9)
    assert found["ppv"] == {"value": None, "ci95": None, "n": 0}
    present, called = np.array([True, False]), np.array([False, False])
    assert np.isnan(weighted_shares(present, called, np.ones((1, 2), np.int16))["ppv"]).all()


def test_one_class_has_no_threshold():
    with pytest.raises(CxrPairError, match="there is no threshold"):
        youden_threshold([1, 1], [0.1, 0.2])
    with pytest.raises(CxrPairError, match=r"above 0 and up to 1, got 1\.5"):
        sensitivity_threshold([0, 1], [0.1, 0.2], sensitivity=1.5)


def test_scores_that_are_all_the_same_call_everybody():
    assert sensitivity_threshold([0, 1, 1], [0.3, 0.3, 0.3]) == 0.3
