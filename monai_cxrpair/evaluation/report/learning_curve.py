"""The picture of the learning curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_cxrpair.evaluation.report.drawing import COLOURS, MARKERS, STYLES, legend_name, picture, save, tidy


def draw_learning_curve(
    curves: Mapping[str, Mapping[str, Any]], *, out_dir: Path, stem: str = "learning_curve"
) -> tuple[Path, Path]:
    """Write `<stem>.png` and `.svg`: AUC against labelled studies, the fit dashed where it is a forecast.

    Args:
        curves: name -> `points`, and perhaps `line`, as `learning_curve` makes them.
        out_dir: an existing folder.
        stem: of the file names.

    Returns:
        The two paths.
    """
    with picture((5.6, 4.2)) as figure:
        axes = figure.add_subplot()
        for number, (name, curve) in enumerate(curves.items()):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            x, y = ([point[key] for point in curve["points"]] for key in ("studies", "auc"))
            ends = np.array([point["ci95"] for point in curve["points"]]).T
            shift = 1 + 0.02 * (number - (len(curves) - 1) / 2)  # side by side, not on top of each other
            axes.vlines(np.multiply(x, shift), ends[0], ends[1], color=colour, linewidth=1, alpha=0.5)
            style = "none" if "line" in curve else STYLES[number % len(STYLES)]
            axes.plot(
                np.multiply(x, shift),
                y,
                color=colour,
                marker=marker,
                linestyle=style,
                markersize=5,
                label=legend_name(name),
            )
            if "line" in curve:
                studies, auc, low, high = (np.array(curve["line"][key]) for key in ("studies", "auc", "low", "high"))
                measured = studies <= max(x)
                axes.plot(studies[measured], auc[measured], color=colour, linewidth=1.6)
                axes.plot(studies[~measured], auc[~measured], color=colour, linewidth=1.2, linestyle=(0, (4, 2)))
                axes.fill_between(studies, low, high, color=colour, alpha=0.1, linewidth=0)
        axes.set_xscale("log")
        counts = sorted({point["studies"] for curve in curves.values() for point in curve["points"]})
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("labelled studies in a draw")
        axes.set_ylabel("AUC, 95 % CI")
        tidy(axes)
        axes.legend(loc="lower right", framealpha=0.9, edgecolor="#D5DAE0", fontsize=9)
        return save(figure, out_dir, stem)
