import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.protocols.labels import apply_policy, certain
from monai_cxrpair.evaluation.protocols.units import make_units


@given(st.integers(0, 10_000), st.sampled_from(["study_max", "study_mean"]), st.booleans())
def test_a_study_has_the_score_that_pandas_groups_give(seed, aggregate, part):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    patients, studies = rng.integers(0, 4, n), rng.integers(0, 3, n)
    labels = rng.integers(0, 2, n).astype(float)
    rows = rng.permutation(n)[: int(rng.integers(1, n + 1))]
    units = make_units(rows, labels, patients, studies, aggregate=aggregate)
    scores = rng.random((2, n))
    mask = rng.random(n) < 0.5 if part else np.ones(n, dtype=bool)

    pooled = units.pool(scores[:, units.rows], mask[units.rows])

    table = pd.DataFrame({"patient": patients, "study": studies, "label": labels, "score": scores[1], "in": mask})
    groups = table.iloc[rows].groupby(["patient", "study"])  # sorted by patient, then study
    np.testing.assert_array_equal(units.present, groups["label"].max() == 1)
    np.testing.assert_array_equal(units.patients, [patient for patient, _ in groups.groups])
    assert units.disagreeing == (groups["label"].nunique() > 1).sum()
    inside = units.within(mask[units.rows])
    np.testing.assert_array_equal(inside, groups["in"].any())
    word = "max" if aggregate == "study_max" else "mean"
    expected = table.iloc[rows].assign(score=lambda t: t["score"].where(t["in"]))
    expected = expected.groupby(["patient", "study"])["score"].agg(word).to_numpy()
    np.testing.assert_allclose(pooled[1][inside], expected[inside], atol=1e-12)


def test_per_image_nothing_is_grouped_and_the_order_stays():
    rows = np.array([3, 0, 2])
    units = make_units(rows, np.array([1.0, 0, 0, 1]), np.zeros(4, int), np.zeros(4, int), aggregate="image")
    np.testing.assert_array_equal(units.rows, rows)
    np.testing.assert_array_equal(units.present, [True, True, False])
    np.testing.assert_array_equal(units.pool(np.array([0.1, 0.2, 0.3])), [0.1, 0.2, 0.3])
    with pytest.raises(CxrPairError, match="aggregate is 'study': use image, study_max, study_mean"):
        make_units(rows, np.zeros(4), np.zeros(4, int), np.zeros(4, int), aggregate="study")


def test_studies_of_the_same_number_belong_to_their_patients():
    rows = np.arange(4)
    units = make_units(rows, np.array([1.0, 0, 0, 0]), np.array([0, 1, 0, 1]), np.full(4, 7), aggregate="study_max")
    np.testing.assert_array_equal(units.present, [True, False])
    assert units.disagreeing == 1


@pytest.mark.parametrize(
    ("uncertain", "blank", "expected"),
    [
        ("ignore", "ignore", [1, 0, -1, np.nan]),
        ("zeros", "ignore", [1, 0, 0, np.nan]),
        ("ones", "zeros", [1, 0, 1, 0]),
        ("ignore", "zeros", [1, 0, -1, 0]),
    ],
)
def test_a_policy_changes_only_what_it_names(uncertain, blank, expected):
    found = apply_policy([1, 0, -1, np.nan], uncertain=uncertain, blank=blank)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(certain(found), np.isin(expected, (0, 1)))


def test_an_unknown_policy_is_named():
    with pytest.raises(CxrPairError, match="uncertain is 'positive': use ignore or zeros or ones"):
        apply_policy([], uncertain="positive")
    with pytest.raises(CxrPairError, match="blank is 'ones': use ignore or zeros"):
        apply_policy([], blank="ones")
