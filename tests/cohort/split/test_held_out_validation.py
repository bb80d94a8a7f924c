"""Patients of the train side that are kept for validation, beside a test side that stays as it is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monai_cxrpair.cohort import Cohort, hold_out_validation, open_split, split_patients
from monai_cxrpair.cohort.split.make import make_split_file
from monai_cxrpair.cohort.split.near_duplicates import DIGITS, find_links
from monai_cxrpair.cohort.split.saved import write_split
from monai_cxrpair.errors import CxrPairError


def _cohort(patients: int = 300, *, shared: int = 0) -> Cohort:
    """Two radiographs of each patient; the first `shared` pairs of neighbours show the same picture."""
    table = pd.DataFrame({"patient_id": [f"p{row // 2}" for row in range(2 * patients)]}, dtype="str")
    table["image_id"] = table["path"] = table["study_id"] = [f"i{row}" for row in range(2 * patients)]
    if shared:
        pictures = [np.random.default_rng(row).bytes(DIGITS // 2).hex() for row in range(2 * patients)]
        for number in range(shared):
            pictures[4 * number] = pictures[4 * number + 2]
        table["perceptual_hash"] = pictures
    return Cohort(table, root=Path(), findings=[], source="table")


def test_about_the_share_that_was_asked_for_moves_and_the_test_side_stays() -> None:
    cohort = _cohort()
    before = split_patients(cohort, test_fraction=0.3)
    after = hold_out_validation(cohort, before, fraction=0.2, seed=0)
    assert after.test_patients == before.test_patients
    assert after.hash == before.hash
    assert set(after.train_patients) | set(after.validation_patients) == set(before.train_patients)
    assert len(after.validation_patients) / len(before.train_patients) == pytest.approx(0.2, abs=0.08)
    assert (after.validation_fraction, after.test_fraction, after.seed) == (0.2, 0.3, 0)
    assert len(after.validation_rows) == 2 * len(after.validation_patients)


def test_everybody_stays_on_their_side_in_a_part_of_the_cohort_and_in_one_that_grew() -> None:
    def sides(cohort: Cohort) -> dict[str, str]:
        split = hold_out_validation(cohort, split_patients(cohort, test_fraction=0.3), fraction=0.3, seed=5)
        return {p: name for name in ("train", "validation", "test") for p in getattr(split, f"{name}_patients")}

    small, large = sides(_cohort(100)), sides(_cohort(300))
    assert small.items() <= large.items()
    cohort = _cohort(100)
    whole = hold_out_validation(cohort, split_patients(cohort, test_fraction=0.3), fraction=0.3, seed=5)
    part = whole.within(cohort.take(np.arange(0, 120, 2)))
    assert set(part.validation_patients) <= set(whole.validation_patients)
    assert part.validation_fraction == 0.3


def test_patients_who_share_a_picture_stay_together() -> None:
    cohort = _cohort(80, shared=20)
    split = hold_out_validation(cohort, split_patients(cohort, test_fraction=0.3), fraction=0.4, seed=1)
    groups = find_links(cohort).groups
    sides = np.zeros(len(cohort), dtype=int)
    sides[split.validation_rows], sides[split.test_rows] = 1, 2
    assert len(np.unique(groups)) == 60
    for group in np.unique(groups):
        assert len(set(sides[groups == group])) == 1


def test_a_validation_side_of_a_split_file_stays_and_one_is_made_where_it_has_none(tmp_path: Path) -> None:
    cohort = _cohort(60)
    for name, validation in (("with", 10), ("without", 0)):
        sides = np.zeros(120, dtype=np.int64)
        sides[:20], sides[20 : 20 + 2 * validation] = 2, 1
        write_split(make_split_file(cohort, find_links(cohort), sides, method={}), tmp_path / name)
        split = open_split(cohort, split_file=tmp_path / name, test_fraction=0.3, seed=0)
        after = hold_out_validation(cohort, split, fraction=0.25, seed=0)
        assert (after is split) == bool(validation)
        assert after.test_patients == split.test_patients
        assert after.file_hash == split.file_hash
        assert len(after.validation_patients) >= 5
        assert after.validation_fraction == (0.0 if validation else 0.25)


def test_a_fraction_of_zero_changes_nothing_and_wrong_ones_are_named() -> None:
    cohort = _cohort(4)
    split = split_patients(cohort, test_fraction=0)
    assert hold_out_validation(cohort, split, fraction=0, seed=0) is split
    for wrong in (1, -0.1, "much", None):
        with pytest.raises(CxrPairError, match="validation_fraction is"):
            hold_out_validation(cohort, split, fraction=wrong, seed=0)  # type: ignore[arg-type]
    with pytest.raises(CxrPairError, match="none of the 4 train patients falls on the validation side"):
        hold_out_validation(cohort, split, fraction=1e-9, seed=0)
