"""Which patients are kept for validation and test: the split as an object, and the one that needs no file.

Patients who share a picture (`near_duplicates`) are one patient as far as a split is concerned.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.split.draws import SavedDraws
from monai_cxrpair.cohort.split.near_duplicates import find_links
from monai_cxrpair.errors import CxrPairError

SIDES = ("train", "validation", "test")
_NO_ROWS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Row numbers of the sides of a split, and the proof that no patient is on two of them.

    Attributes:
        train_rows: int64 (n,), row numbers of the cohort.
        test_rows: int64 (m,).
        validation_rows: int64 (v,), empty where there is no such side.
        test_fraction: The fraction that was asked for; None for a split file.
        seed: The seed that was asked for; None for a split file.
        train_patients: Patient ids of the train side; not shown by `repr`.
        test_patients: Patient ids of the test side; not shown by `repr`.
        validation_patients: Patient ids of the validation side; not shown by `repr`.
        left_out: Image ids of these patients that are on no side all the same; not shown by `repr`.
        file_hash: Hash of the split file; None where there was none.
        near_duplicates: `Links.digest` of the cohort that was split.
        validation_fraction: The share of the train patients that `hold_out_validation` moved to the validation side.
        label_draws: The draws that the split file holds.
        hash: SHA-256 of the sorted patient ids of the test side.

    Raises:
        CxrPairError: A patient or a row is on two sides.
    """

    train_rows: npt.NDArray[np.int64]
    test_rows: npt.NDArray[np.int64]
    validation_rows: npt.NDArray[np.int64] = field(default_factory=_NO_ROWS.copy)
    test_fraction: float | None
    seed: int | None
    train_patients: Sequence[str] = field(repr=False)
    test_patients: Sequence[str] = field(repr=False)
    validation_patients: Sequence[str] = field(default=(), repr=False)
    left_out: Sequence[str] = field(default=(), repr=False)
    file_hash: str | None = None
    near_duplicates: str = ""
    validation_fraction: float = 0.0
    label_draws: Sequence[SavedDraws] = field(default=(), repr=False)
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        patients = [*set(self.train_patients), *set(self.validation_patients), *set(self.test_patients)]
        if len(set(patients)) < len(patients):
            raise CxrPairError(f"the split has {len(patients) - len(set(patients))} patients on both sides")
        rows = np.concatenate([self.train_rows, self.validation_rows, self.test_rows])
        if len(np.unique(rows)) < len(rows):
            raise CxrPairError("the split has a radiograph on both sides")
        listed = "\n".join(sorted(set(self.test_patients)))
        object.__setattr__(self, "hash", hashlib.sha256(listed.encode()).hexdigest())

    def describe(self) -> str:
        """Say in one line what the split is, without naming a patient."""
        asked = (
            f"asked for {self.test_fraction:g}, seed {self.seed}"
            if self.test_fraction is not None
            else f"split file {(self.file_hash or '')[:12]}"
        )
        validation = f"validation {len(self.validation_rows)} of {len(self.validation_patients)}, "
        return (
            f"train {len(self.train_rows)} radiographs of {len(set(self.train_patients))} patients, "
            f"{validation if len(self.validation_rows) else ''}"
            f"test {len(self.test_rows)} of {len(set(self.test_patients))} ({asked}, hash {self.hash[:12]})"
        )

    def within(self, cohort: Cohort) -> "Split":
        """Return the same split of a part of the cohort: everybody stays on their side.

        Raises:
            CxrPairError: A side becomes empty, or the cohort has a patient that the split does not know.
        """
        sides = {side: tuple(getattr(self, f"{side}_patients")) for side in SIDES}
        split = self.with_sides(cohort, sides, validation_fraction=self.validation_fraction)
        for side in SIDES:
            if len(getattr(self, f"{side}_rows")) and not len(getattr(split, f"{side}_rows")):
                patients = cohort.table["patient_id"].nunique()
                raise CxrPairError(
                    f"none of the {patients} patients falls on the {side} side: use another subset or another split"
                )
        return split

    def with_sides(self, cohort: Cohort, sides: dict[str, tuple[str, ...]], *, validation_fraction: float) -> "Split":
        """Return the split of a cohort with the patients of these sides; where it came from stays what it is."""
        return split_of(
            cohort,
            sides,
            left_out=self.left_out,
            test_fraction=self.test_fraction,
            seed=self.seed,
            file_hash=self.file_hash,
            near_duplicates=self.near_duplicates,
            validation_fraction=validation_fraction,
            label_draws=self.label_draws,
        )


def split_of(
    cohort: Cohort,
    sides: dict[str, tuple[str, ...]],
    *,
    left_out: Sequence[str] = (),
    test_fraction: float | None = None,
    seed: int | None = None,
    file_hash: str | None = None,
    near_duplicates: str = "",
    validation_fraction: float = 0.0,
    label_draws: Sequence[SavedDraws] = (),
) -> Split:
    """Make the split of a cohort from the patients of each side.

    Args:
        cohort: The radiographs.
        sides: `train`, `validation`, `test` -> patient ids; those that the cohort does not have are dropped.
        left_out: Image ids that are on no side, whoever's they are. Patients of no side are on none either.
        test_fraction: See `Split`, as for the others.
        seed: See `Split`.
        file_hash: See `Split`.
        near_duplicates: See `Split`.
        validation_fraction: See `Split`.
        label_draws: See `Split`.

    Returns:
        The split.
    """
    table = cohort.table
    codes, patients = pd.factorize(table["patient_id"])
    # The code of a side for each patient, then for each row.
    side_of = pd.Series(-1, index=patients, dtype="int64")
    present: dict[str, tuple[str, ...]] = {}
    for number, side in enumerate(SIDES):
        index = pd.Index(sides.get(side, ()), dtype="object")
        here = index[index.isin(patients)]
        side_of.loc[here] = number
        present[side] = tuple(sorted(here))
    row_side = side_of.to_numpy()[codes]
    if left_out:
        row_side = np.where(table["image_id"].isin(set(left_out)).to_numpy(), -1, row_side)
    return Split(
        train_rows=np.flatnonzero(row_side == 0).astype(np.int64),
        validation_rows=np.flatnonzero(row_side == 1).astype(np.int64),
        test_rows=np.flatnonzero(row_side == 2).astype(np.int64),
        test_fraction=test_fraction,
        seed=seed,
        train_patients=present["train"],
        validation_patients=present["validation"],
        test_patients=present["test"],
        left_out=left_out,
        file_hash=file_hash,
        near_duplicates=near_duplicates,
        validation_fraction=validation_fraction,
        label_draws=label_draws,
    )


def share_of(patient: str, seed: int) -> float:
    """Map a patient to a number in [0, 1) that depends on nothing but the patient and the seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{patient}".encode()).digest()[:8], "big") / 2.0**64


def split_patients(cohort: Cohort, *, test_fraction: float, seed: int = 0) -> Split:
    """Split a cohort by patient.

    The side of a patient follows from a hash of the seed and the patient id alone, never from labels, row order or
    which other patients there are: a filtered or a grown cohort keeps everybody on their side. Where the cohort has
    perceptual hashes, patients who share a picture follow the one of them whose id sorts first.

    Args:
        cohort: The radiographs. Split the whole cohort and take `within` of a part: a part may lack the picture that
            links two patients.
        test_fraction: Expected fraction of the patients on the test side, at least 0 and below 1.
        seed: Another seed gives another split.

    Returns:
        The split.

    Raises:
        CxrPairError: The fraction is out of range, or a side that was asked for got no patient.
    """
    if not 0 <= test_fraction < 1:
        raise CxrPairError(f"test_fraction must be at least 0 and below 1, not {test_fraction}")
    links = find_links(cohort)
    patients = pd.DataFrame({"patient": cohort.table["patient_id"], "group": links.groups}).drop_duplicates()
    leaders = patients.groupby("group")["patient"].min()
    is_test = {group: share_of(f"{leader}", seed) < test_fraction for group, leader in leaders.items()}
    on_test = patients["group"].map(is_test).astype(bool)
    split = split_of(
        cohort,
        {"train": tuple(patients["patient"][~on_test]), "test": tuple(patients["patient"][on_test])},
        test_fraction=test_fraction,
        seed=seed,
        near_duplicates=links.digest,
    )
    if not len(split.train_rows) or (test_fraction > 0 and not len(split.test_rows)):
        empty = "test" if len(split.train_rows) else "train"
        raise CxrPairError(
            f"none of the {len(patients)} patients falls on the {empty} side with test_fraction {test_fraction:g} and "
            f"seed {seed}: use another seed or fraction"
        )
    return split
