"""The labels, patients and sides that all protocols and encoders share, checked once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.protocols.labels import certain
from monai_cxrpair.evaluation.protocols.units import Units, make_units


@dataclass(frozen=True, kw_only=True, eq=False)
class Cases:
    """Who is learned from and who is tested.

    Attributes:
        labels: (N,) 1, 0, -1 uncertain, NaN missing, after `apply_policy`; only 1 and 0 are used.
        patients: (N,) integer codes.
        studies: (N,) integer codes.
        train: rows that the draws are taken from.
        test: rows to test on, of other patients.
        aggregate: `image`, `study_max` or `study_mean`.
        subgroups: name -> (N,) mask.
        units: what is tested, made from the others.

    Raises:
        CxrPairError: a patient is on both sides, the test side lacks a class, or shapes do not match.
    """

    labels: NDArray[np.float64]
    patients: NDArray[np.int64]
    studies: NDArray[np.int64]
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    aggregate: str = "image"
    subgroups: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    units: Units = field(init=False)

    def __post_init__(self) -> None:
        for name, mask in self.subgroups.items():
            if mask.dtype != np.bool_ or mask.shape != self.labels.shape:
                raise CxrPairError(
                    f"subgroup '{name}' must be a bool mask ({len(self.labels)},), got {mask.dtype} {mask.shape}"
                )
        _check_disjoint(self.patients[self.train], self.patients[self.test])
        scored = self.test[certain(self.labels[self.test])]
        units = make_units(scored, self.labels, self.patients, self.studies, aggregate=self.aggregate)
        object.__setattr__(self, "units", units)
        if units.present.all() or not units.present.any():
            raise CxrPairError(
                f"the test side has {len(units.present)} labelled {units.what}, {int(units.present.sum())} with the "
                "finding: both classes are needed; choose another `finding`, `subset` or split"
            )

    def units_of(self, rows: NDArray[np.int64]) -> Units:
        """The units of some radiographs of the training side."""
        return make_units(rows, self.labels, self.patients, self.studies, aggregate=self.aggregate)

    def counts(self) -> dict[str, dict[str, int]]:
        """Radiographs, patients, studies and labels of `train` and of `test`."""
        return {side: self._count(rows) for side, rows in (("train", self.train), ("test", self.test))}

    def _count(self, rows: NDArray[np.int64]) -> dict[str, int]:
        labels, patients, studies = self.labels[rows], self.patients[rows], self.studies[rows]
        present, absent = int((labels == 1).sum()), int((labels == 0).sum())
        return {
            "radiographs": len(labels),
            "patients": len(np.unique(patients)),
            "studies": np.unique(np.stack([patients, studies]), axis=1).shape[1],
            "labelled": present + absent,
            "present": present,
            "absent": absent,
            "uncertain": int((labels == -1).sum()),
            "missing": int(np.isnan(labels).sum()),
        }


def make_cases(
    labels: ArrayLike,
    patients: ArrayLike,
    studies: ArrayLike,
    train_rows: ArrayLike,
    test_rows: ArrayLike,
    *,
    aggregate: str = "image",
    subgroups: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Cases:
    """Make `Cases` from anything array-like.

    Raises:
        CxrPairError: rows that are none, and see `Cases`.
    """
    y = np.asarray(labels, dtype=np.float64)
    return Cases(
        labels=y,
        patients=np.asarray(patients),
        studies=np.asarray(studies),
        train=_rows(train_rows, len(y), "train_rows"),
        test=_rows(test_rows, len(y), "test_rows"),
        aggregate=aggregate,
        subgroups=dict(subgroups or {}),
    )


def _rows(rows: ArrayLike, length: int, name: str) -> NDArray[np.int64]:
    values = np.asarray(rows)
    if values.dtype == np.bool_ or values.ndim != 1:
        raise CxrPairError(f"{name} must be row numbers (n,), got {values.dtype} of shape {values.shape}")
    if not len(values):
        raise CxrPairError(f"{name} is empty: the split leaves no radiograph on that side")
    if values.min() < 0 or values.max() >= length or len(np.unique(values)) != len(values):
        raise CxrPairError(f"{name} must be distinct rows from 0 to {length - 1}, got {values.min()} to {values.max()}")
    return values.astype(np.int64)


def _check_disjoint(train_patients: NDArray[np.int64], test_patients: NDArray[np.int64]) -> None:
    """Invariant 1. The draws are rows of the training side, so this covers them."""
    shared = np.intersect1d(train_patients, test_patients)
    if len(shared):
        raise CxrPairError(
            f"{len(shared)} patients are on the training and on the test side (codes {shared[:5].tolist()}): "
            "split by patient"
        )
