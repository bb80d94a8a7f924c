"""Which patients are kept for the test: decided for each patient alone, so that no change elsewhere moves anybody."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.errors import CxrPairError


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Row numbers of the two sides of a split, and the proof that no patient is on both.

    Attributes:
        train_rows: int64 (n,), row numbers of the cohort.
        test_rows: int64 (m,).
        test_fraction: The fraction that was asked for.
        seed: The seed that was asked for.
        train_patients: Patient ids of the train side; not shown by `repr`.
        test_patients: Patient ids of the test side; not shown by `repr`.
        hash: SHA-256 of the sorted patient ids of the test side.

    Raises:
        CxrPairError: A patient or a row is on both sides.
    """

    train_rows: npt.NDArray[np.int64]
    test_rows: npt.NDArray[np.int64]
    test_fraction: float
    seed: int
    train_patients: Sequence[str] = field(repr=False)
    test_patients: Sequence[str] = field(repr=False)
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        both = set(self.train_patients) & set(self.test_patients)
        if both:
            raise CxrPairError(f"the split has {len(both)} patients on both sides")
        if np.intersect1d(self.train_rows, self.test_rows).size:
            raise CxrPairError("the split has a radiograph on both sides")
        listed = "\n".join(sorted(set(self.test_patients)))
        object.__setattr__(self, "hash", hashlib.sha256(listed.encode()).hexdigest())

    def describe(self) -> str:
        """Say in one line what the split is, without naming a patient."""
        return (
            f"train {len(self.train_rows)} radiographs of {len(set(self.train_patients))} patients, "
            f"test {len(self.test_rows)} of {len(set(self.test_patients))} "
            f"(asked for {self.test_fraction:g}, seed {self.seed}, hash {self.hash[:12]})"
        )


def _share(patient: str, seed: int) -> float:
    """Map a patient to a number in [0, 1) that depends on nothing but the patient and the seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{patient}".encode()).digest()[:8], "big") / 2.0**64


def split_patients(cohort: Cohort, *, test_fraction: float, seed: int = 0) -> Split:
    """Split a cohort by patient.

    The side of a patient follows from a hash of the seed and the patient id alone, never from labels, row order or
    which other patients there are: a filtered or a grown cohort keeps everybody on their side.

    Args:
        cohort: The radiographs.
        test_fraction: Expected fraction of the patients on the test side, at least 0 and below 1.
        seed: Another seed gives another split.

    Returns:
        The split.

    Raises:
        CxrPairError: The fraction is out of range, or a side that was asked for got no patient.
    """
    if not 0 <= test_fraction < 1:
        raise CxrPairError(f"test_fraction must be at least 0 and below 1, not {test_fraction}")
    patients = cohort.table["patient_id"]
    side = {patient: _share(f"{patient}", seed) < test_fraction for patient in patients.unique()}
    is_test = patients.map(side).to_numpy(dtype=bool)
    split = Split(
        train_rows=np.flatnonzero(~is_test).astype(np.int64),
        test_rows=np.flatnonzero(is_test).astype(np.int64),
        test_fraction=test_fraction,
        seed=seed,
        train_patients=tuple(sorted(patient for patient, test in side.items() if not test)),
        test_patients=tuple(sorted(patient for patient, test in side.items() if test)),
    )
    if not len(split.train_rows) or (test_fraction > 0 and not len(split.test_rows)):
        empty = "test" if len(split.train_rows) else "train"
        raise CxrPairError(
            f"none of the {len(side)} patients falls on the {empty} side with test_fraction {test_fraction:g} and "
            f"seed {seed}: use another seed or fraction"
        )
    return split
