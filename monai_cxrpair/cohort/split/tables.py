"""Splits that somebody else made: tables that name the radiographs, studies or patients of a side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.readers import columns
from monai_cxrpair.cohort.readers.textfile import read_text_table
from monai_cxrpair.cohort.split.draws import SavedDraws
from monai_cxrpair.cohort.split.split import SIDES
from monai_cxrpair.errors import CxrPairError

LEFT_OUT = -1
PUBLISHED = "published_split"  # the column that readers of datasets with a split of their own fill
_KEYS = ("image_id", "path", "study_id", "patient_id")  # in this order: the first one of which anything fits
_WORDS = {
    **dict.fromkeys(("train", "training"), 0),
    **dict.fromkeys(("validation", "validate", "valid", "val", "dev", "tune"), 1),
    **dict.fromkeys(("test", "testing"), 2),
    **dict.fromkeys(("", "none", "unused"), LEFT_OUT),
}


@dataclass(frozen=True, kw_only=True)
class TableSides:
    """The sides that tables name.

    Attributes:
        sides: int64 (radiographs,), the position in `SIDES`, or LEFT_OUT where no table names the radiograph.
        notes: What matched and what did not, a line for each table.
    """

    sides: npt.NDArray[np.int64]
    notes: list[str] = field(default_factory=list)


def sides_of_tables(cohort: Cohort, tables: Mapping[str, Sequence[Path]], split_table: Path | None) -> TableSides:
    """Read the sides from one table for each side, or from one table with a column that names the side.

    Args:
        cohort: The radiographs.
        tables: `train`, `validation`, `test` -> tables whose rows are on that side: CheXpert's train.csv and valid.csv,
            MedAug's files, NIH's lists of image names. They are matched by image id, path (its end is enough), study
            id or patient id, whichever of these columns fits first.
        split_table: A table with a column `split` (MIMIC-CXR-JPG's, for example), or None.

    Returns:
        The sides.

    Raises:
        CxrPairError: A table cannot be read or fits nothing, or a radiograph is on two sides.
    """
    named = TableSides(sides=np.full(len(cohort), LEFT_OUT, dtype=np.int64))
    for side, files in tables.items():
        for file in files:
            raw = _read(file)
            rows = match_rows(cohort, raw, file, named.notes)
            _put(named.sides, rows >= 0, np.full(len(raw), SIDES.index(side))[rows], file)
    if split_table is not None:
        raw = _read(split_table)
        column = next((name for name in raw.columns if columns.squashed(name) in ("split", "publishedsplit")), None)
        if column is None:
            raise CxrPairError(f"{split_table} has no column 'split'; there are: {', '.join(raw.columns)}")
        value = _numbers(raw[column], f"{split_table}: column {column!r}")
        # Each side apart, so that a key with two sides shows as an overlap instead of losing one of them.
        for number in range(len(SIDES)):
            part = raw[value == number].reset_index(drop=True)
            if len(part):
                rows = match_rows(cohort, part, split_table, named.notes)
                _put(named.sides, rows >= 0, np.full(len(cohort), number), split_table)
    return named


def published_sides(cohort: Cohort) -> TableSides:
    """Read the sides from the column `published_split` of the cohort.

    Raises:
        CxrPairError: The cohort has no such column, or it holds another word.
    """
    if PUBLISHED not in cohort.table:
        raise CxrPairError(f"the cohort has no column {PUBLISHED!r}: its dataset came without a split of its own")
    texts = cohort.table[PUBLISHED].fillna("").astype("str")
    return TableSides(sides=_numbers(texts, f"cohort column {PUBLISHED!r}"))


def put_rest(sides: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], rest: str) -> npt.NDArray[np.int64]:
    """Put radiographs that no table names on a side, unless somebody of their group is named on another side.

    Args:
        sides: int64 (radiographs,), positions in `SIDES`, LEFT_OUT where no table names the radiograph.
        groups: int64 (radiographs,), see `find_links`.
        rest: The side.

    Returns:
        int64 (radiographs,), the sides.
    """
    number = SIDES.index(rest)
    elsewhere = np.isin(groups, groups[(sides != LEFT_OUT) & (sides != number)])
    return np.where((sides == LEFT_OUT) & ~elsewhere, np.int64(number), sides)


def draws_of_tables(
    cohort: Cohort, files: Sequence[Path], *, finding: str, fraction: float, notes: list[str]
) -> SavedDraws:
    """Read label draws that somebody else made, such as MedAug's train_semi_0.01-it0.csv to -it4.csv.

    Args:
        cohort: The radiographs.
        files: One table for each draw, matched as in `sides_of_tables`.
        finding: The finding whose labels are learned from; radiographs without a certain label do no harm.
        fraction: The label fraction that they stand for.
        notes: Gets one line for each table.

    Returns:
        The draws.

    Raises:
        CxrPairError: The finding does not exist, or a table cannot be read or fits nothing.
    """
    cohort.labels(finding)  # an error where the cohort has no such finding
    images = cohort.table["image_id"].to_numpy(dtype=object)
    found = [images[match_rows(cohort, _read(file), file, notes) >= 0] for file in files]
    return SavedDraws(finding=finding, fraction=fraction, image_ids=tuple(tuple(ids) for ids in found))


def match_rows(cohort: Cohort, raw: pd.DataFrame, file: Path, notes: list[str]) -> npt.NDArray[np.int64]:
    """Find for each radiograph the row of a table that names it.

    Args:
        cohort: The radiographs.
        raw: The table as text.
        file: Its name, for notes and errors.
        notes: Gets one line: the key, and what did not match on either side.

    Returns:
        int64 (radiographs,), the position of the row, -1 where there is none.

    Raises:
        CxrPairError: The table has none of the keys, or nothing fits.
    """
    source = columns.assign(raw, {})
    keys = [key for key in _KEYS if key in source]
    if not keys:
        raise CxrPairError(f"{file} has none of the columns {', '.join(_KEYS)}; there are: {', '.join(raw.columns)}")
    for key in keys:
        own, theirs = cohort.table[key], raw[source[key]].str.strip()
        if key == "path":
            own, theirs = _comparable(own, theirs)
        elif key == "study_id" and "patient_id" in source and not theirs.isin(own).any():
            theirs = raw[source["patient_id"]].str.strip() + "/" + theirs  # as `index` names studies `1`, `2`, ...
        unique = theirs.drop_duplicates()
        found = pd.Index(unique).get_indexer(pd.Index(own))
        if (found >= 0).any():
            rows = np.where(found >= 0, unique.index.to_numpy()[found], -1).astype(np.int64)
            strangers = int((~theirs.isin(own)).sum())
            notes.append(
                f"{file.name}: {int((rows >= 0).sum())} radiographs found by {key}; {strangers} of its {len(raw)} rows "
                f"fit none, {int((rows < 0).sum())} radiographs are not in it"
            )
            return rows
    raise CxrPairError(f"{file}: none of its {len(raw)} rows fits a radiograph of the cohort by {', '.join(keys)}")


def _read(file: Path) -> pd.DataFrame:
    """Read a table; a plain list of image names (NIH's test_list.txt) has no header."""
    raw = read_text_table(file)
    if raw.shape[1] == 1 and not columns.assign(raw, {}):
        names = [*raw.columns, *raw.iloc[:, 0]]
        raw = pd.DataFrame({"image_id": names}, dtype="str")
    return raw


def _comparable(own: pd.Series, theirs: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Cut paths to their longest common way of writing: as many of the last parts as let any of them be equal."""
    slashes = [paths.str.replace("\\", "/", regex=False).tolist() for paths in (own, theirs)]
    longest = min(max(path.count("/") for path in paths) for paths in slashes) + 1
    for length in range(longest, 0, -1):
        ends = [pd.Series([_end(path, length) for path in paths], dtype="str") for paths in slashes]
        if ends[0].isin(ends[1]).any():
            if ends[0].duplicated().any():  # `view1_frontal.jpg` alone says nothing
                break
            return ends[0], ends[1]
    return own, theirs


def _end(path: str, parts: int) -> str:
    return "/".join(path.rsplit("/", parts)[-parts:])


def _numbers(texts: pd.Series, what: str) -> npt.NDArray[np.int64]:
    numbers = texts.str.strip().str.lower().map(_WORDS)
    if numbers.isna().any():
        wrong = texts[numbers.isna()].iloc[0]
        raise CxrPairError(f"{what} holds {wrong!r}: it must be train, validation, test or empty")
    return np.asarray(numbers, dtype=np.int64)


def _put(
    sides: npt.NDArray[np.int64], named: npt.NDArray[np.bool_], numbers: npt.NDArray[np.int64], file: Path
) -> None:
    clash = named & (sides != LEFT_OUT) & (sides != numbers)
    if clash.any():
        raise CxrPairError(f"{file}: {int(clash.sum())} radiographs are on two sides")
    sides[named] = numbers[named]
