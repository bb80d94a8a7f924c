"""Who was left out on the way from the files to the tested radiographs, and why; and Table 1 by side of the split.

CLAIM 2024 (items 8 and 35), STARD and TRIPOD+AI ask for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.describe.table_one import lines, one_column
from monai_cxrpair.cohort.describe.text import meaning
from monai_cxrpair.cohort.split.split import SIDES
from monai_cxrpair.cohort.views import normal_position
from monai_cxrpair.evaluation.panels.panel import Evaluated, Panel
from monai_cxrpair.evaluation.statistics.subgroups import DEVICES

Mask = NDArray[np.bool_]


def make(evaluated: Evaluated, out_dir: Path) -> Panel:
    """Count everybody from the files to the tested radiographs; nobody is named.

    Args:
        evaluated: the evaluation.
        out_dir: unused, there is no picture: boxes of HTML can be read on a telephone too.

    Returns:
        A panel with `files` (None where the cohort file does not say what the index step saw), `indexed`,
        `patients_known`, `no_side`, `sides`, `pretraining`, `draws`, `tested` and `table_one`.
    """
    table = evaluated.whole_cohort.table
    side = np.full(len(table), "", dtype=object)
    for name in SIDES:
        side[getattr(evaluated.whole_split, f"{name}_rows")] = name
    left_out = _left_out(evaluated, table)
    sides = {
        name: {
            "all": _count(table[side == name]),
            "left_out": {reason: int((mask & (side == name)).sum()) for reason, mask in left_out.items()},
            "used": _count(evaluated.cohort.table.iloc[getattr(evaluated.split, f"{name}_rows")]),
            "labels": _labels(evaluated.labels[getattr(evaluated.split, f"{name}_rows")]),
        }
        for name in SIDES
        if (side == name).any()
    }
    return Panel(
        figures={
            "files": _files(evaluated.whole_cohort),
            "indexed": _count(table),
            "patients_known": evaluated.whole_cohort.patients_known,
            "subset": evaluated.subset,
            "no_side": int((side == "").sum()),
            "sides": sides,
            "pretraining": _pretraining(evaluated),
            "draws": _draws(evaluated),
            "tested": {
                "radiographs": len(evaluated.linear.test_rows),
                "patients": len(np.unique(evaluated.linear.test_patients)),
                "level": evaluated.linear.cases.aggregate,
                "units": len(evaluated.linear.test_labels),
                "present": int(evaluated.linear.test_labels.sum()),
            },
            "table_one": _table_one(evaluated),
        }
    )


def _files(cohort: Cohort) -> dict[str, Any] | None:
    """What the index step saw and left out. Reasons that are not ours might be anything, and are put together."""
    if "files_seen" not in cohort.intake:
        return None
    rejected: Mapping[str, int] = cohort.intake.get("rejected", {})
    known = {reason: int(count) for reason, count in rejected.items() if meaning(reason)}
    seen, lost = int(cohort.intake["files_seen"]), int(sum(rejected.values()))
    reasons = [
        {"reason": reason, "count": count, "meaning": meaning(reason)}
        for reason, count in sorted(known.items(), key=lambda item: (-item[1], item[0]))
    ]
    other = lost - sum(known.values())
    if other:
        reasons.append({"reason": "other", "count": other, "meaning": "A reason that this version does not know."})
    # Not 0 where somebody has changed the file since: the boxes would not add up, and nobody would know why.
    return {"seen": seen, "left_out": lost, "reasons": reasons, "unexplained": seen - lost - len(cohort)}


def _left_out(evaluated: Evaluated, table: pd.DataFrame) -> dict[str, Mask]:
    """Reason -> which radiographs of the whole cohort were not embedded for it; each has one reason."""
    ids = table["image_id"]
    out = ~ids.isin(set(evaluated.cohort.table["image_id"])).to_numpy(dtype=bool)
    masks: dict[str, Mask] = {}

    def claim(reason: str, mask: Mask) -> None:
        masks[reason] = out & mask
        out[masks[reason]] = False

    if evaluated.subset:
        inside = evaluated.whole_cohort.where(evaluated.subset).table["image_id"]
        claim("outside_subset", ~ids.isin(set(inside)).to_numpy(dtype=bool))
    # A line is `image_id: reason`, and either may hold a colon.
    starts = {start for line in evaluated.dataset.unreadable for start in accumulate(line.split(": "), "{}: {}".format)}
    claim("unreadable", ids.isin(starts).to_numpy(dtype=bool))
    claim("no_label", np.isnan(evaluated.whole_cohort.labels(evaluated.finding)))
    claim("not_handed_over", np.ones(len(table), dtype=bool))
    return masks


def _count(table: pd.DataFrame) -> dict[str, int]:
    return {
        "patients": int(table["patient_id"].nunique()),
        "studies": int(table["study_id"].nunique()),
        "radiographs": len(table),
    }


def _labels(labels: NDArray[np.float64]) -> dict[str, int]:
    """As they were used, that is after the policies."""
    return {
        "present": int((labels == 1).sum()),
        "absent": int((labels == 0).sum()),
        "uncertain": int((labels == -1).sum()),
        "missing": int(np.isnan(labels).sum()),
    }


def _pretraining(evaluated: Evaluated) -> dict[str, dict[str, Any]]:
    """Encoder -> how many radiographs it has seen, as its card says."""
    fingerprint = evaluated.whole_cohort.fingerprint()
    cards = {name: evaluated.encoders[name].card.get("cohort", {}) for name in evaluated.files}
    return {
        name: {"radiographs": card.get("radiographs"), "this_cohort": card.get("fingerprint") == fingerprint}
        for name, card in cards.items()
    }


def _draws(evaluated: Evaluated) -> dict[str, Any]:
    """The label draws of the first size: fewest and most of a draw."""
    counts = [_count(evaluated.cohort.table.iloc[rows]) for rows in evaluated.linear.draws]
    least_and_most = {
        name: [min(count[name] for count in counts), max(count[name] for count in counts)] for name in counts[0]
    }
    return {"draws": len(counts), **least_and_most}


def _table_one(evaluated: Evaluated) -> dict[str, Any]:
    """Those that were embedded, by side; the labels as the cohort has them, before any policy."""
    cohort, split = evaluated.cohort, evaluated.split
    shown = [evaluated.finding, *(name for name in cohort.findings if name == DEVICES != evaluated.finding)]
    table = cohort.table
    table["view_position"] = table["view_position"].map(
        {text: normal_position(text) for text in table["view_position"].unique()}  # as text it might be anything
    )
    rows = {name: getattr(split, f"{name}_rows") for name in SIDES if len(getattr(split, f"{name}_rows"))}
    columns = [
        # The first row of each patient is then one of the first study.
        one_column(table.iloc[part].sort_values("study_order", kind="stable"), shown, group=group)
        for group, part in {"all": np.concatenate(list(rows.values())), **rows}.items()
    ]
    return {"columns": columns, "lines": [line._asdict() for line in lines(columns, digits=1)]}
