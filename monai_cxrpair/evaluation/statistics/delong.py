"""The variance of AUCs without resampling (DeLong, DeLong and Clarke-Pearson 1988), fast and clustered.

The structural component of a radiograph is the share of the other class that it is ordered rightly against. By
midranks they take N log N steps (Sun and Xu 2014). Where a patient has several radiographs these are summed by
patient (Obuchowski 1997); with one radiograph a patient that is DeLong's variance again.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.checks import binary, both_classes, clusters, finite_scores


@dataclass(frozen=True, kw_only=True)
class DeLong:
    """AUCs of M models on the same radiographs.

    Attributes:
        aucs: (M,).
        covariance: (M, M) of the AUCs.
    """

    aucs: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def contrast(self, weights: ArrayLike) -> tuple[float, float]:
        """A weighted sum of the AUCs, such as `[1, -1]` for a difference, and its standard error."""
        line = np.asarray(weights, dtype=np.float64)
        if line.shape != self.aucs.shape:
            raise CxrPairError(f"contrast: {len(self.aucs)} AUCs but weights of shape {line.shape}")
        variance = float(line @ self.covariance @ line)
        return float(line @ self.aucs), float(np.sqrt(max(0.0, variance)))

    def p(self, weights: ArrayLike) -> float:
        """Two-sided p of "the weighted sum is 0"; 1 where it is 0 and does not vary, 0 where only the latter holds."""
        value, error = self.contrast(weights)
        if error == 0:
            return 1.0 if value == 0 else 0.0
        return float(2 * norm.sf(abs(value) / error))


def delong(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None) -> DeLong:
    """AUCs and their covariance.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) or (M, N) of several models on the same rows.
        patients: (N,) patient of each row. None: the rows are independent. With several rows a patient that would
            make the variance too small, so give them wherever they are known.

    Returns:
        The AUCs and their covariance.

    Raises:
        CxrPairError: a class is missing or has a single row or patient, which has no variance.
    """
    present = binary(labels, "delong")
    models = np.atleast_2d(finite_scores(scores, len(present), "delong"))
    both_classes(present, "delong")
    groups = np.arange(len(present)) if patients is None else clusters(patients, len(present), "delong")
    units = [len(np.unique(groups[rows])) for rows in (present, ~present)]
    if min(units) < 2:
        unit = "radiograph" if patients is None else "patient"
        state = "with" if units[0] < 2 else "without"
        raise CxrPairError(f"delong: only one {unit} {state} the finding: a variance needs two of each")

    aucs, above, below = _components(present, models)
    m, n = int(present.sum()), int((~present).sum())
    size = int(groups.max()) + 1
    # (M, I): sums over a patient's radiographs, less what is expected of so many of them.
    of_present = _by_group(above - aucs[:, None], groups[present], size)
    of_absent = _by_group(below - aucs[:, None], groups[~present], size)
    cross = of_present @ of_absent.T
    patients_there = len(np.unique(groups))
    covariance = (
        units[0] / (units[0] - 1) * (of_present @ of_present.T) / m**2
        + units[1] / (units[1] - 1) * (of_absent @ of_absent.T) / n**2
        + patients_there / (patients_there - 1) * (cross + cross.T) / (m * n)
    )
    return DeLong(aucs=aucs, covariance=covariance)


def _components(
    present: NDArray[np.bool_], models: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """AUCs (M,), and the components of the positives (M, m) and the negatives (M, n)."""
    m, n = int(present.sum()), int((~present).sum())
    ranks = rankdata(models, axis=1)
    above = (ranks[:, present] - rankdata(models[:, present], axis=1)) / n
    below = 1 - (ranks[:, ~present] - rankdata(models[:, ~present], axis=1)) / m
    return above.mean(axis=1), above, below


def _by_group(values: NDArray[np.float64], groups: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    return np.stack([np.bincount(groups, weights=row, minlength=size) for row in values])
