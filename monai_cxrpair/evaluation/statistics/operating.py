"""Operating points: thresholds chosen on validation, and what they do on the test side."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.bootstrap import weighted_sums
from monai_cxrpair.evaluation.statistics.checks import binary, both_classes, finite_scores
from monai_cxrpair.evaluation.statistics.proportion import proportion

# What is asked of a reader's aid that rules out: at most one finding in twenty missed.
SENSITIVITY = 0.95
SHARES = ("sensitivity", "specificity", "ppv", "npv")


def youden_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The threshold with the highest sensitivity + specificity - 1 (Youden 1950), the highest such threshold.

    Args:
        labels: (N,) 0 or 1 of the validation side, both there.
        scores: (N,) of radiographs the model did not learn from.

    Returns:
        A number to be compared with `score >= threshold`, halfway to the next lower score, so that a rounded
        threshold still separates the same radiographs.
    """
    false_rate, true_rate, thresholds = _curve(labels, scores, "youden_threshold")
    return _halfway(thresholds, int(np.argmax(true_rate - false_rate)))


def sensitivity_threshold(labels: ArrayLike, scores: ArrayLike, *, sensitivity: float = SENSITIVITY) -> float:
    """The highest threshold that still finds at least that share of the findings.

    Args:
        labels: (N,) 0 or 1 of the validation side, both there.
        scores: (N,) of radiographs the model did not learn from.
        sensitivity: in (0, 1].

    Returns:
        As `youden_threshold`.
    """
    if not 0 < sensitivity <= 1:
        raise CxrPairError(f"sensitivity_threshold: sensitivity must lie above 0 and up to 1, got {sensitivity}")
    _, true_rate, thresholds = _curve(labels, scores, "sensitivity_threshold")
    # 19 of 20 are 95 %, whatever the rounding of 19 / 20.
    return _halfway(thresholds, int(np.argmax(true_rate >= sensitivity - 1e-12)))


def at_threshold(
    labels: ArrayLike, scores: ArrayLike, threshold: float, patients: ArrayLike | None = None
) -> dict[str, Any]:
    """The confusion matrix of `score >= threshold` and its four shares.

    Args:
        labels: (N,) 0 or 1 of the test side.
        scores: (N,) finite.
        threshold: chosen elsewhere.
        patients: (N,) patient of each row; None: independent rows.

    Returns:
        `threshold`, `confusion` (`tp`, `fp`, `fn`, `tn`), and `sensitivity`, `specificity`, `ppv`, `npv`, each with
        `value`, `ci95`, `n` as `proportion` gives them: None where nothing is in the denominator.
    """
    present = binary(labels, "at_threshold")
    called = finite_scores(scores, len(present), "at_threshold") >= threshold
    who = None if patients is None else np.asarray(patients)
    shares = {
        name: proportion(hits[rows], None if who is None else who[rows])
        for name, (rows, hits) in _rows_and_hits(present, called).items()
    }
    return {"threshold": float(threshold), "confusion": confusion(present, called), **shares}


def confusion(present: NDArray[np.bool_], called: NDArray[np.bool_]) -> dict[str, int]:
    """True and false positives, false and true negatives."""
    return {
        "tp": int((present & called).sum()),
        "fp": int((~present & called).sum()),
        "fn": int((present & ~called).sum()),
        "tn": int((~present & ~called).sum()),
    }


def weighted_shares(
    present: NDArray[np.bool_], called: NDArray[np.bool_], weights: NDArray[np.int16]
) -> dict[str, NDArray[np.float64]]:
    """The four shares under each weighting (R, N), (R,) each; NaN where the denominator has no weight."""
    table = _rows_and_hits(present, called)
    columns = [mask for rows, hits in table.values() for mask in (rows, rows & hits)]
    sums = weighted_sums(np.stack(columns, axis=1), weights)  # (R, 8)
    below, above = sums[:, ::2], sums[:, 1::2]
    shares = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
    return dict(zip(table, shares.T, strict=True))


def _rows_and_hits(
    present: NDArray[np.bool_], called: NDArray[np.bool_]
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Each share as the rows that count and which rows are right."""
    pairs = (present, called), (~present, ~called), (called, present), (~called, ~present)
    return dict(zip(SHARES, pairs, strict=True))


def _curve(
    labels: ArrayLike, scores: ArrayLike, what: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at each distinct score, from the highest down."""
    present = binary(labels, what)
    values = finite_scores(scores, len(present), what)
    both_classes(present, what, wanted="threshold")
    false_rate, true_rate, thresholds = roc_curve(present, values, drop_intermediate=False)
    return false_rate[1:], true_rate[1:], thresholds[1:]  # the first is "nothing is positive", at infinity


def _halfway(thresholds: NDArray[np.float64], chosen: int) -> float:
    lower = thresholds[min(chosen + 1, len(thresholds) - 1)]
    return float((thresholds[chosen] + lower) / 2)
