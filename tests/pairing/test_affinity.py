"""Affinities: one function for numpy and torch, its kernels, its codes."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import Affinity, AffinityTable, metadata_codes
from monai_cxrpair.pairing.codes import CODES

TABLE = AffinityTable(days=((0, 0.9), (7, 0.5), (30, 0.2)), studies=((0, 0.8), (2, 0.3)))
RULES = [
    Affinity(kernel="step", cutoff_days=10, cutoff_studies=2, other_laterality=0.5, other_view=0.75),
    Affinity(kernel="exponential", half_life_days=9, half_life_studies=1.5, other_laterality=0.8, threshold=0.3),
    Affinity(kernel="table", table=TABLE, other_view=0.25, threshold=0.05),
]


def codes(**values):
    """One radiograph: patient 0, study 0, no date, first study, nothing else known."""
    known = {"patient": 0, "study": 0, "order": 0, **values}
    return np.array([known.get(name, -1) for name in CODES])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kernel)
@given(seed=st.integers(0, 2**32))
def test_numpy_and_torch_give_the_same(rule, seed):
    rng = np.random.default_rng(seed)
    one, other = rng.integers(-1, 3, (2, 50, len(CODES)))
    one[:, 2], other[:, 2] = rng.integers(-1, 60, (2, 50))
    by_numpy, by_torch = rule(one, other), rule(torch.from_numpy(one), torch.from_numpy(other))
    assert by_torch.dtype == torch.float64
    assert by_numpy.dtype == np.float64
    np.testing.assert_allclose(by_torch.numpy(), by_numpy, rtol=1e-14, atol=0)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kernel)
@given(seed=st.integers(0, 2**32))
def test_affinity_is_symmetric_1_within_a_study_0_between_patients_and_never_between_0_and_the_threshold(rule, seed):
    rng = np.random.default_rng(seed)
    one, other = rng.integers(-1, 3, (2, 100, len(CODES)))
    one[:, :2], other[:, :2] = np.abs(one[:, :2]), np.abs(other[:, :2])
    value = rule(one, other)
    np.testing.assert_array_equal(value, rule(other, one))
    same_patient, same_study = one[:, 0] == other[:, 0], one[:, 1] == other[:, 1]
    assert (value[~same_patient] == 0).all()
    assert (value[same_patient & same_study] == 1).all()
    assert ((value == 0) | ((value >= rule.threshold) & (value <= 1))).all()


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"study": 0, "order": 0, "laterality": 1}, 1.0),
        ({"patient": 1, "study": 1}, 0.0),
        ({"study": 1, "order": 1}, 0.5),
        ({"study": 1, "order": 2}, 0.25),
        ({"study": 1, "order": 4}, 0.0),  # 1/16 is below the threshold
        ({"study": 1, "order": 4, "day": 30}, 0.0),  # the query has no date: studies count
        ({"study": 1, "order": 1, "laterality": 1}, 0.5),  # the query's laterality is not known
    ],
)
def test_without_dates_the_half_life_counts_studies(other, expected):
    rule = Affinity(kernel="exponential", half_life_studies=1, other_laterality=0.8, threshold=0.1)
    assert rule(codes(), codes(**other)) == pytest.approx(expected)


def test_with_dates_the_half_life_counts_days_and_views_have_factors():
    rule = Affinity(kernel="exponential", half_life_days=30, other_laterality=0.8, other_view=0.9, threshold=0.01)
    x = codes(day=100, laterality=0, view_position=0)
    for day, view, expected in [
        (100, {"laterality": 0, "view_position": 0}, 1.0),
        (130, {"laterality": 0, "view_position": 0}, 0.5),
        (40, {"laterality": 0, "view_position": 1}, 0.25 * 0.9),
        (40, {"laterality": 1, "view_position": 2}, 0.25 * 0.8),  # not both factors
        (40, {"laterality": -1, "view_position": -1}, 0.25),
    ]:
        assert rule(x, codes(study=1, order=1, day=day, **view)) == pytest.approx(expected)


def test_a_step_ends_after_its_cut_off_and_a_table_has_the_value_of_its_bin():
    step = Affinity(kernel="step", cutoff_days=7)
    table = Affinity(kernel="table", table=TABLE, threshold=0.01)
    for day, by_step, by_table in [(0, 1, 0.9), (6, 1, 0.9), (7, 1, 0.5), (8, 0, 0.5), (30, 0, 0.2), (9999, 0, 0.2)]:
        other = codes(study=1, order=1, day=day)
        assert step(codes(day=0), other) == by_step
        assert table(codes(day=0), other) == by_table
    assert table(codes(), codes(study=1, order=1)) == 0.8
    assert table(codes(), codes(study=1, order=5)) == 0.3


def test_codes_broadcast():
    rule = RULES[0]
    keys = np.stack([[codes(study=i + j, order=i + j) for i in range(3)] for j in range(2)])
    assert rule(codes()[None, None], keys).shape == (2, 3)


@pytest.fixture
def cohort(tmp_path):
    """Patient a with three studies, b with one; a patient `1` of each, so that ids alone could be mixed up."""
    rows = [
        ("a", "s1", "2020-01-01 23:50", "frontal", "PA", 9.9, "F"),
        ("a", "s1", "2020-01-01 23:58", "lateral", "LL", 9.9, "F"),
        ("a", "s2", "2020-01-02 00:05", "frontal", "AP", 10.0, "F"),
        ("a", "s3", None, "unknown", "", 10.0, "F"),
        ("b", "s4", "1950-06-01", "frontal", "PA", np.nan, ""),
    ]
    table = pd.DataFrame(
        rows, columns=["patient_id", "study_id", "study_datetime", "laterality", "view_position", "age", "sex"]
    )
    table["study_datetime"] = pd.to_datetime(table["study_datetime"], format="mixed")
    table["image_id"] = table["path"] = [f"i{i}" for i in range(len(table))]
    return Cohort(table, root=tmp_path, findings=[], source="test")


def test_codes_are_what_the_table_says_and_days_count_from_the_patients_first_study(cohort):
    out = metadata_codes(cohort)
    assert out.dtype == np.int64
    by_name = {name: out[:, i].tolist() for i, name in enumerate(CODES)}
    assert by_name["patient"] == [0, 0, 0, 0, 1]
    assert by_name["study"] == [0, 0, 1, 2, 3]
    assert by_name["day"] == [0, 0, 1, -1, 0]
    assert by_name["order"] == cohort.table["study_order"].tolist()
    assert by_name["laterality"] == [0, 1, 0, -1, 0]
    assert len(set(by_name["view_position"][:3])) == 3
    assert by_name["view_position"][3] == -1
    assert by_name["age_group"][0] != by_name["age_group"][2]
    assert by_name["age_group"][4] == by_name["sex"][4] == -1


def test_no_date_can_be_read_from_the_codes(cohort):
    table = cohort.table
    table["study_datetime"] += pd.Timedelta(days=4321)
    shifted = Cohort(table, root=cohort.root, findings=[], source="test")
    np.testing.assert_array_equal(metadata_codes(shifted), metadata_codes(cohort))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "affinity#kernel is not set"),
        ({"kernel": "linear"}, "affinity#kernel is 'linear': use step, exponential or table"),
        ({"kernel": "exponential", "half_life_days": 0}, "affinity#half_life_days is 0: use a number above 0"),
        ({"kernel": "exponential", "half_life_studies": "2"}, "affinity#half_life_studies is '2'"),
        ({"kernel": "step", "half_life_days": 3}, "affinity#half_life_days belongs to kernel exponential, not step"),
        ({"kernel": "step", "cutoff_days": -1}, "affinity#cutoff_days is -1"),
        ({"kernel": "step", "threshold": 0}, "affinity#threshold is 0"),
        ({"kernel": "step", "other_laterality": 1.2}, "affinity#other_laterality is 1.2"),
        ({"kernel": "step", "other_view": True}, "affinity#other_view is True"),
        ({"kernel": "step", "in_queue": 1}, "affinity#in_queue is 1"),
        ({"kernel": "step", "half_live": 1}, "affinity#half_live is not a setting .* there are kernel, cutoff_days"),
        ({"kernel": "table"}, "affinity#table is not set"),
        ({"kernel": "table", "table": "nowhere.json"}, "nowhere.json: cannot be read"),
        ({"kernel": "table", "table": {"days": [[0, 1]]}}, "affinity#table: a table has `days` and `studies`"),
        ({"kernel": "table", "table": {"days": [[1, 1]], "studies": [[0, 1]]}}, "affinity#table#days: .* grow from 0"),
        ({"kernel": "table", "table": {"days": [[0, 1]], "studies": [[0, 2]]}}, "affinity#table#studies: .* outside"),
        ("exponential", "affinity is 'exponential'"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(settings, named):
    with pytest.raises(CxrPairError, match=named) as caught:
        Affinity.from_config(settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kernel)
def test_what_the_card_holds_can_be_read_back(rule):
    assert Affinity.from_config(json.loads(json.dumps(rule.as_dict()))) == rule
    assert Affinity.from_config(None) is None


def test_a_table_file_can_be_read_back(tmp_path):
    TABLE.write(tmp_path / "table.json")
    assert Affinity.from_config({"kernel": "table", "table": str(tmp_path / "table.json")}).table == TABLE
