"""The RSNA pneumonia detection challenge (Shih et al., Radiology: Artificial Intelligence 2019), from NIH ChestX-ray14.

The source is any of the three tables; the others are looked for beside it, also gzipped:

- `stage_2_train_labels.csv`: patientId, boxes, Target (1: a lung opacity that suggests pneumonia); one row per box;
- `stage_2_detailed_class_info.csv`: patientId, class (Lung Opacity, No Lung Opacity / Not Normal, Normal);
- `kaggle_stage_2_train_images_dicom_headers.csv`: PatientID, PatientAge (years), PatientSex, ViewPosition.

Findings: `pneumonia` is Target, `lung_opacity` is the class Lung Opacity, `no_finding` the class Normal. An image is
`stage_2_train_images/<patientId>.dcm`. All are frontal: NIH ChestX-ray14 has no laterals.

A patientId stands for one image; the patients of NIH behind it are not published with the challenge. So every image
counts as a patient of its own: the set can test an encoder; pairs cannot be formed, and a split of it may have one
person on two sides.
"""

from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort import views
from monai_cxrpair.cohort.readers import columns
from monai_cxrpair.cohort.readers.findings import finding_values
from monai_cxrpair.cohort.readers.locate import locate
from monai_cxrpair.cohort.readers.textfile import read_text_table
from monai_cxrpair.cohort.reading import NO_PATIENTS, Reading
from monai_cxrpair.cohort.schema import broken
from monai_cxrpair.errors import CxrPairError

LABELS = ("patientId", "Target")
CLASSES = ("patientId", "class")
HEADERS = ("PatientID", "Filename", "ViewPosition", "ConversionType")
_FILES = {
    LABELS: "*train_labels.csv*",
    CLASSES: "*detailed_class_info.csv*",
    HEADERS: "*train_images_dicom_headers.csv*",
}
_CLASSES = ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")


def read_rsna(raw: pd.DataFrame, *, root: Path, file: Path) -> Reading:
    """Read the tables of the RSNA pneumonia challenge.

    Args:
        raw: One of the three tables, all values as text.
        root: The folder with `stage_2_train_images`.
        file: The table's file.

    Returns:
        One row per image in the order of the table, with the public ids and unknown patients.

    Raises:
        CxrPairError: The table is none of the three, or Target or class hold a value that they cannot have.
    """
    kind = next((names for names in _FILES if set(names) <= set(raw.columns)), None)
    if kind is None:
        raise CxrPairError(
            f"{file} is no table of RSNA: it has neither patientId and Target (or class) nor the headers"
        )
    tables = {names: raw if names == kind else _beside(file, names) for names in _FILES}
    ids = raw[kind[0]].str.strip().drop_duplicates().reset_index(drop=True)
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "study_id": ids})
    table["path"] = ("stage_2_train_images/" + ids + ".dcm").mask(ids == "", "")
    table["published_split"] = "train"
    reading = Reading(
        table=table,
        findings=[],
        rejects=[],
        files_seen=len(table),
        root=root,
        source="rsna",
        notes=[NO_PATIENTS],
        patients_known=False,
    )
    labels, classes, headers = tables.values()
    if labels is not None:
        values, wrong = finding_values(labels["Target"])
        broken("Target", wrong | (values == -1), "must be 1, 0 or blank")
        _add(reading, "pneumonia", values.groupby(labels["patientId"].str.strip()).max())
    if classes is not None:
        known = classes["class"].str.strip()
        broken("class", ~known.isin(_CLASSES), f"must be one of {', '.join(_CLASSES)}")
        for name, meant in (("lung_opacity", "Lung Opacity"), ("no_finding", "Normal")):
            _add(reading, name, (known == meant).astype("float32").groupby(classes["patientId"].str.strip()).max())
    _views(table, headers)
    missing = [_FILES[names].strip("*") for names, found in tables.items() if found is None]
    if missing:
        reading.notes.append(f"not found beside {file.name}: {', '.join(missing)}; indexed without what stands in them")
    reading.leave_out_unusable()
    reading.table["path"] = locate(reading.table["path"], root, folders=("stage_2_train_images*", "images*"))
    return reading


def _beside(file: Path, names: tuple[str, ...]) -> pd.DataFrame | None:
    found = next((path for path in sorted(file.parent.glob(_FILES[names])) if path != file), None)
    if found is None:
        return None
    table = read_text_table(found)
    for name in names:
        columns.require(table, name)
    return table


def _add(reading: Reading, name: str, by_image: pd.Series) -> None:
    reading.table[name] = reading.table["image_id"].map(by_image).astype("float32")
    reading.findings.append(name)


def _views(table: pd.DataFrame, headers: pd.DataFrame | None) -> None:
    table["laterality"], table["laterality_evidence"] = "frontal", "data set"
    if headers is None:
        return
    rows = headers.drop_duplicates("PatientID").set_index("PatientID").reindex(table["image_id"]).fillna("")
    rows.index = table.index
    table["view_position"] = columns.parsed(rows["ViewPosition"], views.normal_position, "str")
    table["laterality_evidence"] = rows["ViewPosition"].ne("").map({True: "ViewPosition", False: "data set"})
    if "PatientAge" in rows:
        table["age"] = columns.parsed(rows["PatientAge"], columns.parse_age, "float64")
    if "PatientSex" in rows:
        table["sex"] = columns.parsed(rows["PatientSex"], columns.parse_sex, "str")
