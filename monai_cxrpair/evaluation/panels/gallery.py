"""The failure gallery: what the linear probe is most confidently wrong about, and what it is most unsure about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monai_cxrpair.cohort import views
from monai_cxrpair.evaluation.panels.panel import Evaluated, Panel
from monai_cxrpair.evaluation.panels.thumbnails import thumbnail, write_picture
from monai_cxrpair.evaluation.statistics.operating import confusion
from monai_cxrpair.evaluation.statistics.proportion import proportion
from monai_cxrpair.evaluation.statistics.subgroups import standard_subgroups

SHOWN = 6  # of each kind: two rows on a desk, three on a phone
SIDE = 224
RULE = "Youden"
# Where too few labels were drawn to choose a threshold: what a calibrated probability would be called at.
NO_RULE = 0.5


def make(evaluated: Evaluated, out_dir: Path) -> Panel | None:
    """The panel: shares of failures by laterality and view, and three rows of radiographs.

    The score of a radiograph, or of a study by its radiographs, is the mean over the draws' probes; it is called at
    the mean of the draws' thresholds.

    Args:
        evaluated: the evaluation.
        out_dir: gets `gallery_<kind>_<n>.jpg`, unless radiographs are not to be shown.
    """
    linear, units = evaluated.linear, evaluated.linear.cases.units
    scores = linear.scores[evaluated.chosen].mean(axis=0)
    points = linear.encoders[evaluated.chosen].get("operating_points")
    threshold = float(np.mean(points[RULE]["thresholds"])) if points else NO_RULE
    present, called = units.present, scores >= threshold
    table = evaluated.cohort.table
    ages = {name.removeprefix("age: "): mask for name, mask in standard_subgroups(table).items() if "age: " in name}
    order = np.argsort(scores, kind="stable")
    kinds = {
        "missed": order[(present & ~called)[order]],
        "false_alarms": order[(~present & called)[order]][::-1],
        "unsure": np.argsort(np.abs(scores - threshold), kind="stable"),
    }
    pictures: dict[str, Path] = {}
    shown: dict[str, list[dict[str, Any]]] = {}
    taken: set[int] = set()
    for kind, candidates in kinds.items():
        shown[kind] = []
        for unit in _one_a_patient(candidates, units.patients, taken):
            row = _stands_for(unit, evaluated)
            if evaluated.show_radiographs:
                key = f"gallery_{kind}_{len(shown[kind])}"
                image = evaluated.pixels([row])[0]
                pictures[key] = write_picture(thumbnail(image, SIDE), out_dir / f"{key}.jpg")
            shown[kind].append(
                {
                    "score": float(scores[unit]),
                    "present": bool(present[unit]),
                    **_facts(table.iloc[row]),
                    # To the band, not to the year.
                    "age": next((band for band, mask in ages.items() if mask[row]), None),
                }
            )
    figures = {
        "encoder": evaluated.chosen,
        "aggregate": units.aggregate,
        "draws": len(linear.scores[evaluated.chosen]),
        "threshold": threshold,
        "rule": RULE if points else None,
        "confusion": confusion(present, called),
        **_shares(present, called, units.patients),
        # A study has several views, so its failure belongs to none of them.
        "groups": _groups(evaluated, table, called) if units.aggregate == "image" else None,
        "shown": shown,
    }
    return Panel(figures=figures, pictures=pictures)


def _one_a_patient(candidates: NDArray[np.int64], patients: NDArray[np.int64], taken: set[int]) -> Iterator[int]:
    """The first few candidates, of patients of whom nothing is shown yet."""
    found = 0
    for unit in candidates:
        if found == SHOWN:
            return
        if int(patients[unit]) not in taken:
            taken.add(int(patients[unit]))
            found += 1
            yield int(unit)


def _stands_for(unit: int, evaluated: Evaluated) -> int:
    """The row of a unit that is shown: the view a study has its score from, else its first frontal one, if any."""
    units = evaluated.linear.cases.units
    end = units.starts[unit + 1] if unit + 1 < len(units.starts) else len(units.rows)
    rows = units.rows[units.starts[unit] : end]
    if units.aggregate == "study_max":
        scores = evaluated.linear.radiograph_scores[evaluated.chosen][:, units.starts[unit] : end].mean(axis=0)
        return int(rows[np.argmax(scores)])
    frontal = rows[(evaluated.cohort.table["laterality"].iloc[rows] == "frontal").to_numpy()]
    return int((frontal if len(frontal) else rows)[0])


def _facts(radiograph: pd.Series[Any]) -> dict[str, Any]:
    """The pseudonymous id to look it up by, and the view."""
    return {
        "image_id": radiograph["image_id"],
        "laterality": radiograph["laterality"],
        "view_position": views.normal_position(radiograph["view_position"] or ""),
    }


def _shares(present: NDArray[np.bool_], called: NDArray[np.bool_], patients: NDArray[np.int64]) -> dict[str, Any]:
    """Share wrong of all, missed of those with the finding, false alarms of those without."""
    wrong = present != called
    return {
        "wrong": proportion(wrong, patients),
        "missed": proportion(wrong[present], patients[present]),
        "false_alarms": proportion(wrong[~present], patients[~present]),
    }


def _groups(evaluated: Evaluated, table: pd.DataFrame, called: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """The same shares in each laterality and view; a kind with one group only would repeat the whole."""
    units = evaluated.linear.cases.units
    tested = table.iloc[units.rows]
    kinds = {
        "laterality": tested["laterality"].to_numpy(dtype=object),
        "view": np.array([views.normal_position(value or "") or "not known" for value in tested["view_position"]]),
    }
    groups = []
    for kind, values in kinds.items():
        names = sorted(set(values))
        for name in names if len(names) > 1 else ():
            inside = np.asarray(values == name)
            shares = _shares(units.present[inside], called[inside], units.patients[inside])
            groups.append({"group": f"{kind}: {name}", "radiographs": int(inside.sum()), **shares})
    return groups
