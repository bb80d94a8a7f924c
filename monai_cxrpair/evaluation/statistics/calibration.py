"""Are the probabilities right? Reliability, expected calibration error, Brier score, logistic recalibration."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, log_expit, logit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from monai_cxrpair.evaluation.statistics.bootstrap import weighted_sums
from monai_cxrpair.evaluation.statistics.checks import binary, both_classes, clusters, probabilities
from monai_cxrpair.evaluation.statistics.proportion import proportion

# Ten bins is what reliability diagrams show since Niculescu-Mizil and Caruana (2005).
BINS = 10
# A probability of 0 or 1 has no logit; float32 sigmoids end here anyway.
_EDGE = 1e-7
# A temperature outside means that no finite one is best: the scores separate, or say nothing.
_TEMPERATURES = (0.01, 100.0)


def brier(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean squared distance of probability and truth (`sklearn.metrics.brier_score_loss`); 0 is perfect."""
    present = binary(labels, "brier")
    return float(brier_score_loss(present, probabilities(scores, len(present), "brier"), pos_label=True))


def reliability(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None, *, bins: int = BINS
) -> list[dict[str, Any]]:
    """What share had the finding, among radiographs of like probability?

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) probabilities.
        patients: (N,) patient of each row, for the intervals; None: independent rows.
        bins: how many bins of equal numbers of radiographs; equal scores stay together, so there may be fewer.

    Returns:
        A bin each, low to high: `n`, `predicted` (mean probability), `observed` (share), `ci95` of the share.
    """
    present = binary(labels, "reliability")
    values = probabilities(scores, len(present), "reliability")
    who = None if patients is None else np.asarray(patients)
    table = []
    inside = _bins(values, bins)
    for number in np.unique(inside):
        rows = inside == number
        share = proportion(present[rows], None if who is None else who[rows])
        table.append(
            {
                "n": share["n"],
                "predicted": float(values[rows].mean()),
                "observed": share["value"],
                "ci95": share["ci95"],
            }
        )
    return table


def expected_calibration_error(labels: ArrayLike, scores: ArrayLike, *, bins: int = BINS) -> float:
    """Mean distance of probability and share over the bins of `reliability`, weighted by their radiographs.

    It is above 0 by chance alone, the more so the smaller the set: compare sets of like size only.
    """
    table = reliability(labels, scores, bins=bins)
    total = sum(row["n"] for row in table)
    return float(sum(row["n"] * abs(row["observed"] - row["predicted"]) for row in table) / total) if total else 0.0


def recalibration(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None) -> dict[str, Any]:
    """Logistic recalibration (Cox 1958): logit P(present) = intercept + slope x logit(score).

    Args:
        labels: (N,) 0 or 1, both there.
        scores: (N,) probabilities.
        patients: (N,) patient of each row, for the interval (sandwich variance); None: independent rows.

    Returns:
        `slope` (1 is right, below 1 overconfident) with `slope_ci95`, `intercept`, and `in_the_large`, the intercept
        where the slope is held at 1 (0 is right, above 0: probabilities too low). Slope and intercept are None where
        no finite slope is best: the scores separate the classes, or are all the same.
    """
    present = binary(labels, "recalibration")
    x = _logits(probabilities(scores, len(present), "recalibration"))
    both_classes(present, "recalibration", wanted="recalibration")
    span = float(np.ptp(x)) + 100.0
    centre = float(logit(present.mean()))
    large = brentq(
        lambda a: float((expit(x + a) - present).sum()), centre - x.max() - span, centre - x.min() + span, xtol=1e-12
    )
    found: dict[str, Any] = {"slope": None, "slope_ci95": None, "intercept": None, "in_the_large": float(large)}
    one, zero = x[present], x[~present]
    if one.min() >= zero.max() or zero.min() >= one.max():
        return found
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=200).fit(x[:, None], present)
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    design = np.stack([np.ones_like(x), x], axis=1)  # (N, 2)
    expected = expit(design @ [intercept, slope])
    bread = np.linalg.inv((design * (expected * (1 - expected))[:, None]).T @ design)
    groups = np.arange(len(x)) if patients is None else clusters(patients, len(x), "recalibration")
    residual = (present - expected)[:, None] * design
    summed = np.stack([np.bincount(groups, weights=column) for column in residual.T])  # (2, patients)
    error = float(np.sqrt((bread @ (summed @ summed.T) @ bread)[1, 1]))
    z = float(norm.ppf(0.975))
    return found | {"slope": slope, "slope_ci95": [slope - z * error, slope + z * error], "intercept": intercept}


def weighted_recalibrations(
    labels: ArrayLike, scores: ArrayLike, found: dict[str, Any], weights: ArrayLike
) -> dict[str, NDArray[np.float64]]:
    """`slope`, `intercept` and `in_the_large` under each weighting of a bootstrap, by one Newton step from the fit.

    One step is as good as a fit to the end where weights differ by sampling alone (Davidson and MacKinnon 1999), and
    thousands of them take no longer than a few fits.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) probabilities.
        found: what `recalibration` found on the same rows.
        weights: (R, N) at least 0.

    Returns:
        (R,) each, NaN where the weights leave nothing to fit; what `found` has as None is NaN throughout.
    """
    present = binary(labels, "weighted_recalibrations")
    x = _logits(probabilities(scores, len(present), "weighted_recalibrations"))
    table = np.asarray(weights)
    none = np.full(len(table), np.nan)
    expected = expit(x + found["in_the_large"])
    error, bread = weighted_sums(np.column_stack([present - expected, expected * (1 - expected)]), table).T
    large = found["in_the_large"] + np.divide(error, bread, out=none.copy(), where=bread > 0)
    if found["slope"] is None:
        return {"slope": none, "intercept": none, "in_the_large": large}
    expected = expit(found["intercept"] + found["slope"] * x)
    error, bread = present - expected, expected * (1 - expected)
    columns = [error, error * x, bread, bread * x, bread * x**2]
    e0, e1, h0, h1, h2 = weighted_sums(np.column_stack(columns), table).T  # gradient, and the symmetric 2 x 2 Hessian
    area = h0 * h2 - h1**2
    fits = area > 1e-12 * h0 * h2
    up = np.divide(h2 * e0 - h1 * e1, area, out=none.copy(), where=fits)
    turn = np.divide(h0 * e1 - h1 * e0, area, out=none.copy(), where=fits)
    return {"slope": found["slope"] + turn, "intercept": found["intercept"] + up, "in_the_large": large}


def fit_temperature(labels: ArrayLike, scores: ArrayLike) -> float:
    """The temperature with the least log loss (Guo et al. 2017), to be fitted on training or validation rows only.

    Args:
        labels: (N,) 0 or 1, both there.
        scores: (N,) probabilities of radiographs that the model did not learn from.

    Returns:
        T in [0.01, 100]; above 1: the probabilities were too sure of themselves.
    """
    present = binary(labels, "fit_temperature")
    x = _logits(probabilities(scores, len(present), "fit_temperature"))
    both_classes(present, "fit_temperature", wanted="temperature")
    signed = np.where(present, x, -x)
    low, high = np.log(_TEMPERATURES)
    best = minimize_scalar(
        lambda log_t: -float(log_expit(signed / np.exp(log_t)).sum()),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return float(np.exp(best.x))


def with_temperature(scores: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Probabilities at another temperature; their order stays, except that those within 1e-7 of 0 or 1 become ties."""
    values = np.asarray(scores, dtype=np.float64)
    result: NDArray[np.float64] = expit(_logits(probabilities(values, len(values), "with_temperature")) / temperature)
    return result


def _logits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = logit(np.clip(values, _EDGE, 1 - _EDGE))
    return result


def _bins(values: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Bin of each row, by quantiles; equal scores in the same bin."""
    if not len(values):
        return np.empty(0, dtype=np.int64)
    edges = np.quantile(values, np.arange(1, bins) / bins)
    return np.searchsorted(edges, values, side="left").astype(np.int64)
