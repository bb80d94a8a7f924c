from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from monai_cxrpair.cohort import Cohort, Split, split_patients
from monai_cxrpair.errors import CxrPairError


def _cohort(patients: list[str]) -> Cohort:
    table = pd.DataFrame({"patient_id": pd.Series(patients, dtype="str")})
    table["image_id"] = [f"i{number}" for number in range(len(table))]
    table["path"] = table["image_id"]
    table["study_id"] = table["patient_id"] + "/1"
    return Cohort(table, root=Path(), findings=[], source="table")


MANY = [f"patient{number}" for number in range(400)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(MANY), min_size=1, max_size=60), st.floats(0.1, 0.9), st.integers(0, 99))
def test_no_patient_is_on_both_sides_and_nobody_is_lost(patients: list[str], fraction: float, seed: int) -> None:
    cohort = _cohort(patients)
    try:
        split = split_patients(cohort, test_fraction=fraction, seed=seed)
    except CxrPairError as error:
        assume("falls on the" not in str(error))
        raise
    ids = cohort.table["patient_id"]
    assert not set(ids[split.train_rows]) & set(ids[split.test_rows])
    assert sorted([*split.train_rows, *split.test_rows]) == list(range(len(cohort)))


@settings(max_examples=25, deadline=None)
@given(st.permutations(MANY[:40]), st.integers(20, 40))
def test_the_side_of_a_patient_depends_on_nobody_else(order: list[str], kept: int) -> None:
    whole = split_patients(_cohort(MANY[:40]), test_fraction=0.5, seed=3)
    part = split_patients(_cohort(order[:kept]), test_fraction=0.5, seed=3)
    assert set(part.test_patients) == set(whole.test_patients) & set(order[:kept])


def test_the_fraction_is_met_and_seeds_differ() -> None:
    cohort = _cohort([f"p{number}" for number in range(5000)])
    splits = [split_patients(cohort, test_fraction=0.2, seed=seed) for seed in range(3)]
    assert all(abs(len(split.test_rows) / 5000 - 0.2) < 0.02 for split in splits)
    assert len({split.hash for split in splits}) == 3
    assert split_patients(cohort, test_fraction=0.2).hash == splits[0].hash


def test_an_overlap_is_an_error() -> None:
    rows = np.array([0], dtype=np.int64)
    arguments = {"test_fraction": 0.5, "seed": 0}
    with pytest.raises(CxrPairError, match="1 patients on both sides"):
        Split(train_rows=rows, test_rows=rows + 1, train_patients=["p"], test_patients=["p"], **arguments)
    with pytest.raises(CxrPairError, match="radiograph on both sides"):
        Split(train_rows=rows, test_rows=rows, train_patients=["p"], test_patients=["q"], **arguments)


def test_a_fraction_out_of_range_or_an_empty_side_is_an_error() -> None:
    with pytest.raises(CxrPairError, match=r"not 1\.5"):
        split_patients(_cohort(["p"]), test_fraction=1.5)
    with pytest.raises(CxrPairError, match="another seed or fraction"):
        split_patients(_cohort(["p"]), test_fraction=0.5)
    assert len(split_patients(_cohort(["p"]), test_fraction=0).test_rows) == 0


def test_the_description_is_one_line_without_patient_ids() -> None:
    split = split_patients(_cohort(MANY), test_fraction=0.3)
    assert "\n" not in split.describe()
    assert "patient1" not in split.describe() + repr(split)
    assert split.hash[:12] in split.describe()
