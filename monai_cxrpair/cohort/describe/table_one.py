"""Table 1 of a clinical paper: who is in the cohort, one column for all and one for each group.

No p-values: STROBE (Vandenbroucke et al., PLoS Med 2007, item 14a) advises against tests in a descriptive table.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from monai_cxrpair.cohort import schema
from monai_cxrpair.cohort.cohort import count_states
from monai_cxrpair.errors import CxrPairError

DEFAULT_FINDING = "pleural_effusion"
SEX_WORDS = {"F": "female", "M": "male", "O": "other", "": "unknown"}
_BY = ("sex", "laterality", "view_position", "published_split")
_MOST_GROUPS = 4  # more columns fit on no page; the smallest groups are put together
_MOST_VIEWS = 8


class Line(NamedTuple):
    """One line of the table as text: a heading without cells, or a label with a cell for each column."""

    label: str
    cells: list[str]
    indented: bool = True


def spread(values: pd.Series, *, digits: int = 2) -> dict[str, float | int | None]:
    """Mean, standard deviation (n - 1), minimum, quartiles and maximum of the known values; None where undefined."""
    known = values.dropna().to_numpy(dtype=np.float64)
    names = ("mean", "sd", "min", "q1", "median", "q3", "max")
    if not known.size:
        return {"known": 0, **dict.fromkeys(names)}
    low, q1, median, q3, high = np.quantile(known, [0, 0.25, 0.5, 0.75, 1])
    sd = known.std(ddof=1) if known.size > 1 else None
    figures = (known.mean(), sd, low, q1, median, q3, high)
    rounded = (None if figure is None else round(float(figure), digits) for figure in figures)
    return {"known": int(known.size), **dict(zip(names, rounded, strict=True))}


def sexes(table: pd.DataFrame) -> dict[str, int]:
    """Count patients by sex: `unknown` where it is empty in all their rows, `several` where their rows differ."""
    pairs = table.loc[table["sex"] != "", ["patient_id", "sex"]].drop_duplicates()
    several = pairs["patient_id"].duplicated(keep=False)
    counts = {sex: int((pairs.loc[~several, "sex"] == sex).sum()) for sex in ("F", "M", "O")}
    known = int(pairs["patient_id"].nunique())
    counts["several"] = known - sum(counts.values())
    return {**counts, "unknown": int(table["patient_id"].nunique()) - known}


def first_ages(table: pd.DataFrame) -> pd.Series:
    """The first known age of each patient whose age is known; `table` is in the order of the studies."""
    known = table.loc[table["age"].notna(), ["patient_id", "age"]]
    return known.drop_duplicates("patient_id").set_index("patient_id")["age"]


def one_column(table: pd.DataFrame, findings: Sequence[str], *, group: str) -> dict[str, Any]:
    """Count one group.

    Args:
        table: Rows of a cohort in the order of the studies.
        findings: Names of the label columns.
        group: Its name.

    Returns:
        `group`, `radiographs`, `patients`, `studies`, `age` (of patients, at their first study in this group; with
        `missing`), `sex` (patients), `laterality`, `views`, `findings` (radiographs).
    """
    patients = int(table["patient_id"].nunique())
    age = spread(first_ages(table))
    laterality = table["laterality"].value_counts()
    positions = table["view_position"].replace("", "missing").value_counts().sort_index()
    return {
        "group": group,
        "radiographs": len(table),
        "patients": patients,
        "studies": int(table["study_id"].nunique()),
        "age": {**age, "missing": patients - int(age["known"] or 0)},
        "sex": sexes(table),
        "laterality": {name: int(laterality.get(name, 0)) for name in schema.LATERALITIES},
        "views": {str(name): int(count) for name, count in positions.items()},
        "findings": {name: count_states(table[name]) for name in findings},
    }


def table_one(
    table: pd.DataFrame, findings: Sequence[str], *, by: str | None, everybody: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the table.

    Args:
        table: A cohort's table in the order of the studies.
        findings: Names of the label columns.
        by: A finding, `sex`, `laterality`, `view_position` or `published_split`; None for `pleural_effusion` where the
            cohort has it, else for no groups.
        everybody: `one_column` of the whole table.

    Returns:
        `by`, and `columns` as `one_column` makes them: first all, then the groups that are not empty.

    Raises:
        CxrPairError: The cohort has no such finding or column.
    """
    if by is None and DEFAULT_FINDING in findings:
        by = DEFAULT_FINDING
    groups = {} if by is None else _groups(table, findings, by)
    columns = [one_column(table[mask], findings, group=name) for name, mask in groups.items() if mask.any()]
    return {"by": by, "columns": [dict(everybody), *columns]}


def _groups(table: pd.DataFrame, findings: Sequence[str], by: str) -> "dict[str, pd.Series[bool]]":
    if by in findings:
        values = table[by]
        return {"present": values == 1, "absent or missing": (values == 0) | values.isna(), "uncertain": values == -1}
    allowed = [*findings, *(name for name in _BY if name in table)]
    if by not in allowed:
        raise CxrPairError(f"--by {by}: the cohort cannot be divided by it; there are: {', '.join(allowed)}")
    values = table[by].fillna("").astype("str")
    if by == "sex":
        return {word: values == code for code, word in SEX_WORDS.items()}
    if by == "laterality":
        return {word: values == word for word in schema.LATERALITIES}
    sizes = values.replace("", "missing").value_counts()
    kept = list(sizes.index if len(sizes) <= _MOST_GROUPS else sizes.index[: _MOST_GROUPS - 1])
    groups = {str(word): values.replace("", "missing") == word for word in kept}
    rest = ~values.replace("", "missing").isin(kept)
    return {**groups, f"{len(sizes) - len(kept)} others": rest} if rest.any() else groups


def lines(columns: Sequence[Mapping[str, Any]], *, digits: int) -> list[Line]:
    """Lay the table out as text.

    Args:
        columns: As `table_one` makes them.
        digits: Decimals of a percentage; it is of the column's patients (age, sex) or radiographs (the rest).
    """
    out = [
        Line(f"{name.capitalize()}, n", [f"{column[name]:,}" for column in columns], indented=False)
        for name in ("radiographs", "patients", "studies")
    ]

    def block(title: str, of: str, counts: Mapping[str, Sequence[int]]) -> None:
        out.append(Line(title, [], indented=False))
        for label, numbers in counts.items():
            out.append(Line(label, [of_all(n, column[of], digits) for n, column in zip(numbers, columns, strict=True)]))

    ages = [column["age"] for column in columns]
    out.append(Line("Age, years", [], indented=False))
    out.append(Line("mean (SD)", [_mean_sd(age) for age in ages]))
    out.append(Line("median [IQR]", [median_iqr(age) for age in ages]))
    if ages[0]["missing"]:
        unknown = [of_all(a["missing"], c["patients"], digits) for a, c in zip(ages, columns, strict=True)]
        out.append(Line("missing, n (%)", unknown))
    words = {"F": "female", "M": "male", "O": "other", "several": "contradictory", "unknown": "unknown"}
    present = {word: [column["sex"][key] for column in columns] for key, word in words.items()}
    block("Sex, n (%)", "patients", {k: v for k, v in present.items() if v[0] or k in ("female", "male")})
    sides = {name: [column["laterality"][name] for column in columns] for name in schema.LATERALITIES}
    block("Laterality, n (%)", "radiographs", {name: numbers for name, numbers in sides.items() if numbers[0]})
    block("View position, n (%)", "radiographs", _views(columns))
    for state in ("present", "missing"):
        found = {
            name.replace("_", " "): [column["findings"][name][state] for column in columns]
            for name in columns[0]["findings"]
            if state == "present" or columns[0]["findings"][name][state]
        }
        if found:
            block(f"Findings {state}, n (%)", "radiographs", found)
    return out


def _views(columns: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """The most frequent view positions of the first column, the rest of them together, and the missing ones."""
    every = columns[0]["views"]
    names = sorted((name for name in every if name != "missing"), key=lambda name: (-every[name], name))
    kept = names if len(names) <= _MOST_VIEWS else names[: _MOST_VIEWS - 1]
    counts = {name: [column["views"].get(name, 0) for column in columns] for name in kept}
    if len(kept) < len(names):
        rest = names[len(kept) :]
        counts[f"{len(rest)} others"] = [sum(column["views"].get(n, 0) for n in rest) for column in columns]
    return {**counts, **({"missing": [c["views"].get("missing", 0) for c in columns]} if "missing" in every else {})}


def of_all(number: int, total: int, digits: int) -> str:
    """`1,234 (56.7)`."""
    return f"{number:,} ({percent(number, total, digits)})" if number else "0"


def percent(number: int, total: int, digits: int) -> str:
    """A share of a hundred; what is there is never shown as 0, and what is not all never as 100."""
    share, step = 100 * number / total if total else 0.0, 10.0**-digits
    if 0 < share < step / 2:
        return f"<{step:g}"
    if 100 - step / 2 <= share < 100:
        return f">{100 - step:g}"
    return f"{share:.{digits}f}"


def _mean_sd(figures: Mapping[str, Any]) -> str:
    if not figures["known"]:
        return "–"
    return f"{figures['mean']:.1f}" + (f" ({figures['sd']:.1f})" if figures["sd"] is not None else "")


def median_iqr(figures: Mapping[str, Any]) -> str:
    """`61 [49–74]`."""
    if not figures["known"]:
        return "–"
    median, q1, q3 = (f"{figures[name]:,.1f}".removesuffix(".0") for name in ("median", "q1", "q3"))
    return f"{median} [{q1}–{q3}]"
