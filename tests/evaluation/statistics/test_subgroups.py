import numpy as np
import pandas as pd
import pytest

from monai_cxrpair.evaluation.statistics.subgroups import MIN_PATIENTS, standard_subgroups, too_few


def table(**changes):
    columns = {
        "sex": ["F", "M", "", "O"],
        "age": [39.9, 40, 80, np.nan],
        "view_position": ["AP", "PA", "LL", "AP"],
        "laterality": ["frontal", "frontal", "lateral", "unknown"],
        "support_devices": [1, 0, -1, np.nan],
    }
    return pd.DataFrame(columns | changes)


def test_each_radiograph_is_in_the_groups_of_its_columns():
    groups = {name: list(np.flatnonzero(mask)) for name, mask in standard_subgroups(table()).items()}
    assert groups == {
        "sex: female": [0],
        "sex: male": [1],
        "age: under 40": [0],
        "age: 40 to 59": [1],
        "age: 80 and older": [2],
        "view: AP": [0, 3],
        "view: PA": [1],
        "view: lateral": [2],
        "devices: seen": [0],
        "devices: none mentioned": [1, 3],
    }


def test_a_kind_with_one_group_and_a_column_that_is_absent_are_left_out():
    lone = table(sex=["F"] * 4, age=[50.0] * 4, laterality=["frontal"] * 4, view_position=["PA"] * 4)
    assert standard_subgroups(lone.drop(columns="support_devices")) == {}


def test_no_radiograph_is_in_two_groups_of_a_kind():
    rng = np.random.default_rng(0)
    many = pd.DataFrame(
        {
            "sex": rng.choice(["F", "M", "O", ""], 300),
            "age": rng.uniform(0, 110, 300),
            "view_position": rng.choice(["AP", "PA", "LL", ""], 300),
            "laterality": rng.choice(["frontal", "lateral", "unknown"], 300),
        }
    )
    kinds = {}
    for name, mask in standard_subgroups(many).items():
        kinds.setdefault(name.split(":")[0], []).append(mask)
    assert set(kinds) == {"sex", "age", "view"}
    assert all(np.sum(masks, axis=0).max() == 1 for masks in kinds.values())
    assert np.sum(kinds["age"], axis=0).min() == 1


@pytest.mark.parametrize(
    ("sick", "well", "reason"),
    [
        (0, 0, "no labelled test radiograph"),
        (3, 0, "all 3 labelled test radiographs are with the finding"),
        (0, 3, "are without the finding"),
        (MIN_PATIENTS - 1, 50, "too few: 9 patients with and 50 without the finding, at least 10 of each"),
        (50, MIN_PATIENTS - 1, "too few: 50 patients with and 9 without"),
    ],
)
def test_too_small_a_group_says_why_it_has_no_number(sick, well, reason):
    assert reason in too_few(np.repeat([True, False], [sick, well]), np.arange(sick + well))


def test_it_is_patients_that_are_counted():
    present = np.repeat([True, False], [40, 40])
    assert too_few(present, np.arange(80)) is None
    assert "too few: 4 patients with" in too_few(present, np.arange(80) // 10)
