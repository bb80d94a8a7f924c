"""The kNN classifier against scikit-learn's, and that nobody is their own neighbour."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.knn import knn_scores


def sample(seed=0, *, references=60, queries=25, features=8):
    rng = np.random.default_rng(seed)
    labels = (rng.random(references) < 0.4).astype(np.float64)
    points = rng.normal(size=(references, features)) * rng.uniform(0.1, 9, (references, 1))  # lengths do not matter
    points[:, 0] += labels
    return points.astype(np.float32), labels, rng.normal(size=(queries, features)).astype(np.float32)


def scikit(points, labels, asked, *, k, temperature):
    # scikit-learn hands over distances, 1 - s.
    weights = "uniform" if temperature is None else lambda distance: np.exp((1 - distance) / temperature)
    model = KNeighborsClassifier(n_neighbors=k, metric="cosine", algorithm="brute", weights=weights)
    return model.fit(points.astype(float), labels).predict_proba(asked.astype(float))[:, 1]


@pytest.mark.parametrize("temperature", [None, 0.07, 1.0])
@pytest.mark.parametrize("k", [1, 5, 20, 60])
def test_the_scores_are_those_of_scikit_learn(k, temperature):
    points, labels, asked = sample()
    ours = knn_scores(points, labels, asked, neighbours=k, temperature=temperature)
    np.testing.assert_allclose(ours, scikit(points, labels, asked, k=k, temperature=temperature), rtol=0, atol=1e-9)


def test_more_neighbours_than_references_are_all_references():
    points, labels, asked = sample(references=6)
    ours = knn_scores(points, labels, asked, neighbours=20)
    np.testing.assert_allclose(ours, scikit(points, labels, asked, k=6, temperature=0.07), rtol=0, atol=1e-9)


def test_a_tiny_temperature_leaves_the_nearest_and_does_not_overflow():
    points, labels, asked = sample()
    ours = knn_scores(points, labels, asked, temperature=1e-5)
    np.testing.assert_allclose(ours, scikit(points, labels, asked, k=1, temperature=None), rtol=0, atol=1e-9)


@given(seed=st.integers(0, 10_000), k=st.integers(1, 30), temperature=st.sampled_from([None, 0.07]))
def test_own_patients_are_left_out_as_if_they_were_not_there(seed, k, temperature):
    points, labels, asked = sample(seed, references=30, queries=6)
    rng = np.random.default_rng(seed)
    theirs, own = rng.integers(0, 8, 30), rng.integers(0, 8, 6)
    settings = {"neighbours": k, "temperature": temperature}
    ours = knn_scores(points, labels, asked, reference_patients=theirs, query_patients=own, **settings)
    for query in range(6):
        kept = theirs != own[query]
        alone = knn_scores(points[kept], labels[kept], asked[query : query + 1], **settings)
        assert ours[query] == pytest.approx(alone[0], abs=1e-9)


def test_the_references_as_queries_leave_each_patient_out():
    """One protocol of the evaluation: a copy of oneself decides nothing."""
    points, labels, _ = sample()
    alone = np.arange(len(points))
    nearest_itself = knn_scores(points, labels, points, neighbours=1)
    np.testing.assert_array_equal(nearest_itself, labels)
    others = knn_scores(points, labels, points, neighbours=1, reference_patients=alone, query_patients=alone)
    assert (others != labels).any()


def test_the_blocks_in_which_it_is_computed_change_nothing(monkeypatch):
    points, labels, asked = sample()
    whole = knn_scores(points, labels, asked)
    monkeypatch.setattr("monai_cxrpair.evaluation.knn._BLOCK", 130)
    np.testing.assert_allclose(knn_scores(points, labels, asked), whole, rtol=0, atol=1e-12)


def test_mistakes_are_named():
    points, labels, asked = sample()
    same = {"reference_patients": np.zeros(60, int), "query_patients": np.zeros(25, int)}
    for match, call in (
        ("neighbours is 0", lambda: knn_scores(points, labels, asked, neighbours=0)),
        ("temperature is 0", lambda: knn_scores(points, labels, asked, temperature=0)),
        (r"labels \(59,\)", lambda: knn_scores(points, labels[1:], asked)),
        ("give both or neither", lambda: knn_scores(points, labels, asked, query_patients=np.zeros(25, int))),
        ("no reference of another patient", lambda: knn_scores(points, labels, asked, **same)),
        (
            "1 of 25 queries are not finite",
            lambda: knn_scores(points, labels, np.where(asked == asked[3, 0], np.nan, asked)),
        ),
        ("60 of 60 references", lambda: knn_scores(points * 0, labels, asked)),
    ):
        with pytest.raises(CxrPairError, match=match):
            call()
