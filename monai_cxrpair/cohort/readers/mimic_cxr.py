"""MIMIC-CXR-JPG (Johnson et al., 2019; physionet.org/content/mimic-cxr-jpg): `mimic-cxr-2.0.0-metadata.csv.gz`.

Columns read of the metadata: dicom_id, subject_id, study_id, ViewPosition, StudyDate (YYYYMMDD, shifted by the
publisher), StudyTime (HHMMSS.fff, without leading zeros), and where they are there
AcquisitionDeviceProcessingDescription, PerformedProcedureStepDescription and ViewCodeSequence_CodeMeaning. There is no
age and no sex. Beside it, with or without `.gz`, are looked for:

- `mimic-cxr-2.0.0-split.csv`: dicom_id, split (train, validate, test) -> `published_split`;
- `mimic-cxr-2.0.0-chexpert.csv`, else `...-negbio.csv`: subject_id, study_id and the 14 observations of CheXpert with
  1 (positive), 0 (negative), -1 (uncertain) and blank (not mentioned).

An image is `p10/p10000032/s50414267/<dicom_id>.jpg`, in the folder `files` of the root where there is one.
"""

from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort import views
from monai_cxrpair.cohort.readers import columns
from monai_cxrpair.cohort.readers.findings import CHEXPERT, finding_name, finding_values
from monai_cxrpair.cohort.readers.textfile import read_text_table
from monai_cxrpair.cohort.reading import Reading
from monai_cxrpair.cohort.schema import broken

COLUMNS = ("dicom_id", "subject_id", "study_id", "ViewPosition")
_SPLITS = {"train": "train", "validate": "validation", "test": "test"}
# The view map of the publisher's notebook (MIT-LCP/mimic-cxr). A ViewPosition of AP, PA, LATERAL or LL decides; an
# oblique, a decubitus or a cross-table is `unknown`; where it is missing these descriptions decide.
_FRONTAL = (
    *("CHEST, PA", "CHEST, PORTABLE", "CHEST, PA X-WISE", "CHEST, AP (GRID)", "CHEST PA", "CHEST, AP NON-GRID"),
    *("CHEST AP NON GRID", "CHEST PA X-WISE", "CHEST AP GRID", "CHEST PORT", "CHEST PORT X-WISE"),
    *("UPPER RIBS", "SCOLIOSIS AP"),
)
_DESCRIBED = {
    **dict.fromkeys(_FRONTAL, "frontal"),
    **dict.fromkeys(("CHEST, LATERAL", "CHEST LAT", "STERNUM, LATERAL"), "lateral"),
}
_DESCRIPTIONS = ("AcquisitionDeviceProcessingDescription", "PerformedProcedureStepDescription")
_MEANING = "ViewCodeSequence_CodeMeaning"


def read_mimic_cxr(raw: pd.DataFrame, *, root: Path, file: Path) -> Reading:
    """Read the metadata table of MIMIC-CXR-JPG and what lies beside it.

    Args:
        raw: The metadata, all values as text.
        root: The folder that holds `files` or `p10` to `p19`.
        file: The metadata file.

    Returns:
        The radiographs, with the public ids; without labels or split where their file is missing, which is noted.

    Raises:
        CxrPairError: A column is missing, or an observation holds something else than 1, 0, -1 and blank.
    """
    for name in COLUMNS:
        columns.require(raw, name)
    table = pd.DataFrame({"image_id": raw["dicom_id"], "patient_id": raw["subject_id"], "study_id": raw["study_id"]})
    folder = "files/p" if (root / "files").is_dir() else "p"
    table["path"] = (folder + raw["subject_id"].str.slice(0, 2) + "/p" + raw["subject_id"] + "/s" + raw["study_id"]) + (
        "/" + raw["dicom_id"] + ".jpg"
    )
    table["path"] = table["path"].mask(raw["dicom_id"].str.strip() == "", "")
    _views(table, raw)
    if {"StudyDate", "StudyTime"} <= set(raw.columns):
        table["study_datetime"] = _moments(raw).groupby(raw["study_id"]).transform("min")
    reading = Reading(table=table, findings=[], rejects=[], files_seen=len(raw), root=root, source="mimic-cxr")
    _split(reading, raw, file)
    _labels(reading, file)
    reading.leave_out_unusable()
    return reading


def _views(table: pd.DataFrame, raw: pd.DataFrame) -> None:
    """Fill laterality, view position and evidence; descriptions count only where ViewPosition is missing."""
    table["view_position"] = columns.parsed(raw["ViewPosition"], views.normal_position, "str")
    table["laterality"] = columns.parsed(raw["ViewPosition"], views.laterality_of, "str")
    table["laterality_evidence"] = raw["ViewPosition"].str.strip().ne("").map({True: "ViewPosition", False: ""})
    for name in (_DESCRIPTIONS[0], _MEANING, _DESCRIPTIONS[1]):
        if name not in raw:
            continue
        said = raw[name].str.strip().str.upper()
        if name == _MEANING:
            found = columns.parsed(said, lambda text: views.view_of(position="", codes=[text]).laterality, "str")
        else:
            found = said.map(_DESCRIBED).fillna("unknown")
        new = (table["laterality_evidence"] == "") & (found != "unknown")
        table["laterality"] = table["laterality"].mask(new, found)
        table["laterality_evidence"] = table["laterality_evidence"].mask(new, name.partition("_")[0])


def _moments(raw: pd.DataFrame) -> pd.Series:
    clock = raw["StudyTime"].str.partition(".")[0].str.zfill(6)
    moments = pd.to_datetime(raw["StudyDate"] + clock, format="%Y%m%d%H%M%S", errors="coerce")
    return moments.fillna(pd.to_datetime(raw["StudyDate"], format="%Y%m%d", errors="coerce"))


def _beside(file: Path, what: str) -> Path | None:
    """Find a companion of the metadata: the same name with another word, zipped or not."""
    stem = file.name.removesuffix(".gz").removesuffix(".csv")
    names = [f"{stem.replace('metadata', what)}{suffix}" for suffix in (".csv.gz", ".csv")]
    return next(
        (file.with_name(name) for name in names if file.with_name(name) != file and (file.with_name(name)).is_file()),
        None,
    )


def _split(reading: Reading, raw: pd.DataFrame, file: Path) -> None:
    found = _beside(file, "split")
    if found is None:
        reading.notes.append(f"no split file beside {file.name}: there is no column published_split")
        return
    split = read_text_table(found).drop_duplicates("dicom_id").set_index("dicom_id")["split"].map(_SPLITS)
    reading.table["published_split"] = raw["dicom_id"].map(split).fillna("").astype("str")


def _labels(reading: Reading, file: Path) -> None:
    found = _beside(file, "chexpert") or _beside(file, "negbio")
    if found is None:
        reading.notes.append(f"no chexpert or negbio file beside {file.name}: indexed without findings (see --labels)")
        return
    labels = read_text_table(found)
    columns.require(labels, "study_id")
    rows = pd.Index(labels["study_id"]).get_indexer(pd.Index(reading.table["study_id"]))
    for source in labels.columns:
        name = finding_name(source)
        if name in CHEXPERT:
            values, wrong = finding_values(labels[source])
            broken(source, wrong, f"an observation of {found.name} must be 1, 0, -1 or blank")
            reading.table[name] = pd.Series(values.to_numpy()[rows], index=reading.table.index).where(rows >= 0)
            reading.findings.append(name)
    without = int(reading.table.loc[rows < 0, "study_id"].nunique())
    reading.notes.append(f"findings from {found.name}; studies that are not in it: {without}")
