"""The reliability diagram with the decision curve, and the forest plot of the subgroups."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_cxrpair.evaluation.report.drawing import COLOURS, GREY, MARKERS, STYLES, legend_name, picture, save, tidy


def draw_reliability(
    encoders: Mapping[str, Mapping[str, Any]], *, out_dir: Path, stem: str = "reliability"
) -> tuple[Path, Path]:
    """Write `<stem>.png` and `.svg`: observed share against predicted probability.

    Args:
        encoders: name -> its figures with `calibration.bins`.
        out_dir: an existing folder.
        stem: of the file names.

    Returns:
        The two paths.
    """
    with picture((5.6, 5.6)) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        for number, (name, linear) in enumerate(encoders.items()):
            bins = linear["calibration"]["bins"]
            x, y = ([row[key] for row in bins] for key in ("predicted", "observed"))
            ends = np.array([row["ci95"] or [row["observed"]] * 2 for row in bins])
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            spread = np.abs(ends.T - y)
            axes.errorbar(x, y, yerr=spread, color=colour, linestyle="none", elinewidth=1, alpha=0.45)
            line = STYLES[number % len(STYLES)]
            axes.plot(
                x, y, color=colour, marker=marker, linestyle=line, linewidth=1.5, markersize=5, label=legend_name(name)
            )
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set_xlabel("predicted probability")
        axes.set_ylabel("share with the finding")
        tidy(axes)
        axes.legend(loc="upper left", framealpha=0.9, edgecolor="#D5DAE0", fontsize=9)
        return save(figure, out_dir, stem)


def draw_decision(
    encoders: Mapping[str, Mapping[str, Any]], *, out_dir: Path, unit: str = "radiograph", stem: str = "decision"
) -> tuple[Path, Path]:
    """Write `<stem>.png` and `.svg`: net benefit of each encoder, of treating all and none.

    Args:
        encoders: name -> its figures with `decision`.
        out_dir: an existing folder.
        unit: radiograph or study, whichever is tested.
        stem: of the file names.

    Returns:
        The two paths.
    """
    with picture((5.6, 4.2)) as figure:
        axes = figure.add_subplot()
        top = 0.0
        for number, (name, linear) in enumerate(encoders.items()):
            curve = linear["decision"]
            if number == 0:
                axes.plot(curve["thresholds"], curve["treat_all"], color=GREY, linewidth=1.2, label="act on all")
                axes.axhline(0, color="#3B4652", linewidth=1.2, label="act on none")
            colour, line = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
            axes.plot(curve["thresholds"], curve["net_benefit"], color=colour, linestyle=line, label=legend_name(name))
            top = max(top, *curve["net_benefit"], *curve["treat_all"])
        # What falls far below 0 is worthless; how far does not matter.
        axes.set(xlim=(0, 1), ylim=(-0.25 * top, 1.08 * top))
        axes.set_xlabel("probability from which one would act")
        axes.set_ylabel(f"net benefit per {unit}")
        tidy(axes)
        axes.legend(loc="upper right", framealpha=0.9, edgecolor="#D5DAE0", fontsize=9)
        return save(figure, out_dir, stem)


def forest_data(encoders: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the forest plot, everybody first; subgroups in which nothing was measured are left out.

    Args:
        encoders: name -> its figures with `auc_mean`, `ci95` and `subgroups`.

    Returns:
        A row each: `group`, `tested` (radiographs or studies) and `present` (None for everybody), `encoders`: name ->
        `auc`, `ci95`.
    """
    rows: list[dict[str, Any]] = [{"group": "everybody", "tested": None, "present": None, "encoders": _aucs(encoders)}]
    first = next(iter(encoders.values()))
    for group, counts in first.get("subgroups", {}).items():
        measured = _aucs({name: linear["subgroups"][group] for name, linear in encoders.items()})
        if measured:
            rows.append(
                {
                    "group": group,
                    "tested": counts["studies" if "studies" in counts else "radiographs"],
                    "present": counts["present"],
                    "encoders": measured,
                }
            )
    return rows


def draw_forest(encoders: Mapping[str, Mapping[str, Any]], *, out_dir: Path) -> tuple[Path, Path] | None:
    """Write `forest.png` and `.svg`: the AUC with its interval in each subgroup.

    Args:
        encoders: as for `forest_data`.
        out_dir: an existing folder.

    Returns:
        The two paths, None where no subgroup was measured.
    """
    rows = forest_data(encoders)
    if len(rows) == 1:
        return None
    names = list(encoders)
    step = 0.7 / len(names)
    height = 1.1 + 0.22 * len(names) + len(rows) * max(0.36, 0.13 * len(names))
    with picture((5.6, height)) as figure:
        axes = figure.add_subplot()
        for number, name in enumerate(names):
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            there = [(row, line["encoders"][name]) for row, line in enumerate(rows) if name in line["encoders"]]
            y = [row + (number - (len(names) - 1) / 2) * step for row, _ in there]
            ends = np.array([found["ci95"] for _, found in there]).T
            axes.hlines(y, ends[0], ends[1], color=colour, linewidth=1.4)
            x = [found["auc"] for _, found in there]
            axes.plot(x, y, color=colour, marker=marker, linestyle="none", markersize=4.5, label=legend_name(name))
        axes.axvline(0.5, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        axes.axhline(0.5, color="#D5DAE0", linewidth=1)
        axes.set_yticks(range(len(rows)), [_row_label(row) for row in rows], fontsize=9)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_xlabel("AUC, 95 % CI")
        tidy(axes)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper center", frameon=False, fontsize=9, ncols=1 if len(names) < 4 else 2)
        return save(figure, out_dir, "forest")


def _aucs(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {"auc": found["auc_mean"], "ci95": found["ci95"]}
        for name, found in entries.items()
        if found.get("auc_mean") is not None
    }


def _row_label(row: Mapping[str, Any]) -> str:
    """Name and, below it, how many have the finding."""
    name = legend_name(row["group"])
    return name if row["tested"] is None else f"{name}\n{row['present']} of {row['tested']}"
