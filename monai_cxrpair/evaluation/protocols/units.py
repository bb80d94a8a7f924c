"""What is tested: each radiograph, or each study by the maximum or the mean over its radiographs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.errors import CxrPairError

AGGREGATES = ("image", "study_max", "study_mean")


@dataclass(frozen=True, kw_only=True)
class Units:
    """Radiographs and the units they belong to.

    Attributes:
        rows: (n,) the radiographs, those of a unit one after the other.
        starts: (U,) where in `rows` each unit begins.
        present: (U,) bool: a study has the finding where any radiograph of it has.
        patients: (U,) patient of each unit.
        aggregate: `image`, `study_max` or `study_mean`.
        disagreeing: units with radiographs of both labels.
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    present: NDArray[np.bool_]
    patients: NDArray[np.int64]
    aggregate: str
    disagreeing: int

    @property
    def what(self) -> str:
        """What is tested, in the plural."""
        return "radiographs" if self.aggregate == "image" else "studies"

    def pool(self, scores: NDArray[np.float64], within: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Scores of the units.

        Args:
            scores: (..., n) probabilities of the radiographs.
            within: (n,) the radiographs that count; all where None.

        Returns:
            (..., U); 0 where no radiograph of a unit counts.
        """
        counted = np.ones(len(self.rows), dtype=bool) if within is None else within
        if self.aggregate == "study_mean":
            sums = np.add.reduceat(scores * counted, self.starts, axis=-1)
            pooled: NDArray[np.float64] = sums / np.maximum(1, np.add.reduceat(counted.astype(np.int64), self.starts))
            return pooled
        highest: NDArray[np.float64] = np.maximum.reduceat(scores * counted, self.starts, axis=-1)
        return highest

    def within(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which units (U,) have a radiograph in a mask (n,)."""
        found: NDArray[np.bool_] = np.logical_or.reduceat(mask, self.starts)
        return found


def make_units(
    rows: NDArray[np.int64],
    labels: NDArray[np.float64],
    patients: NDArray[np.int64],
    studies: NDArray[np.int64],
    *,
    aggregate: str,
) -> Units:
    """Group radiographs into what is tested.

    The paper's code tests per study, by the highest score of its radiographs (section 4). Only radiographs with a
    certain label stand for their study. Where they disagree, the study has the finding if one of them shows it: an
    effusion that only the lateral view shows is an effusion.

    Args:
        rows: radiographs with a certain label.
        labels: (N,) 1 or 0 at `rows`.
        patients: (N,) codes.
        studies: (N,) codes; they need to be unique only within a patient.
        aggregate: one of `AGGREGATES`.

    Returns:
        The units: for `image` in the order of `rows`, else by patient and study.

    Raises:
        CxrPairError: another word.
    """
    if aggregate not in AGGREGATES:
        raise CxrPairError(f"aggregate is {aggregate!r}: use {', '.join(AGGREGATES)}")
    starts = np.arange(len(rows))
    if aggregate != "image":
        rows = rows[np.lexsort((rows, studies[rows], patients[rows]))]
        keys = np.stack([patients[rows], studies[rows]])
        starts = np.flatnonzero(np.append(True, (keys[:, 1:] != keys[:, :-1]).any(axis=0))) if len(rows) else starts
    present = labels[rows] == 1
    if not len(rows):
        return Units(
            rows=rows, starts=starts, present=present, patients=patients[rows], aggregate=aggregate, disagreeing=0
        )
    some, every = np.logical_or.reduceat(present, starts), np.logical_and.reduceat(present, starts)
    return Units(
        rows=rows,
        starts=starts,
        present=some,
        patients=patients[rows[starts]],
        aggregate=aggregate,
        disagreeing=int((some != every).sum()),
    )
