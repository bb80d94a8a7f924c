"""`cxrpair describe`: the figures of a cohort, none of which names anybody."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from monai_cxrpair.cohort import views
from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.describe.table_one import first_ages, one_column, spread, table_one

# Names of the buckets and the largest value that is still in them; what is above is in the last one.
_INTERVALS = {"same day": 0, "1 to 7": 7, "8 to 30": 30, "31 to 90": 90, "91 to 365": 365}
_SIZES = {"1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "6 to 10": 10, "11 to 20": 20}
_AGES = {f"{low} to {low + 9}": low + 10 for low in range(0, 90, 10)}
_RANKS = {1.0: 3, -1.0: 2, 0.0: 1}  # of a study's radiographs the strongest statement counts; missing is 0


def describe(cohort: Cohort, *, by: str | None = None) -> dict[str, Any]:
    """Count everything that can be said of a cohort without naming anybody.

    Args:
        cohort: The radiographs.
        by: What the columns of Table 1 are: a finding, `sex`, `laterality`, `view_position` or `published_split`; by
            default `pleural_effusion` where the cohort has it.

    Returns:
        The keys of `Cohort.summary`, `files_seen` and `rejected` of the index step, and: `source`, `root`,
        `fingerprint`, `views` (radiographs by view position), `sex` (patients by sex; `unknown` where it is empty,
        `several` where the rows of a patient differ), `age` (years, over radiographs), `dated_studies`, and
        `studies_per_patient`, `images_per_study`, `images_per_patient`: mean, median, largest and share of ones.
        `distributions` counts the same three in buckets. `study_findings` counts studies: a finding is present in a
        study where a radiograph of it says so, else uncertain, else absent, else missing. `study_intervals` are the
        whole days between a patient's consecutive dated studies. `age_by_sex` counts patients by their age at their
        first study. `table_one` is described there. Where the cohort has such columns: `laterality_evidence`,
        `scaling`, `published_split` (radiographs by value), `exposed_fraction`, and `pixels_checked` (radiographs
        with a `pixel_hash` or `perceptual_hash`).

    Raises:
        CxrPairError: The cohort cannot be divided by `by`.
    """
    # The first row of each patient is then one of the first study; view positions as free text become OTHER.
    table = cohort.table.sort_values("study_order", kind="stable", ignore_index=True)
    table["view_position"] = table["view_position"].map(
        {text: views.normal_position(text) for text in table["view_position"].unique()}
    )
    sizes = {
        "studies_per_patient": table.groupby("patient_id", sort=False)["study_id"].nunique(),
        "images_per_study": table.groupby("study_id", sort=False).size(),
        "images_per_patient": table.groupby("patient_id", sort=False).size(),
    }
    everybody = one_column(table, cohort.findings, group="all")
    return {
        **cohort.summary(),
        **{name: value for name, value in cohort.intake.items() if name in ("files_seen", "rejected")},
        "source": cohort.source,
        "root": str(cohort.root),
        "fingerprint": cohort.fingerprint(),
        "views": everybody["views"],
        "sex": everybody["sex"],
        "age": spread(table["age"]),
        "dated_studies": int(table.loc[table["study_datetime"].notna(), "study_id"].nunique()),
        **{name: _sizes(values) for name, values in sizes.items()},
        "distributions": {name: _buckets(values, _SIZES, "more than 20") for name, values in sizes.items()},
        "study_findings": _study_findings(table, cohort.findings),
        "study_intervals": _intervals(table),
        "age_by_sex": _age_by_sex(table),
        "table_one": table_one(table, cohort.findings, by=by, everybody=everybody),
        **_further(table),
    }


def _sizes(sizes: pd.Series) -> dict[str, float | int]:
    return {
        "mean": round(float(sizes.mean()), 4),
        "median": float(sizes.median()),
        "largest": int(sizes.max()),
        "share_of_ones": round(float((sizes == 1).mean()), 4),
    }


def _buckets(values: pd.Series, limits: dict[str, int], last: str) -> dict[str, int]:
    """Count values by the first bucket whose limit they do not exceed."""
    where = np.searchsorted(list(limits.values()), values.to_numpy(), side="left")
    counts = np.bincount(where, minlength=len(limits) + 1)
    return {name: int(count) for name, count in zip([*limits, last], counts, strict=True)}


def _study_findings(table: pd.DataFrame, findings: Sequence[str]) -> dict[str, dict[str, int]]:
    ranks = pd.DataFrame({name: table[name].map(_RANKS).fillna(0).astype("int8") for name in findings})
    studies = ranks.groupby(table["study_id"], sort=False).max()
    words = {"present": 3, "absent": 1, "uncertain": 2, "missing": 0}
    return {name: {word: int((studies[name] == rank).sum()) for word, rank in words.items()} for name in findings}


def _intervals(table: pd.DataFrame) -> dict[str, Any]:
    """Calendar days, which shifted dates keep: an evening study and the one of the next morning are a day apart."""
    studies = table.groupby(["patient_id", "study_id"], sort=False)["study_datetime"].min().dropna().reset_index()
    studies["day"] = studies["study_datetime"].dt.normalize()
    studies = studies.sort_values(["patient_id", "day"])
    days = studies.groupby("patient_id", sort=False)["day"].diff().dropna().dt.days
    return {**spread(days), "buckets": _buckets(days, _INTERVALS, "more than 365")}


def _age_by_sex(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Patients by sex and ten years of age; only those whose sex and age are known and free of contradiction."""
    pairs = table.loc[table["sex"] != "", ["patient_id", "sex"]].drop_duplicates()
    sex = pairs[~pairs["patient_id"].duplicated(keep=False)].set_index("patient_id")["sex"]
    ages = first_ages(table)
    sex_of_aged = sex.reindex(ages.index)
    return {code: _buckets(np.floor(ages[sex_of_aged == code]) + 1, _AGES, "90 and over") for code in ("F", "M", "O")}


def _further(table: pd.DataFrame) -> dict[str, Any]:
    """What the columns say that only some cohorts have."""
    found: dict[str, Any] = {}
    for name in ("laterality_evidence", "scaling", "published_split"):
        if name in table:
            # These are words of our readers; what does not look like one is not shown, it might be anything.
            counts = table[name].fillna("").astype("str").value_counts()
            words = counts.groupby(lambda text: (text or "none") if _is_word(text) else "other").sum()
            found[name] = {str(word): int(count) for word, count in words.items()}
    if "exposed_fraction" in table:
        found["exposed_fraction"] = spread(pd.to_numeric(table["exposed_fraction"], errors="coerce"), digits=4)
    hashes = [name for name in ("pixel_hash", "perceptual_hash") if name in table]
    if hashes:
        found["pixels_checked"] = {name: int((table[name].fillna("").astype("str") != "").sum()) for name in hashes}
    return found


def _is_word(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9 _/+-]{0,40}", text) is not None
