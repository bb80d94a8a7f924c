"""The area under the ROC curve and its patient-clustered bootstrap.

The images of one patient are alike, so it is the patients that are resampled, never the images. A replicate is a
row of multiplicities, which makes the bootstrap of an AUC a weighted AUC; the same rows serve all encoders, so
that their differences are paired. The recipe follows MoCo-CXR (paper section 2, "CI recipe"), by patient instead
of by study.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from monai_cxrpair.errors import CxrPairError

# Weights are copied as float64 in blocks of this many numbers (64 MB), so that memory does not grow with replicates.
_BLOCK = 8_000_000


def _binary(labels: ArrayLike, what: str) -> NDArray[np.bool_]:
    """Labels as booleans, or an error that shows the first value that is neither 0 nor 1."""
    values = np.asarray(labels, dtype=np.float64)
    if values.ndim != 1:
        raise CxrPairError(f"{what}: labels must be one-dimensional, got shape {values.shape}")
    wrong = values[(values != 0) & (values != 1)]
    if len(wrong):
        raise CxrPairError(f"{what}: labels must be 0 or 1, got {wrong[0]}; leave out missing and uncertain")
    present: NDArray[np.bool_] = values == 1
    return present


def _finite_scores(scores: ArrayLike, length: int, what: str) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (length,):
        raise CxrPairError(f"{what}: {length} labels but scores of shape {values.shape}")
    if not np.isfinite(values).all():
        raise CxrPairError(f"{what}: {int((~np.isfinite(values)).sum())} of {length} scores are not finite numbers")
    return values


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve.

    Args:
        labels: (N,) 0 absent, 1 present.
        scores: (N,) any finite numbers, higher means present.

    Returns:
        The AUC in [0, 1]; ties count one half.

    Raises:
        CxrPairError: where only one class is there, so that no AUC exists.
    """
    present = _binary(labels, "auc")
    values = _finite_scores(scores, len(present), "auc")
    if present.all() or not present.any():
        only = "present (1)" if len(present) and present.all() else "absent (0)"
        raise CxrPairError(
            f"auc: all {len(present)} labels are {only}, so there is no AUC; it needs radiographs of both classes"
        )
    return float(roc_auc_score(present, values))


def patient_weights(patients: ArrayLike, *, replicates: int, seed: int) -> NDArray[np.int16]:
    """Multiplicities of a patient-clustered bootstrap.

    Args:
        patients: (N,) patient code of each row.
        replicates: number of replicates R, at least 1.
        seed: the same seed and patients give the same weights.

    Returns:
        (R, N) how often each row stands in each replicate. As many patients are drawn, with replacement, as there
        are; every row of a patient has the patient's multiplicity. 16 bits: 2,000 x 45,000 rows take 180 MB.
    """
    if replicates < 1:
        raise CxrPairError(f"replicates must be at least 1, got {replicates}")
    codes, row_to_patient = np.unique(np.asarray(patients), return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = np.empty((replicates, len(codes)), dtype=np.int16)
    for replicate in counts:
        replicate[:] = np.bincount(rng.integers(len(codes), size=len(codes)), minlength=len(codes))
    weights: NDArray[np.int16] = counts[:, row_to_patient]
    return weights


def draw_weights(draws: int, *, replicates: int, seed: int) -> NDArray[np.int16]:
    """How often each of D label draws stands in each bootstrap replicate, (R, D); independent of the patients'."""
    return patient_weights(np.arange(draws), replicates=replicates, seed=seed + 1_000_003)


def weighted_aucs(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """The AUC under each of many weightings of the same rows, with exact ties.

    Equal to `sklearn.metrics.roc_auc_score(sample_weight=...)` row by row, but the scores are sorted once: a
    positive is worth the weight of the negatives below it plus half of those that tie with it.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) finite.
        weights: (R, N) at least 0, whole numbers or not.

    Returns:
        (R,) AUCs in [0, 1]; NaN where a class has no weight.
    """
    present = _binary(labels, "weighted_aucs")
    values = _finite_scores(scores, len(present), "weighted_aucs")
    table = np.asarray(weights)
    if table.ndim != 2 or table.shape[1] != len(present):
        raise CxrPairError(f"weighted_aucs: weights must be (replicates, {len(present)}), got {table.shape}")
    if table.size and not (np.isfinite(table).all() and table.min() >= 0):
        raise CxrPairError("weighted_aucs: weights must be finite and not negative")
    positives, negatives = np.flatnonzero(present), np.flatnonzero(~present)
    negatives = negatives[np.argsort(values[negatives], kind="stable")]
    below = np.searchsorted(values[negatives], values[positives], side="left")
    not_above = np.searchsorted(values[negatives], values[positives], side="right")

    result = np.full(len(table), np.nan)
    step = max(1, _BLOCK // max(1, len(present)))
    for start in range(0, len(table), step):
        # (N, r): rows first, so that picking the rows of a class copies whole lines.
        block = np.ascontiguousarray(table[start : start + step].T, dtype=np.float64)
        weight = block[positives]
        mass = np.zeros((len(negatives) + 1, block.shape[1]))
        np.cumsum(block[negatives], axis=0, out=mass[1:])
        won = np.einsum("pr,pr->r", weight, mass[below] + mass[not_above]) / 2
        total = weight.sum(axis=0) * mass[-1]
        np.divide(won, total, out=result[start : start + step], where=total > 0)
    return result


def ci95(samples: ArrayLike) -> tuple[float, float]:
    """Percentile interval of bootstrap samples; NaN (replicates with one class) is left out.

    Args:
        samples: (R,) the statistic in each replicate.

    Returns:
        The 2.5th and the 97.5th percentile.

    Raises:
        CxrPairError: where every sample is NaN.
    """
    values = np.asarray(samples, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        raise CxrPairError("ci95: no bootstrap replicate holds both classes; the test side has too few patients")
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
