"""Draws that somebody else made: CSV files whose Path column names radiographs, as the paper's five splits do."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.readers.textfile import read_text_table
from monai_cxrpair.cohort.split.draws import MIN_STUDIES_PER_CLASS, LabelDraws
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.protocols.labels import certain

logger = logging.getLogger(__name__)


def file_draws(
    files: Sequence[str], cohort: Cohort, labels: NDArray[np.float64], train_rows: NDArray[np.int64]
) -> tuple[LabelDraws, list[dict[str, int]]]:
    """The draws of files, one file each, such as `label_fractions/train_semi_0.01-it0.csv`.

    A path of the file may have other folders in front than the cohort's, or fewer: one must end in the other, folder
    by folder; or it ends in an image id, which for CheXpert is `patient00001/study1/view1_frontal`. The labels are the
    cohort's: those in the file are not read.

    Args:
        files: CSV (or other tables) with a column `Path` or `path`.
        cohort: the radiographs that are evaluated.
        labels: (N,) of the cohort, after `apply_policy`.
        train_rows: rows of the training side.

    Returns:
        The draws as positions in `train_rows`; and for each file `rows`, `matched`, `other_side` (matched, but not of
        the training side: left out), `unlabelled` (no certain label: left out), `used`.

    Raises:
        CxrPairError: a file without such a column, of which no row is in the cohort, or without two of each class.
    """
    known = _endings(cohort)
    position = np.full(len(cohort), -1, dtype=np.int64)
    position[train_rows] = np.arange(len(train_rows))
    draws: list[NDArray[np.int64]] = []
    counts: list[dict[str, int]] = []
    for file in files:
        rows, asked = _matched(file, known)
        there = position[rows] >= 0
        usable = there & certain(labels[rows])
        chosen = rows[usable]
        count = {
            "rows": asked,
            "matched": len(rows),
            "other_side": int((~there).sum()),
            "unlabelled": int((there & ~usable).sum()),
            "used": len(chosen),
        }
        logger.info("label_draw_files: %s: %s", Path(file).name, ", ".join(f"{v} {k}" for k, v in count.items()))
        present = int((labels[chosen] == 1).sum())
        if min(present, len(chosen) - present) < MIN_STUDIES_PER_CLASS:
            raise CxrPairError(
                f"label_draw_files: {file} leaves {present} radiographs of the training side with the finding and "
                f"{len(chosen) - present} without, at least {MIN_STUDIES_PER_CLASS} of each are needed "
                f"({count['matched']} of {asked} rows are in the cohort, {count['other_side']} of them on another side)"
            )
        draws.append(np.sort(position[chosen]))
        counts.append(count)
    drawn = LabelDraws(
        rows=draws,
        labelled_studies=None,
        studies_per_draw=None,
        redrawn=None,
        uncertain=int((labels[train_rows] == -1).sum()),
        missing=int(np.isnan(labels[train_rows]).sum()),
        source="files",
    )
    return drawn, counts


def _endings(cohort: Cohort) -> dict[str, Any]:
    """Whole paths and image ids, and every ending of a path that only one radiograph has -> row."""
    table = cohort.table
    whole: dict[str, int] = {}
    endings: dict[str, int] = {}
    for row, (path, image) in enumerate(zip(table["path"].tolist(), table["image_id"].tolist(), strict=True)):
        parts = _parts(path)
        whole["/".join(parts)] = row
        whole.setdefault(image, row)
        for start in range(1, len(parts)):
            ending = "/".join(parts[start:])
            endings[ending] = -1 if endings.get(ending, row) != row else row  # -1: of several radiographs
    return {"whole": whole, "endings": endings}


def _matched(file: str, known: dict[str, Any]) -> tuple[NDArray[np.int64], int]:
    """The distinct rows that a file names, and how many rows it has."""
    table = read_text_table(Path(file))
    column = next((name for name in ("Path", "path") if name in table), None)
    if column is None:
        raise CxrPairError(f"label_draw_files: {file} has no column Path; it has: {', '.join(table.columns)}")
    rows = [_find(path, known) for path in table[column].tolist()]
    found = sorted({row for row in rows if row >= 0})
    if not found:
        example = table[column].iloc[0]
        raise CxrPairError(
            f"label_draw_files: none of the {len(rows)} paths of {file} is in the cohort (the first: {example}); "
            "is it a draw of another data set?"
        )
    return np.array(found, dtype=np.int64), len(rows)


def _find(path: str, known: dict[str, Any]) -> int:
    parts = _parts(path)
    whole: dict[str, int] = known["whole"]
    for start in range(len(parts)):
        ending = "/".join(parts[start:])
        for name in (ending, ending.rpartition(".")[0]):
            # A bare file name says which radiograph only where the cohort's path or id is no more than that.
            if name and name in whole:
                return whole[name]
    return int(known["endings"].get("/".join(parts), -1))


def _parts(path: str) -> list[str]:
    return [part for part in path.strip().replace("\\", "/").split("/") if part not in ("", ".")]
