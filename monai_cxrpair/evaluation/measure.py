"""What is measured of one encoder: the same label draws, test patients and replicates for every encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.evaluation.statistics.auc import (
    auc,
    average_precision,
    weighted_aucs,
    weighted_average_precisions,
)
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, weighted_sums
from monai_cxrpair.evaluation.statistics.calibration import (
    brier,
    expected_calibration_error,
    recalibration,
    reliability,
    weighted_recalibrations,
    with_temperature,
)
from monai_cxrpair.evaluation.statistics.decision import decision_curve
from monai_cxrpair.evaluation.statistics.delong import delong
from monai_cxrpair.evaluation.statistics.operating import SHARES, confusion, weighted_shares
from monai_cxrpair.evaluation.statistics.proportion import proportion
from monai_cxrpair.evaluation.statistics.subgroups import too_few
from monai_cxrpair.evaluation.statistics.variance import split_variance

Scores = NDArray[np.float64]
Weights = NDArray[np.int16]

RECALIBRATED = ("slope", "intercept", "in_the_large")


def measure_auc(
    present: NDArray[np.bool_], scores: Scores, weights: Weights, repeats: Weights
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """AUC of each draw, their mean, SD and CI; and the bootstrap samples of the mean.

    Args:
        present: (N,) labels.
        scores: (D, N) one row for each draw.
        weights: (R, N) of the test rows.
        repeats: (R, D) of the draws.

    Returns:
        `auc_mean`, `auc_sd`, `ci95`, `auc_draws`; and (R,).
    """
    per_draw = [auc(present, row) for row in scores]
    samples = _over_draws(weighted_aucs(present, scores, weights), repeats)
    figures = {
        "auc_mean": float(np.mean(per_draw)),
        "auc_sd": float(np.std(per_draw, ddof=1)) if len(per_draw) > 1 else None,
        "ci95": list(ci95(samples)),
        "auc_draws": per_draw,
    }
    return figures, samples


def measure_within(
    mask: NDArray[np.bool_],
    present: NDArray[np.bool_],
    patients: NDArray[np.int64],
    scores: Scores,
    weights: Weights,
    repeats: Weights,
    *,
    what: str = "radiographs",
) -> dict[str, Any]:
    """The AUC inside a subgroup, its `radiographs` (`studies`), `patients`, `present`, or why it was `not_measured`."""
    inside, who = present[mask], patients[mask]
    counts = {what: len(inside), "patients": len(np.unique(who)), "present": int(inside.sum())}
    reason = too_few(inside, who, what=what)
    if reason is not None:
        return {"not_measured": reason, **counts}
    figures, samples = measure_auc(inside, scores[:, mask], weights[:, mask], repeats)
    return {**figures, **counts, "replicates_dropped": int(np.isnan(samples).sum())}


def measure_rest(
    present: NDArray[np.bool_],
    patients: NDArray[np.int64],
    scores: Scores,
    weights: Weights,
    repeats: Weights,
    thresholds: Mapping[str, Sequence[float]] | None,
) -> dict[str, Any]:
    """What is measured beside the AUC, on the whole test side only.

    Args:
        present: (N,) labels.
        patients: (N,) codes.
        scores: (D, N) probabilities, one row for each draw.
        weights: (R, N) of the test rows.
        repeats: (R, D) of the draws.
        thresholds: rule -> threshold of each draw, chosen inside the draw; None where there were too few labels.

    Returns:
        `pr_auc` (average precision), `calibration`, `decision`, `operating_points` and `variance`.
    """
    precisions = [average_precision(present, row) for row in scores]
    samples = _over_draws(weighted_average_precisions(present, scores, weights), repeats)
    return {
        "pr_auc": {
            "mean": float(np.mean(precisions)),
            "ci95": list(ci95(samples)),
            "draws": precisions,
            "guessing": float(present.mean()),
        },
        "calibration": _calibration(present, patients, scores, weights, repeats),
        "decision": _decision(present, scores),
        "operating_points": None
        if thresholds is None
        else {rule: _operate(present, patients, scores, t, weights, repeats) for rule, t in thresholds.items()},
        "variance": _variance(present, patients, scores),
    }


def measure_calibrated(
    present: NDArray[np.bool_],
    patients: NDArray[np.int64],
    scores: Scores,
    weights: Weights,
    repeats: Weights,
    temperatures: Sequence[float] | None,
) -> dict[str, Any]:
    """The same probabilities, each draw's at its own temperature. Their order stays, so only these figures change.

    Args:
        present: (N,) labels.
        patients: (N,) codes.
        scores: (D, N) probabilities, one row for each draw.
        weights: (R, N) of the test rows.
        repeats: (R, D) of the draws.
        temperatures: of each draw, fitted inside it; None where there were too few labels.

    Returns:
        `temperatures`, `calibration` and `decision`, or why it was `not_measured`.
    """
    if temperatures is None:
        return {"not_measured": "a draw has too few labels, or all of one class or of one patient, to fit one"}
    scaled = np.stack([with_temperature(row, t) for row, t in zip(scores, temperatures, strict=True)])
    return {
        "temperatures": list(temperatures),
        "calibration": _calibration(present, patients, scaled, weights, repeats),
        "decision": _decision(present, scaled),
    }


def _over_draws(table: NDArray[np.float64], repeats: Weights) -> NDArray[np.float64]:
    """Samples (D, R) of each draw -> (R,) of the mean over the draws of the replicate."""
    samples: NDArray[np.float64] = (table * repeats.T).sum(axis=0) / len(table)
    return samples


def _calibration(
    present: NDArray[np.bool_], patients: NDArray[np.int64], scores: Scores, weights: Weights, repeats: Weights
) -> dict[str, Any]:
    """Means over the draws with bootstrap intervals; the bins pool all draws, their intervals by patient.

    `without_slope`: draws whose scores separate the classes or are all the same; then slope and intercept are None.
    """
    squares = (scores - present).T ** 2  # (N, D)
    sums = weighted_sums(np.column_stack([squares, np.ones(len(present))]), weights)
    refits = [recalibration(present, row, patients) for row in scores]
    samples = [weighted_recalibrations(present, row, fit, weights) for row, fit in zip(scores, refits, strict=True)]
    draws = len(scores)
    return {
        "brier": {
            "mean": float(np.mean([brier(present, row) for row in scores])),
            "ci95": list(ci95(_over_draws((sums[:, :-1] / sums[:, -1:]).T, repeats))),
            # Whoever gives everybody the prevalence reaches this.
            "guessing": float(present.mean() * (1 - present.mean())),
        },
        "ece": float(np.mean([expected_calibration_error(present, row) for row in scores])),
        **{key: _mean([refit[key] for refit in refits]) for key in RECALIBRATED},
        **{f"{key}_ci95": _interval([sample[key] for sample in samples], repeats) for key in RECALIBRATED},
        "without_slope": sum(refit["slope"] is None for refit in refits),
        "bins": reliability(np.tile(present, draws), scores.ravel(), np.tile(patients, draws)),
    }


def _decision(present: NDArray[np.bool_], scores: Scores) -> dict[str, Any]:
    curves = [decision_curve(present, row) for row in scores]
    return {**curves[0], "net_benefit": np.mean([curve["net_benefit"] for curve in curves], axis=0).tolist()}


def _operate(
    present: NDArray[np.bool_],
    patients: NDArray[np.int64],
    scores: Scores,
    thresholds: Sequence[float],
    weights: Weights,
    repeats: Weights,
) -> dict[str, Any]:
    """Each draw at its own threshold: mean counts, mean shares with bootstrap CI; None where a draw has none."""
    called = scores >= np.asarray(thresholds)[:, None]
    counts = [confusion(present, row) for row in called]
    samples = [weighted_shares(present, row, weights) for row in called]
    figures: dict[str, Any] = {
        "thresholds": [float(threshold) for threshold in thresholds],
        "confusion": {cell: float(np.mean([count[cell] for count in counts])) for cell in counts[0]},
    }
    whole = np.ones((1, len(present)), dtype=np.int16)
    for share in SHARES:
        value = float(np.mean([weighted_shares(present, row, whole)[share][0] for row in called]))
        if np.isnan(value):
            figures[share] = {"value": None, "ci95": None}
            continue
        interval = list(ci95(_over_draws(np.stack([sample[share] for sample in samples]), repeats)))
        if value in (0.0, 1.0):
            # No replicate can differ; Wilson's interval at the number of patients can.
            rows = {
                "sensitivity": present,
                "specificity": ~present,
                "ppv": called.any(axis=0),
                "npv": ~called.all(axis=0),
            }[share]
            interval = proportion(np.full(int(rows.sum()), value), patients[rows])["ci95"]
        figures[share] = {"value": value, "ci95": interval}
    return figures


def _variance(present: NDArray[np.bool_], patients: NDArray[np.int64], scores: Scores) -> dict[str, Any] | None:
    """Label draw against test patients; None where a class has one patient."""
    if not has_variance(present, patients):
        return None
    _, error = delong(present, scores, patients).contrast(np.full(len(scores), 1 / len(scores)))
    split = split_variance([auc(present, row) for row in scores], test_variance=error**2)
    return {**asdict(split), "shares": split.shares()}


def has_variance(present: NDArray[np.bool_], patients: NDArray[np.int64]) -> bool:
    """Whether both classes have two patients, as DeLong needs."""
    return min(len(np.unique(patients[present])), len(np.unique(patients[~present]))) >= 2


def _interval(samples: Sequence[NDArray[np.float64]], repeats: Weights) -> list[float] | None:
    """None where any draw has no sample."""
    table = np.stack(samples)
    return None if np.isnan(table).all(axis=1).any() else list(ci95(_over_draws(table, repeats)))


def _mean(values: Sequence[float | None]) -> float | None:
    """None where any draw has none."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if len(there) == len(values) else None
