"""Which column of somebody's table is which column of the cohort."""

import re
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from monai_cxrpair.cohort import schema, views
from monai_cxrpair.errors import CxrPairError

# Names in lower case without anything but letters and digits; the first that a table has is taken.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "image_id": ("imageid", "sopinstanceuid", "dicomid", "imageindex"),
    "patient_id": ("patientid", "subjectid", "patient", "subject"),
    "study_id": ("studyid", "studyinstanceuid", "study"),
    "path": ("path", "imagepath", "filepath", "filename", "file"),
    "laterality": ("laterality", "frontallateral"),
    "view_position": ("viewposition", "appa", "projection"),
    "age": ("age", "patientage", "ageyears"),
    "sex": ("sex", "patientsex", "gender", "patientgender"),
    "study_datetime": ("studydatetime", "studydate"),
    "frame": ("frame",),
}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([YMWD]?)")
_PER_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}  # DICOM PS3.5 6.2, value representation AS


def squashed(name: str) -> str:
    """Reduce a column name to its letters and digits in lower case."""
    return re.sub(r"[^0-9a-z]", "", name.lower())


def require(table: pd.DataFrame, name: str) -> None:
    """Raise CxrPairError unless the table has the column; the message lists the columns there are."""
    if name not in table:
        raise CxrPairError(f"the table has no column {name!r}; there are: {', '.join(table.columns)}")


def assign(table: pd.DataFrame, wanted: Mapping[str, str]) -> dict[str, str]:
    """Find the source column of each cohort column.

    Args:
        table: The table as text.
        wanted: Cohort column -> source column, as the user gave them.

    Returns:
        Cohort column -> source column, for those that were given or found by name.

    Raises:
        CxrPairError: A given column does not exist in the cohort or in the table.
    """
    for target, source in wanted.items():
        if target not in SYNONYMS:
            raise CxrPairError(
                f"--column {target}={source}: the cohort has no such column; it has {', '.join(SYNONYMS)}"
            )
        require(table, source)
    found = dict(wanted)
    names = {squashed(name): name for name in reversed(table.columns)}  # the first of equal names wins
    for target, synonyms in SYNONYMS.items():
        match = next((names[name] for name in synonyms if name in names and names[name] not in found.values()), None)
        if target not in found and match is not None:
            found[target] = match
    if "view" in names and names["view"] not in found.values():
        # `view` is written for both; its values tell which one is meant.
        texts = set(table[names["view"]].str.strip().str.lower()) - {""}
        target = "laterality" if texts <= set(schema.LATERALITIES) else "view_position"
        found.setdefault(target, names["view"])
    return found


def parse_age(text: str) -> float:
    """Read an age in years: `81`, `081Y`, `18M`, `003W`, `010D`; not a number where it is something else."""
    match = _AGE.fullmatch(text.strip().upper())
    if match is None:
        return float("nan")
    age = float(match[1]) / _PER_YEAR[match[2]]
    return age if age <= schema.OLDEST else float("nan")


def parse_sex(text: str) -> str:
    """Read a sex: M, F, O (DICOM), or empty where it is not known."""
    word = text.strip().upper()
    return {"MALE": "M", "FEMALE": "F", "OTHER": "O"}.get(word, word if word in schema.SEXES else "")


def parse_laterality(text: str) -> str:
    """Read a laterality: frontal, lateral, or a view position that proves one; else unknown."""
    word = text.strip().lower()
    return word if word in schema.LATERALITIES else views.laterality_of(text)


def parsed(texts: pd.Series, parse: Callable[[str], object], dtype: str) -> pd.Series:
    """Apply a parser to the different texts of a column only: a column of 200,000 rows has a few dozen."""
    values: pd.Series = texts.map({text: parse(text) for text in texts.unique()})
    return values.astype("str") if dtype == "str" else values.astype(np.dtype(dtype))
