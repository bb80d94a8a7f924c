"""What a cohort table must look like. An error names the column, the first row that breaks the rule, and the rule.

No error shows the value of an identifier: it may be a patient's.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from monai_cxrpair.cohort.ordering import study_order
from monai_cxrpair.errors import CxrPairError

LATERALITIES = ("frontal", "lateral", "unknown")
SEXES = ("F", "M", "O", "")  # DICOM PS3.3 C.7.1.1 (0010,0040); empty where it is not known
IDENTIFIERS = ("image_id", "patient_id", "study_id")
REQUIRED = (*IDENTIFIERS, "path")
COLUMNS = (
    *("image_id", "patient_id", "study_id", "study_order", "study_datetime", "laterality"),
    *("view_position", "age", "sex", "path", "frame"),
)
FINDING_VALUES = (1, 0, -1)  # present, absent, uncertain; missing = not mentioned
OLDEST = 150  # years: beyond it an age is a mistake in the table


def broken(column: str, bad: "pd.Series[bool]", rule: str) -> None:
    """Raise when any value of `bad` is true.

    Args:
        column: The column that is checked.
        bad: One boolean per row of the table: does the row break the rule?
        rule: What every row must fulfil.

    Raises:
        CxrPairError: Some row breaks the rule.
    """
    mask = bad.to_numpy(dtype=bool)
    if mask.any():
        first = int(np.argmax(mask))
        more = f" (and {int(mask.sum()) - 1} more)" if mask.sum() > 1 else ""
        raise CxrPairError(f"cohort column {column!r}, row {first} counted from 0{more}: {rule}")


def complete(table: pd.DataFrame, findings: Sequence[str]) -> pd.DataFrame:
    """Give a table the columns, the types and the column order of a cohort.

    Args:
        table: At least the columns `image_id`, `patient_id`, `study_id`, `path` and the findings. The other columns of
            `COLUMNS` are filled where they are absent: laterality with `unknown`, texts with empty, `frame` with 0,
            `age` and `study_datetime` with missing, `study_order` from the studies. Further columns travel along.
        findings: Names of the label columns.

    Returns:
        A new table with row numbers 0, 1, ... as its index. Texts have no missing values, findings are float32.

    Raises:
        CxrPairError: A column is absent, or holds what cannot be converted to its type.
    """
    absent = [name for name in (*REQUIRED, *findings) if name not in table]
    if absent:
        raise CxrPairError(f"cohort column {absent[0]!r} is missing; there are: {', '.join(map(str, table.columns))}")
    table = table.reset_index(drop=True)
    for name in IDENTIFIERS:
        if not pd.api.types.is_string_dtype(table[name].dropna()):
            raise CxrPairError(
                f"cohort column {name!r}: identifiers are text, never numbers (found {table[name].dtype})"
            )
    for name, default in (("laterality", "unknown"), ("view_position", ""), ("sex", "")):
        if name not in table:
            table[name] = default
    for name in (*REQUIRED, "laterality", "view_position", "sex"):
        table[name] = table[name].fillna("").astype("str")
    if "study_datetime" not in table:
        table["study_datetime"] = pd.NaT
    table["study_datetime"] = _converted(table, "study_datetime", "datetime64[us]", "must be a date and time")
    table["age"] = _converted(table, "age", "float64", "must be a number of years") if "age" in table else np.nan
    table["frame"] = _converted(table, "frame", "int64", "must be a whole number") if "frame" in table else np.int64(0)
    if "study_order" not in table:
        table["study_order"] = study_order(table)
    table["study_order"] = _converted(table, "study_order", "int64", "must be a whole number")
    for name in findings:
        table[name] = _converted(table, name, "float32", "must be 1, 0, -1 or missing")
    further = [name for name in table.columns if name not in COLUMNS and name not in findings]
    return table[[*COLUMNS, *findings, *further]]


def _converted(table: pd.DataFrame, name: str, dtype: str, rule: str) -> pd.Series:
    values = table[name]
    try:
        if dtype.startswith("float"):  # numpy's way also takes Int8 with missing values
            return pd.Series(values.to_numpy(dtype=dtype, na_value=np.nan), index=values.index)
        converted: pd.Series = values.astype(np.dtype(dtype))
    except (TypeError, ValueError) as error:
        raise CxrPairError(f"cohort column {name!r}: {rule}") from error
    return converted


def check(table: pd.DataFrame, findings: Sequence[str]) -> None:
    """Check a table that has gone through `complete`.

    Args:
        table: The table.
        findings: Names of the label columns.

    Raises:
        CxrPairError: A rule is broken.
    """
    if not len(table):
        raise CxrPairError("the cohort has no radiograph")
    clash = [name for name in findings if name in COLUMNS]
    if clash or len(set(findings)) != len(findings):
        raise CxrPairError(f"a finding has the name of another column: {', '.join(clash or findings)}")
    for name in IDENTIFIERS:
        broken(name, table[name].str.strip() == "", "must not be empty")
    broken("path", table["path"] == "", "must not be empty")  # a file may be called by a blank
    broken("image_id", table["image_id"].duplicated(), "must be unique")
    patients = table["patient_id"].groupby(table["study_id"], sort=False).transform("first")
    broken("study_id", patients != table["patient_id"], "a study must belong to exactly one patient")
    _check_order(table)
    broken("laterality", ~table["laterality"].isin(LATERALITIES), f"must be one of {', '.join(LATERALITIES)}")
    broken("sex", ~table["sex"].isin(SEXES), "must be F, M, O or empty")
    age = table["age"]
    broken("age", age.notna() & ~age.between(0, OLDEST), f"must lie between 0 and {OLDEST} years")
    outside = table["path"].str.startswith("/") | table["path"].str.contains(r"(?:^|/)\.\.(?:/|\Z)", regex=True)
    broken("path", outside, "must be relative to the root and stay beneath it")
    broken("frame", table["frame"] < 0, "must be 0 or more")
    for name in findings:
        broken(name, table[name].notna() & ~table[name].isin(FINDING_VALUES), "must be 1, 0, -1 or missing")


def _check_order(table: pd.DataFrame) -> None:
    order = table["study_order"]
    broken("study_order", order < 0, "must be 0 or more")
    first = order.groupby(table["study_id"], sort=False).transform("first")
    broken("study_order", first != order, "must be the same in all rows of a study")
    studies = table.drop_duplicates("study_id")
    twice = studies.duplicated(["patient_id", "study_order"]).reindex(table.index, fill_value=False)
    broken("study_order", twice, "two studies of a patient must not have the same rank")
