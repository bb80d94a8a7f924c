"""`cxrpair describe`: what a cohort holds, as a dictionary and as tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table

from monai_cxrpair.cohort.cohort import Cohort


def describe(cohort: Cohort) -> dict[str, Any]:
    """Count everything that can be said of a cohort without naming anybody.

    Args:
        cohort: The radiographs.

    Returns:
        The keys of `Cohort.summary`, `files_seen` and `rejected` of the index step, and: `source`, `root`,
        `fingerprint`, `views` (radiographs by view position), `sex` (patients by sex; `unknown` where it is empty,
        `several` where the rows of a patient differ), `age` (years, over radiographs), `dated_studies`, and the
        distributions `studies_per_patient`, `images_per_study`, `images_per_patient`: mean, median, largest and the
        share of ones.
    """
    table = cohort.table
    views = table["view_position"].replace("", "missing").value_counts().sort_index()
    return {
        **cohort.summary(),
        **cohort.intake,
        "source": cohort.source,
        "root": str(cohort.root),
        "fingerprint": cohort.fingerprint(),
        "views": {str(name): int(count) for name, count in views.items()},
        "sex": _sexes(table),
        "age": _ages(table["age"]),
        "dated_studies": int(table.loc[table["study_datetime"].notna(), "study_id"].nunique()),
        "studies_per_patient": _sizes(table.groupby("patient_id", sort=False)["study_id"].nunique()),
        "images_per_study": _sizes(table.groupby("study_id", sort=False).size()),
        "images_per_patient": _sizes(table.groupby("patient_id", sort=False).size()),
    }


def _sexes(table: pd.DataFrame) -> dict[str, int]:
    pairs = table.loc[table["sex"] != "", ["patient_id", "sex"]].drop_duplicates()
    several = pairs["patient_id"].duplicated(keep=False)
    counts = {sex: int((pairs.loc[~several, "sex"] == sex).sum()) for sex in ("F", "M", "O")}
    known = int(pairs["patient_id"].nunique())
    counts["several"] = known - sum(counts.values())
    return {**counts, "unknown": int(table["patient_id"].nunique()) - known}


def _ages(age: pd.Series) -> dict[str, float | int | None]:
    known = age.dropna()
    if known.empty:
        return {"known": 0, "mean": None, "sd": None, "min": None, "median": None, "max": None}
    figures = {"mean": known.mean(), "sd": known.std(ddof=0), "min": known.min(), "median": known.median()}
    return {"known": len(known), **{k: round(float(v), 2) for k, v in figures.items()}, "max": float(known.max())}


def _sizes(sizes: pd.Series) -> dict[str, float | int]:
    return {
        "mean": round(float(sizes.mean()), 4),
        "median": float(sizes.median()),
        "largest": int(sizes.max()),
        "share_of_ones": round(float((sizes == 1).mean()), 4),
    }


def summary_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Lay out what `cxrpair index` and `cxrpair describe` have in common.

    Args:
        summary: At least the keys of `Cohort.summary`; `rejected` is shown where it is there.
    """
    tables = [
        _two_columns(
            "Cohort",
            [
                *((name, summary[name]) for name in ("radiographs", "patients", "studies")),
                *summary["laterality"].items(),
            ],
        )
    ]
    if summary["findings"]:
        findings = Table(title="Findings", title_justify="left")
        findings.add_column("finding")
        for name in ("present", "absent", "uncertain", "missing"):
            findings.add_column(name, justify="right")
        for name, counts in summary["findings"].items():
            findings.add_row(name, *(f"{count:,}" for count in counts.values()))
        tables.append(findings)
    if "rejected" in summary:
        total = sum(summary["rejected"].values())
        title = f"Left out: {total:,} of {summary['files_seen']:,}"
        tables.append(_two_columns(title, list(summary["rejected"].items())))
    return tables


def description_tables(description: Mapping[str, Any]) -> list[Table]:
    """Lay out what `describe` returns."""
    age = description["age"]
    years = f"{age['mean']} ± {age['sd']} ({age['min']:g} to {age['max']:g})" if age["known"] else "unknown"
    people = [("age in years", years), *((f"sex {sex}", count) for sex, count in description["sex"].items())]
    sizes = Table(title="How many", title_justify="left")
    for name in ("", "mean", "median", "largest", "just one"):
        sizes.add_column(name, justify="right" if name else "left")
    for key in ("studies_per_patient", "images_per_study", "images_per_patient"):
        size = description[key]
        share = f"{100 * size['share_of_ones']:.1f} %"
        sizes.add_row(
            key.replace("_", " "), f"{size['mean']:.2f}", f"{size['median']:g}", f"{size['largest']:,}", share
        )
    views = _two_columns("Views", list(description["views"].items()))
    return [*summary_tables(description), views, _two_columns("Patients", people), sizes]


def _two_columns(title: str, rows: Sequence[tuple[str, object]]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, min_width=len(title))  # else the title wraps
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    return table
