"""Open-i, the chest radiographs of Indiana University (Demner-Fushman et al., JAMIA 2016), as a table.

(The DICOM files themselves are read as DICOM.) Columns read of `nlmcxr_dicom_metadata.csv.gz`, one row per header:
imageid (`CXR1000_IM-0003-2001`), filename, Patient ID, Patient's Sex, Patient's Birth Date and Study Date (YYYYMMDD,
for the age in years), View Position, View Code Sequence, Postprocessing Function, Patient Orientation. The study is the
report, `CXR1000`; every patient has one.

Findings come from the reports, `NLMCXR_reports.tgz` (or its folder `ecgen-radiology`) beside the table: XML with the
terms that human indexers chose (MeSH/major) and those that a program found in the text (MeSH/automatic). A finding is
present (1) where a major term names it; uncertain (-1) where only an automatic one does: of the 29 reports that name a
pleural effusion so, 26 mention it with a word of doubt (`may`, `question`, `versus`, ...); else absent. `normal` is
`no_finding`. Findings of a report that nobody indexed (`no indexing`) are missing.
"""

import re
from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort import views
from monai_cxrpair.cohort.readers import columns
from monai_cxrpair.cohort.readers.locate import locate
from monai_cxrpair.cohort.readers.openi_reports import read_reports
from monai_cxrpair.cohort.reading import Reading

COLUMNS = ("imageid", "filename", "Patient ID", "View Position", "Patient Orientation")
_REPORTS = ("NLMCXR_reports.tgz", "ecgen-radiology")


def read_openi(raw: pd.DataFrame, *, root: Path, file: Path) -> Reading:
    """Read the table of the DICOM headers of Open-i, and the reports beside it.

    Args:
        raw: All values as text.
        root: The folder with the images, DICOM or converted.
        file: The table's file.

    Returns:
        The radiographs, with the public ids; without findings where there are no reports, which is noted.

    Raises:
        CxrPairError: A column is missing, or the reports cannot be read.
    """
    for name in COLUMNS:
        columns.require(raw, name)
    table = pd.DataFrame({"image_id": raw["imageid"], "patient_id": raw["Patient ID"]})
    table["study_id"] = raw["imageid"].str.partition("_")[0]
    table["path"] = raw["filename"].str.strip().str.removeprefix("./")
    _views(table, raw)
    if {"Study Date", "Patient's Birth Date"} <= set(raw.columns):
        taken = pd.to_datetime(raw["Study Date"], format="%Y%m%d", errors="coerce")
        days = (taken - pd.to_datetime(raw["Patient's Birth Date"], format="%Y%m%d", errors="coerce")).dt.days
        table["age"] = (days // 365.25).where(days >= 0).astype("float64")
    if "Patient's Sex" in raw:
        table["sex"] = columns.parsed(raw["Patient's Sex"], columns.parse_sex, "str")
    reading = Reading(table=table, findings=[], rejects=[], files_seen=len(raw), root=root, source="openi")
    source = next((file.parent / name for name in _REPORTS if (file.parent / name).exists()), None)
    if source is None:
        reading.notes.append(f"no {_REPORTS[0]} beside {file.name}: indexed without findings (see --labels)")
    else:
        _findings(reading, source)
    reading.leave_out_unusable()
    reading.table["path"] = locate(reading.table["path"], root, folders=("*",), names=reading.table["image_id"])
    return reading


def _views(table: pd.DataFrame, raw: pd.DataFrame) -> None:
    names = ("View Position", "View Code Sequence", "Postprocessing Function", "Patient Orientation")
    parts = pd.DataFrame({name: raw.get(name, "") for name in names}, index=raw.index)
    found = {}
    for row in parts.drop_duplicates().itertuples(index=False, name=None):
        position, codes, function, orientation = row
        found[row] = views.view_of(
            position=position,
            # The table holds the sequence as pydicom prints it: (0008,0100) is the value, (0008,0104) the meaning.
            codes=re.findall(r"\(0008, 010[04]\)[^\n]*'([^'\n]*)'", codes),
            descriptions=[("PostprocessingFunction", function)],
            orientation=re.findall(r"\w+", orientation),
        )
    of_row = [found[row] for row in parts.itertuples(index=False, name=None)]
    table["laterality"] = [view.laterality for view in of_row]
    table["view_position"] = [view.position for view in of_row]
    table["laterality_evidence"] = [view.evidence for view in of_row]


def _findings(reading: Reading, source: Path) -> None:
    reports = read_reports(source)
    names = sorted({name for report in reports.values() if report for name in report})
    studies = reading.table["study_id"]
    for name in names:
        values = {study: report.get(name, 0) for study, report in reports.items() if report is not None}
        reading.table[name] = studies.map(values).astype("float32")
    reading.findings.extend(names)
    unread = {study for study, report in reports.items() if report is None}
    if names and (lost := int(reading.table[names[0]].isna().sum())):
        reading.notes.append(
            f"{lost} radiographs have no findings: no report, or one of the {len(unread)} that nobody indexed"
        )
