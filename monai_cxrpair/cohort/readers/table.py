"""Any table with one row per radiograph; needs only a patient id, a study id and a path."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort import views
from monai_cxrpair.cohort.readers import columns
from monai_cxrpair.cohort.readers.findings import KNOWN, finding_name, finding_values
from monai_cxrpair.cohort.readers.paths import names_patient, relative_paths
from monai_cxrpair.cohort.reading import Reading, own_studies
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.cohort.schema import REQUIRED, broken
from monai_cxrpair.errors import CxrPairError


def read_table(
    raw: pd.DataFrame,
    *,
    root: Path,
    column: Mapping[str, str] | None = None,
    finding: Mapping[str, str] | None = None,
) -> Reading:
    """Read a table of radiographs.

    Columns are found by well-known names (`columns.SYNONYMS`), or named by `column`. An `image_id` that is not there
    is made of the study id and a hash of the path, so that it is stable and does not spread the path. Where there is
    a laterality column an empty cell means `unknown`; where there is none, the view position decides. Study ids that
    several patients share (`1`, `2`, ...) get the patient id in front. Columns with the name of a finding of CheXpert
    or NIH are read as such; others only when named by `finding`.

    Args:
        raw: All values as text, see `read_text_table`.
        root: The folder that the paths are relative to.
        column: Cohort column -> column of the table.
        finding: Finding -> column of the table.

    Returns:
        The radiographs; rows without an id or a path, and repeated ones, are left out. Published ids are kept.

    Raises:
        CxrPairError: A column is missing, or a finding holds something else than 1, 0, -1 and blank.
    """
    source = columns.assign(raw, column or {})
    missing = [name for name in REQUIRED if name != "image_id" and name not in source]
    if missing:
        raise CxrPairError(
            f"no column for {missing[0]!r}; name it with --column {missing[0]}=...; there are: {', '.join(raw.columns)}"
        )
    table = pd.DataFrame({name: raw[source[name]] for name in ("patient_id", "study_id")})
    table["path"] = relative_paths(raw[source["path"]], root)
    notes = _optional(table, raw, source)
    findings = _findings(table, raw, finding or {}, taken=set(source.values()))
    unused = [name for name in raw.columns if name not in source.values() and name not in findings.values()]
    if unused:
        notes.append(f"columns that were not used: {', '.join(unused)}")
    reading = Reading(
        table=table,
        findings=list(findings),
        rejects=[],
        files_seen=len(raw),
        root=root,
        source="table",
        notes=notes,
    )
    _finish(reading, raw[source["path"]])
    return reading


def _optional(table: pd.DataFrame, raw: pd.DataFrame, source: Mapping[str, str]) -> list[str]:
    """Fill the columns that a table may have; return a note for each in which some values were not understood."""
    notes = []

    def note(name: str, lost: "pd.Series[bool]", becomes: str) -> None:
        if lost.any():
            notes.append(f"column {source[name]!r}: {int(lost.sum())} values were not understood and became {becomes}")

    if "image_id" in source:
        table["image_id"] = raw[source["image_id"]]
    if "view_position" in source:
        table["view_position"] = columns.parsed(raw[source["view_position"]], views.normal_position, "str")
    if "laterality" in source:
        texts = raw[source["laterality"]]
        table["laterality"] = columns.parsed(texts, columns.parse_laterality, "str")
        known = texts.str.strip().str.lower().isin(["", "unknown"])
        note("laterality", (table["laterality"] == "unknown") & ~known, "unknown")
    elif "view_position" in source:
        table["laterality"] = columns.parsed(raw[source["view_position"]], views.laterality_of, "str")
    if "age" in source:
        table["age"] = columns.parsed(raw[source["age"]], columns.parse_age, "float64")
        note("age", table["age"].isna() & ~raw[source["age"]].str.strip().str.lower().isin(["", "nan"]), "missing")
    if "sex" in source:
        table["sex"] = columns.parsed(raw[source["sex"]], columns.parse_sex, "str")
        known = raw[source["sex"]].str.strip().str.lower().isin(["", "u", "unknown", "nan"])
        note("sex", (table["sex"] == "") & ~known, "empty")
    if "study_datetime" in source:
        texts = raw[source["study_datetime"]].str.strip()
        moments = pd.to_datetime(texts, errors="coerce", format="mixed", utc=True)
        table["study_datetime"] = moments.dt.tz_localize(None)
        note("study_datetime", table["study_datetime"].isna() & (texts != ""), "missing")
    if "frame" in source:
        frames = pd.to_numeric(raw[source["frame"]].replace("", "0"), errors="coerce")
        table["frame"] = frames.where(frames.between(0, 1 << 31), -1).astype("int64")  # also what is infinite
    return notes


def _findings(table: pd.DataFrame, raw: pd.DataFrame, wanted: Mapping[str, str], *, taken: set[str]) -> dict[str, str]:
    """Add the finding columns to the table; return finding -> source column."""
    found: dict[str, str] = {}
    for name, source in wanted.items():
        columns.require(raw, source)
        found[finding_name(name)] = source
    for source in raw.columns:
        name = finding_name(source)
        if name in KNOWN and source not in taken:
            found.setdefault(name, source)
    for name, source in found.items():
        table[name], wrong = finding_values(raw[source])
        broken(source, wrong, f"a finding must be 1, 0, -1 or blank; this is read as {name!r}")
    return found


def _finish(reading: Reading, as_written: pd.Series) -> None:
    """Leave out what cannot be a row of the cohort, and give the rest its study and image ids."""
    table = reading.table
    bad_path = table["path"] == ""
    table["path"] = table["path"].mask(bad_path, as_written)  # the rejects show what the table says
    reading.leave_out(bad_path, Reason.NO_PATH)
    reading.leave_out_unusable()
    table = reading.table
    studies, shared = own_studies(table, all_if_any=True)
    if shared:
        reading.notes.append(f"study ids of several patients, so that all got the patient id in front: {shared}")
        reading.patient_in_studies = True
    named = sum(map(names_patient, table["path"], table["patient_id"]))
    if named:
        reading.notes.append(f"paths that contain the patient's id (they stay in the cohort file): {named}")
    table["study_id"] = studies
    if "image_id" not in table:
        frames = table["frame"].astype("str") if "frame" in table else pd.Series("0", index=table.index)
        texts = table["path"] + "#" + frames
        hashes = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8] for text in texts]
        table["image_id"] = table["study_id"] + "/" + pd.Series(hashes, index=table.index, dtype="str")
