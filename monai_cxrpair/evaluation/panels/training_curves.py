"""How the pre-training of each encoder went, from the `history.jsonl` that training left beside its `encoder.pt`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_cxrpair.evaluation.panels.panel import Evaluated, Panel
from monai_cxrpair.evaluation.report.drawing import COLOURS, STYLES, legend_name, picture, save, tidy

# Figure of the history -> title of its picture and which way is good. See `Monitors` and `StepOutput` of `contrast`.
CURVES = {
    "loss": "contrastive loss (lower)",
    "accuracy": "partner found (higher)",
    "alignment": "alignment of partners (lower)",
    "uniformity": "uniformity (lower)",
    "effective_rank": "dimensions filled (higher)",
    "knn_auc": "kNN AUC, validation side (higher)",
}
_FEW = 40  # epochs: so many can be told apart as dots
_LAST = 10**9  # the number of an epoch above it is damage


def make(evaluated: Evaluated, out_dir: Path) -> Panel | None:
    """Draw the curves of all trained encoders into one picture.

    Args:
        evaluated: the evaluation.
        out_dir: gets `training_curves.png` and `.svg`.

    Returns:
        A panel with `encoders` (name -> `epochs`, `encoder_epoch`, `chosen_by`, `damaged`, `curves`) and `left_out`
        (name -> why); None where no encoder has a history.
    """
    found: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for name, file in evaluated.files.items():
        path = Path(file).with_name("history.jsonl")
        if not path.exists():
            continue
        try:
            lines, damaged = read_history(path)
        except OSError as error:
            left_out[name] = f"its history.jsonl cannot be read ({error.strerror})"
            continue
        training = evaluated.encoders[name].card.get("training", {})
        if not lines:
            left_out[name] = "no line of its history.jsonl can be read"
        elif not of_this_run(lines, training):
            left_out[name] = "history.jsonl beside it is of another run: its loss is not the one on the encoder's card"
        else:
            found[name] = {
                "epochs": max(lines),
                "encoder_epoch": training.get("epoch"),
                "chosen_by": training.get("chosen_by"),
                "damaged": damaged,
                "curves": {curve: points for curve in CURVES if (points := _points(lines, curve))["epochs"]},
            }
    if not found and not left_out:
        return None
    # Beside no curve there is nothing to look at, but why stands in the report.
    drawn = {name: number for number, name in enumerate(evaluated.encoders) if found.get(name, {}).get("curves")}
    pictures = {"training_curves": draw_curves(found, drawn, out_dir=out_dir)[1]} if drawn else {}
    return Panel(figures={"encoders": found, "left_out": left_out}, pictures=pictures)


def read_history(path: Path) -> tuple[dict[int, dict[str, Any]], int]:
    """What can be read of a history.

    Args:
        path: of `history.jsonl`.

    Returns:
        Epoch -> its figures, in the order of the epochs, the later line where an epoch stands there twice; and how many
        lines are damaged.

    Raises:
        OSError: the file cannot be read.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    lines: dict[int, dict[str, Any]] = {}
    damaged = 0
    for line in filter(str.strip, text.splitlines()):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        epoch = entry.get("epoch") if isinstance(entry, dict) else None
        if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 < epoch < _LAST:
            damaged += 1
        else:
            lines[epoch] = entry
    return dict(sorted(lines.items())), damaged


def of_this_run(lines: Mapping[int, Mapping[str, Any]], training: Mapping[str, Any]) -> bool:
    """Whether a history may be that of an encoder: its loss in the epoch of the encoder is the one on the card."""
    loss, epoch = (training.get("last_epoch") or {}).get("loss"), training.get("epoch")
    # A line may be lost, and an older card says less.
    if loss is None or not isinstance(epoch, int) or epoch not in lines:
        return True
    there = _number(lines[epoch].get("loss"))
    return there is None or math.isclose(there, loss, rel_tol=1e-6)


def _points(lines: Mapping[int, Mapping[str, Any]], curve: str) -> dict[str, list[Any]]:
    """The epochs in which a figure was measured, and what it was: None where it was not finite."""
    measured = {epoch: _number(line[curve]) for epoch, line in lines.items() if curve in line}
    return {"epochs": list(measured), "values": list(measured.values())}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond all floats
        return None


def draw_curves(
    encoders: Mapping[str, Mapping[str, Any]], drawn: Mapping[str, int], *, out_dir: Path
) -> tuple[Path, Path]:
    """Write `training_curves.png` and `.svg`: a small picture for each figure that any encoder has.

    Args:
        encoders: name -> `encoder_epoch` and `curves`.
        drawn: the encoders that have curves -> number of their colour, the same as in the other pictures.
        out_dir: an existing folder.

    Returns:
        The two paths.
    """
    titles = {curve: title for curve, title in CURVES.items() if any(curve in encoders[n]["curves"] for n in drawn)}
    rows = -(-len(titles) // 2)
    with picture((5.6, 0.6 + 1.9 * rows + 0.2 * len(drawn))) as figure:
        figure.get_layout_engine().set(hspace=0.06, wspace=0.06)  # type: ignore[union-attr, call-arg]
        handles = {}
        for place, (curve, title) in enumerate(titles.items(), start=1):
            axes = figure.add_subplot(rows, 2, place)
            for name, number in drawn.items():
                points = encoders[name]["curves"].get(curve)
                if points is None:
                    continue
                colour, y = COLOURS[number % len(COLOURS)], [math.nan if v is None else v for v in points["values"]]
                few = "." if len(y) <= _FEW else ""
                line = STYLES[number % len(STYLES)]
                axes.plot(
                    points["epochs"],
                    y,
                    color=colour,
                    linestyle=line,
                    linewidth=1.4,
                    marker=few,
                    markersize=4,
                    alpha=0.9,
                )
                handles[name] = axes.lines[-1]
                if encoders[name]["encoder_epoch"] in points["epochs"]:
                    chosen = y[points["epochs"].index(encoders[name]["encoder_epoch"])]
                    axes.plot(
                        encoders[name]["encoder_epoch"], chosen, color=colour,
                        marker="D", markersize=6, markeredgecolor="#1c2733", clip_on=False, zorder=5,
                    )  # fmt: skip
            axes.set_title(title, fontsize=9, loc="left")
            axes.locator_params(axis="x", integer=True, nbins=5)
            axes.tick_params(labelsize=8)
            if place > len(titles) - 2:
                axes.set_xlabel("epoch", fontsize=9)
            tidy(axes)
        figure.legend(
            handles.values(), [legend_name(name) for name in handles],
            loc="outside upper center", frameon=False, fontsize=9,
        )  # fmt: skip
        return save(figure, out_dir, "training_curves")
