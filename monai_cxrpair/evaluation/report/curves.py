"""The mean ROC and precision-recall curves of an encoder with their bootstrap bands, and the pictures of several."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from monai_cxrpair.evaluation.report.drawing import COLOURS, GREY, STYLES, legend_name, picture, save, tidy
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, patient_weights

# The band is drawn, not tabulated: 500 replicates are smooth to the eye.
BAND_REPLICATES = 500
GRID_POINTS = 101
# Weights are copied as floats in blocks of this many numbers (64 MB), so that memory does not grow with replicates.
_BLOCK = 8_000_000


def curve_bands(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, *, replicates: int = BAND_REPLICATES, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Mean ROC and precision-recall curve over the draws' probes, each with a pointwise 95 % patient-bootstrap band.

    Averaged vertically: at each false positive rate the sensitivities of the probes are averaged, at each recall their
    precisions, in each replicate as in the whole test side. The precision at a recall is that of the highest threshold
    that reaches it: the step that average precision sums up. A line drawn between two points would promise what no
    threshold gives (Davis and Goadrich 2006).

    Args:
        labels: (N,) 0 or 1, both there.
        scores: (D, N) one row for each draw.
        patients: (N,) patient codes.
        replicates: bootstrap replicates for the bands; those without both classes are left out.
        seed: of the bootstrap.

    Returns:
        `roc`: `fpr`, `tpr`, `low`, `high`; `pr`: `recall`, `precision`, `low`, `high`: 101 numbers in [0, 1] each, with
        four decimals; and `prevalence` of `pr`, the share with the finding, which guessing reaches.
    """
    present = np.asarray(labels) == 1
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    # The first row counts everybody once: the curve itself.
    weights = patient_weights(patients, replicates=replicates, seed=seed)
    weights = np.concatenate([np.ones((1, len(present)), dtype=weights.dtype), weights])
    grid = np.linspace(0, 1, GRID_POINTS)
    roc, pr = np.mean([_curves(present, row, weights, grid) for row in table], axis=0)  # (1 + R, G) each
    return {
        "roc": _band("fpr", "tpr", grid, roc),
        "pr": {**_band("recall", "precision", grid, pr), "prevalence": float(present.mean())},
    }


def draw_roc(roc: Mapping[str, Mapping[str, Any]], aucs: Mapping[str, str], *, out_dir: Path) -> tuple[Path, Path]:
    """Write `roc.png` and `roc.svg`.

    Args:
        roc: encoder -> `roc` of `curve_bands`.
        aucs: encoder -> its AUC as text, for the legend.
        out_dir: an existing folder.

    Returns:
        The two paths.
    """
    with picture((5.6, 5.6)) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        _draw(axes, roc, ("fpr", "tpr"), aucs)
        axes.set_xlabel("1 − specificity (false positive rate)")
        axes.set_ylabel("sensitivity (true positive rate)")
        axes.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="#D5DAE0", fontsize=9)
        return save(figure, out_dir, "roc")


def draw_pr(pr: Mapping[str, Mapping[str, Any]], areas: Mapping[str, str], *, out_dir: Path) -> tuple[Path, Path]:
    """Write `pr.png` and `pr.svg`.

    Args:
        pr: encoder -> `pr` of `curve_bands`.
        areas: encoder -> its average precision as text, for the legend.
        out_dir: an existing folder.

    Returns:
        The two paths.
    """
    with picture((5.6, 5.6)) as figure:
        axes = figure.add_subplot()
        prevalence = next(iter(pr.values()))["prevalence"]
        axes.axhline(prevalence, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        _draw(axes, pr, ("recall", "precision"), areas)
        axes.set_xlabel("recall (sensitivity)")
        axes.set_ylabel("precision (positive predictive value)")
        # Where there is room depends on the prevalence: the curves of a rare finding lie low.
        axes.legend(
            loc="upper right" if prevalence < 0.4 else "lower left",
            frameon=True,
            framealpha=0.9,
            edgecolor="#D5DAE0",
            fontsize=9,
        )
        return save(figure, out_dir, "pr")


def _draw(axes: Axes, bands: Mapping[str, Mapping[str, Any]], keys: tuple[str, str], texts: Mapping[str, str]) -> None:
    for number, (name, band) in enumerate(bands.items()):
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        x, y = (band[key] for key in keys)
        axes.fill_between(x, band["low"], band["high"], color=colour, alpha=0.13, linewidth=0)
        if keys[0] == "fpr":  # the way up to the first sensitivity
            x, y = [0.0, *x], [0.0, *y]
        axes.plot(x, y, color=colour, linestyle=style, linewidth=2, label=legend_name(name, texts.get(name, "")))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    tidy(axes)


def _band(x: str, y: str, grid: NDArray[np.float64], curves: NDArray[np.float64]) -> dict[str, list[float]]:
    bounds = np.array([ci95(column) for column in curves[1:].T])
    named = {x: grid, y: curves[0], "low": bounds[:, 0], "high": bounds[:, 1]}
    return {name: np.round(values, 4).tolist() for name, values in named.items()}


def _curves(
    present: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.int16], grid: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sensitivity at each false positive rate, precision at each recall: (2, R, G); NaN where a class has no weight."""
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    positive = present[order]
    # 29 / 100 and 0.29 may differ by a rounding error; above 0, for before the first radiograph is no precision.
    reached = np.maximum(grid - 1e-9, 1e-12)
    curves = np.full((2, len(weights), len(grid)), np.nan)
    step = max(1, _BLOCK // len(order))
    for start in range(0, len(weights), step):
        block = weights[start : start + step, order].astype(np.float64)  # (r, N)
        hits = np.cumsum(block * positive, axis=1)[:, last_of_tie]
        alarms = np.cumsum(block * ~positive, axis=1)[:, last_of_tie]
        for row, (hit, alarm) in enumerate(zip(hits, alarms, strict=True), start):
            if hit[-1] > 0 and alarm[-1] > 0:
                # At a vertical step np.interp takes the upper end, as a reader of the curve would.
                curves[0, row] = np.interp(grid, np.append(0, alarm / alarm[-1]), np.append(0, hit / hit[-1]))
                at = np.searchsorted(hit / hit[-1], reached)
                curves[1, row] = hit[at] / (hit[at] + alarm[at])
    return curves
