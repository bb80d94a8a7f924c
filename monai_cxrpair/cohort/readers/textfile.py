"""Read a table as text: what looks like a number stays as it is written, so that `00001280` keeps its zeros."""

import csv
import gzip
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from monai_cxrpair.errors import CxrPairError

_TEXT = (".csv", ".tsv", ".txt")
_EXCEL = (".xlsx", ".xlsm")
MAX_COLUMNS = 10_000
_WIDER = "its rows have more cells than its first line has names"
_LONGEST_LINE = 1 << 20  # characters
SUFFIXES = (*_TEXT, *(f"{suffix}.gz" for suffix in _TEXT), *_EXCEL, ".parquet")


def is_table(path: Path) -> bool:
    """Say whether the name of a file is that of a table that `read_text_table` reads."""
    return path.name.lower().endswith(SUFFIXES)


def read_text_table(path: Path) -> pd.DataFrame:
    """Read CSV, TSV (both also gzipped), Excel (first sheet) or parquet.

    Args:
        path: The file; for text the separator is the one of `,`, `;`, tab that the first line holds most of.

    Returns:
        All values as text; an empty cell is an empty text.

    Raises:
        CxrPairError: The file is missing, empty, not UTF-8, or not what its name says.
    """
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise CxrPairError(f"{path} is no table: it should end with one of {', '.join(SUFFIXES)}")
    import pyarrow.parquet as pq

    try:
        if name.endswith(_EXCEL):
            table = pd.read_excel(path, dtype=str, keep_default_na=False, na_filter=False)
        elif name.endswith(".parquet"):
            pq.read_table(path, partitioning=None).validate(full=True)  # else texts may be no Unicode
            table = _as_text(pd.read_parquet(path))
        else:
            separator = _separator(path)
            table = pd.read_csv(path, sep=separator, dtype=str, na_filter=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise CxrPairError(f"no table {path}") from error
    except UnicodeDecodeError as error:
        raise CxrPairError(f"{path} is not UTF-8 text: save it as CSV UTF-8") from error
    except CxrPairError:
        raise
    except Exception as error:  # pandas, openpyxl and Arrow, fed foreign bytes, may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CxrPairError(f"{path} cannot be read as a table: {reason}") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first cells for names of the rows
        raise CxrPairError(f"{path}: {_WIDER}")
    if not len(table):
        raise CxrPairError(f"{path} has no rows")
    table.columns = pd.Index([str(column) for column in table.columns])
    return table


def _separator(path: Path) -> str:
    """Of `,`, `;`, tab the one that the first line holds most of, outside of quotes.

    Raises:
        CxrPairError: There are more columns than any table has, or a row has more cells: pandas takes the surplus for
            an index. The square of their number goes into its time.
    """
    starts = {separator: _start(path, separator) for separator in (",", ";", "\t")}
    tabs = path.name.lower().removesuffix(".gz").endswith(".tsv")
    separator = "\t" if tabs else max(starts, key=lambda each: len(starts[each][0]))
    names, row = starts[separator]
    if len(names) > MAX_COLUMNS:
        raise CxrPairError(f"{path} has {len(names)} columns, no table of radiographs has so many")
    if len(row) > len(names):
        raise CxrPairError(f"{path}: {_WIDER}")
    return separator


def _start(path: Path, separator: str) -> tuple[list[str], list[str]]:
    """The names of the columns, which may go on in the next line, and the cells of the first row."""
    with _opened(path) as file:
        rows = csv.reader(iter(partial(file.readline, _LONGEST_LINE), ""), delimiter=separator)
        try:
            names = next(rows, [])
        except csv.Error as error:
            raise CxrPairError(f"{path}: its first line holds no names of columns ({error})") from error
        try:
            return names, next(filter(None, rows), [])
        except csv.Error:  # pandas tells of the line
            return names, []


def _opened(path: Path) -> TextIO:
    opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
    file: TextIO = opener(path, "rt", encoding="utf-8-sig", newline="")
    return file


def _as_text(table: pd.DataFrame) -> pd.DataFrame:
    """Write whole floats of a nullable integer column as integers: a missing id must not turn 7 into `7.0`."""
    columns = {}
    for name in table.columns:
        values = table[name]
        if pd.api.types.is_float_dtype(values.dtype) and values.dropna().mod(1).eq(0).all():
            values = values.astype("Int64")
        columns[name] = values.astype("str").mask(values.isna(), "")
    return pd.DataFrame(columns)
