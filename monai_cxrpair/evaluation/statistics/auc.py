"""Areas under the ROC curve and the precision-recall curve, once and under each weighting of a bootstrap."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.checks import binary, both_classes, finite_scores

# Weights are copied as floats in blocks of this many numbers (64 MB), so that memory does not grow with replicates.
_BLOCK = 8_000_000
# float32 holds whole numbers up to here exactly; so do sums of them, in any order.
_EXACT = 2**24
# The matrix product costs present x absent, sorting present + absent with a large factor: even at about this ratio.
_PAIRS_PER_ROW = 300
_PAIRS = 4_000_000  # 48 MB beside the weights


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
    present = binary(labels, "auc")
    values = finite_scores(scores, len(present), "auc")
    both_classes(present, "auc")
    return float(roc_auc_score(present, values))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the precision-recall curve as average precision; guessing reaches the prevalence.

    Args:
        labels: (N,) 0 or 1, both there.
        scores: (N,) finite.

    Returns:
        The sum over thresholds of (rise in recall) x precision, in (0, 1]; no interpolation.
    """
    present = binary(labels, "average_precision")
    values = finite_scores(scores, len(present), "average_precision")
    both_classes(present, "average_precision", wanted="precision-recall curve")
    return float(average_precision_score(present, values))


def weighted_aucs(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """The AUC under each of many weightings of the same rows, with exact ties.

    Equal to `sklearn.metrics.roc_auc_score(sample_weight=...)` row by row. Whole-numbered weights of small sets are
    one matrix product of weights and "who beats whom" in float32, which is exact there; else the scores are sorted
    once, and a positive is worth the weight of the negatives below it plus half of those that tie with it.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) finite, or (M, N) of several models.
        weights: (R, N) at least 0, whole numbers or not.

    Returns:
        (R,), or (M, R), AUCs in [0, 1]; NaN where a class has no weight.
    """
    present, models, table = _checked(labels, scores, weights, "weighted_aucs")
    positives, negatives = np.flatnonzero(present), np.flatnonzero(~present)
    result = np.full((len(models), len(table)), np.nan)
    step = max(1, _BLOCK // max(1, len(present)))
    for start in range(0, len(table), step):
        block = table[start : start + step]
        target = result[:, start : start + step]
        total = block[:, positives].sum(axis=1, dtype=np.float64) * block[:, negatives].sum(axis=1, dtype=np.float64)
        whole = np.issubdtype(block.dtype, np.integer) and 2 * total.max(initial=0) < _EXACT
        if whole and len(positives) * len(negatives) <= min(_PAIRS, _PAIRS_PER_ROW * len(present)):
            beats, missed = (np.ascontiguousarray(block[:, rows], dtype=np.float32) for rows in (positives, negatives))
            for row, values in zip(target, models, strict=True):
                margin = values[positives, None] - values[None, negatives]
                twice = np.sign(margin).astype(np.float32) + 1  # (P, Q): 2 above, 1 tied, 0 below
                won = np.einsum("rq,rq->r", beats @ twice, missed)  # (R, P) x (P, Q), then by (R, Q)
                np.divide(won / 2, total, out=row, where=total > 0)
        else:
            # (N, r): rows first, so that picking the rows of a class copies whole lines.
            lines = np.ascontiguousarray(block.T, dtype=np.float64)
            for row, values in zip(target, models, strict=True):
                np.divide(_won(values, positives, negatives, lines), total, out=row, where=total > 0)
    return result if np.ndim(scores) == 2 else result[0]


def weighted_average_precisions(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """The average precision under each of many weightings of the same rows, with exact ties.

    Equal to `sklearn.metrics.average_precision_score(sample_weight=...)` row by row; the scores are sorted once.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) finite, or (M, N) of several models.
        weights: (R, N) at least 0.

    Returns:
        (R,), or (M, R), in [0, 1]; NaN where the positives have no weight.
    """
    present, models, table = _checked(labels, scores, weights, "weighted_average_precisions")
    result = np.full((len(models), len(table)), np.nan)
    step = max(1, _BLOCK // max(1, len(present)))
    for start in range(0, len(table), step):
        lines = np.ascontiguousarray(table[start : start + step].T, dtype=np.float64)  # (N, r)
        for row, values in zip(result[:, start : start + step], models, strict=True):
            order = np.argsort(-values, kind="stable")
            hits = order[present[order]]
            # How many rows are called positive at the threshold of each positive: those that tie are called too.
            called = np.searchsorted(-values[order], -values[hits], side="right")
            caught = np.searchsorted(-values[hits], -values[hits], side="right")
            mass = np.cumsum(lines[order], axis=0)[called - 1]  # (P, r)
            found = np.cumsum(lines[hits], axis=0)
            precision = np.divide(found[caught - 1], mass, out=np.zeros_like(mass), where=mass > 0)
            won = np.einsum("pr,pr->r", lines[hits], precision)
            total = found[-1] if len(hits) else np.zeros(lines.shape[1])
            np.divide(won, total, out=row, where=total > 0)
    return result if np.ndim(scores) == 2 else result[0]


def _won(
    values: NDArray[np.float64],
    positives: NDArray[np.int64],
    negatives: NDArray[np.int64],
    lines: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Weight of the pairs in which the positive scores higher, ties one half: (r,) for weights (N, r)."""
    negatives = negatives[np.argsort(values[negatives], kind="stable")]
    below = np.searchsorted(values[negatives], values[positives], side="left")
    not_above = np.searchsorted(values[negatives], values[positives], side="right")
    mass = np.zeros((len(negatives) + 1, lines.shape[1]))
    np.cumsum(lines[negatives], axis=0, out=mass[1:])
    won: NDArray[np.float64] = np.einsum("pr,pr->r", lines[positives], mass[below] + mass[not_above]) / 2
    return won


def _checked(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike, what: str
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.generic]]:
    present = binary(labels, what)
    models = np.atleast_2d(finite_scores(scores, len(present), what))
    table = np.asarray(weights)
    if table.ndim != 2 or table.shape[1] != len(present):
        raise CxrPairError(f"{what}: weights must be (replicates, {len(present)}), got {table.shape}")
    if table.size and not (np.isfinite(table).all() and table.min() >= 0):
        raise CxrPairError(f"{what}: weights must be finite and not negative")
    return present, models, table
