"""The mean ROC curve of an encoder with its bootstrap band, and the picture of several."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_cxrpair.evaluation.report.drawing import COLOURS, GREY, STYLES, legend_name, picture, save, tidy
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, patient_weights

# The band is drawn, not tabulated: 500 replicates are smooth to the eye.
BAND_REPLICATES = 500
GRID_POINTS = 101


def roc_band(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, *, replicates: int = BAND_REPLICATES, seed: int = 0
) -> dict[str, list[float]]:
    """Mean ROC over the draws' probes with a pointwise 95 % patient-bootstrap band.

    Averaged vertically: at each false positive rate the sensitivities of the probes are averaged, in each replicate
    as in the whole test side.

    Args:
        labels: (N,) 0 or 1, both there.
        scores: (D, N) one row for each draw.
        patients: (N,) patient codes.
        replicates: bootstrap replicates for the band.
        seed: of the bootstrap.

    Returns:
        `fpr`, `tpr`, `low`, `high`: 101 numbers in [0, 1] each, with four decimals.
    """
    present = np.asarray(labels) == 1
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    # The first row counts everybody once: the curve itself.
    weights = patient_weights(patients, replicates=replicates, seed=seed).astype(np.float64)
    weights = np.concatenate([np.ones((1, len(present))), weights])
    grid = np.linspace(0, 1, GRID_POINTS)
    curves = np.mean([_curves(present, row, weights, grid) for row in table], axis=0)  # (1 + R, G)
    bounds = np.array([ci95(column) for column in curves[1:].T])
    named = {"fpr": grid, "tpr": curves[0], "low": bounds[:, 0], "high": bounds[:, 1]}
    return {name: np.round(values, 4).tolist() for name, values in named.items()}


def draw_roc(roc: Mapping[str, Mapping[str, Any]], aucs: Mapping[str, str], *, out_dir: Path) -> tuple[Path, Path]:
    """Write `roc.png` and `roc.svg`.

    Args:
        roc: encoder -> what `roc_band` returns.
        aucs: encoder -> its AUC as text, for the legend.
        out_dir: an existing folder.

    Returns:
        The two paths.
    """
    with picture((5.6, 5.6)) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        for number, (name, band) in enumerate(roc.items()):
            colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
            axes.fill_between(band["fpr"], band["low"], band["high"], color=colour, alpha=0.13, linewidth=0)
            fpr, tpr = [0.0, *band["fpr"]], [0.0, *band["tpr"]]
            label = legend_name(name, aucs.get(name, ""))
            axes.plot(fpr, tpr, color=colour, linestyle=style, linewidth=2, label=label)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set_xlabel("1 − specificity (false positive rate)")
        axes.set_ylabel("sensitivity (true positive rate)")
        tidy(axes)
        axes.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="#D5DAE0", fontsize=9)
        return save(figure, out_dir, "roc")


def _curves(
    present: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.float64], grid: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sensitivity (R, G) at each false positive rate of the grid; NaN rows where a class has no weight."""
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(weights[:, order] * present[order], axis=1)[:, last_of_tie]
    alarms = np.cumsum(weights[:, order] * ~present[order], axis=1)[:, last_of_tie]
    curves = np.full((len(weights), len(grid)), np.nan)
    for curve, hit, alarm in zip(curves, hits, alarms, strict=True):
        if hit[-1] > 0 and alarm[-1] > 0:
            # At a vertical step np.interp takes the upper end, as a reader of the curve would.
            curve[:] = np.interp(grid, np.append(0, alarm / alarm[-1]), np.append(0, hit / hit[-1]))
    return curves
