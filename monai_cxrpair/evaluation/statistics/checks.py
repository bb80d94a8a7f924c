"""What every statistic asks of its labels and scores."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_cxrpair.errors import CxrPairError


def binary(labels: ArrayLike, what: str) -> NDArray[np.bool_]:
    """Labels as booleans, or an error that shows the first value that is neither 0 nor 1."""
    values = np.asarray(labels, dtype=np.float64)
    if values.ndim != 1:
        raise CxrPairError(f"{what}: labels must be one-dimensional, got shape {values.shape}")
    wrong = values[(values != 0) & (values != 1)]
    if len(wrong):
        raise CxrPairError(f"{what}: labels must be 0 or 1, got {wrong[0]}; leave out missing and uncertain")
    present: NDArray[np.bool_] = values == 1
    return present


def both_classes(present: NDArray[np.bool_], what: str, *, wanted: str = "AUC") -> None:
    """An error that names the class that is there, where the other is not."""
    if present.all() or not present.any():
        only = "present (1)" if len(present) and present.all() else "absent (0)"
        raise CxrPairError(
            f"{what}: all {len(present)} labels are {only}, so there is no {wanted}; it needs radiographs of both "
            "classes"
        )


def finite_scores(scores: ArrayLike, length: int, what: str) -> NDArray[np.float64]:
    """Scores (N,) or, of several models, (M, N), all finite."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim not in (1, 2) or values.shape[-1] != length:
        raise CxrPairError(f"{what}: {length} labels but scores of shape {values.shape}")
    if not np.isfinite(values).all():
        raise CxrPairError(
            f"{what}: {int((~np.isfinite(values)).sum())} of {values.size} scores are not finite numbers"
        )
    return values


def probabilities(scores: ArrayLike, length: int, what: str) -> NDArray[np.float64]:
    """Scores (N,) in [0, 1]."""
    values = finite_scores(scores, length, what)
    if values.ndim != 1:
        raise CxrPairError(f"{what}: probabilities must be one-dimensional, got shape {values.shape}")
    outside = values[(values < 0) | (values > 1)]
    if len(outside):
        raise CxrPairError(f"{what}: probabilities must lie between 0 and 1, got {outside[0]}")
    return values


def clusters(patients: ArrayLike, length: int, what: str) -> NDArray[np.int64]:
    """Patient of each row as 0, 1, ..."""
    values = np.asarray(patients)
    if values.shape != (length,):
        raise CxrPairError(f"{what}: {length} labels but patients of shape {values.shape}")
    codes: NDArray[np.int64] = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return codes
