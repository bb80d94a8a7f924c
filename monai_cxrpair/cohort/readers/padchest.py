"""PadChest (Bustos et al., Medical Image Analysis 2020): `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv`.

Columns read: ImageID (name of a 16-bit PNG), ImageDir (its folder, `0` to `54`), StudyID, PatientID, PatientBirth (a
year), PatientSex_DICOM, StudyDate_DICOM (YYYYMMDD), Projection and Labels, a list as Python writes it:
`['pleural effusion', 'pneumonia']`. The age is the year of the study minus the year of birth.

Projection: PA, AP and AP_horizontal (supine) are frontal, L is lateral, COSTAL (ribs) is unknown; EXCLUDE, which the
publisher has set aside, is left out. Of the names in Labels those become findings that CheXpert or NIH have too, by
their exact name (`pleural effusion`, never `pericardial effusion` or `loculated pleural effusion`); give the table as
--labels as well to get all of them. What is not named is 0; where an image has no label, or none but `exclude`,
`unchanged` and `suboptimal study`, everything is missing. A network made most labels from the reports (MethodLabel).
Some files are known to be unreadable: --check-files and the pixel checks find them.
"""

from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort.readers import columns
from monai_cxrpair.cohort.readers.findings import KNOWN, indicators, names_in, shared_name
from monai_cxrpair.cohort.readers.locate import locate
from monai_cxrpair.cohort.reading import Reading, own_studies
from monai_cxrpair.cohort.rejects import Reason

COLUMNS = (
    *("ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM"),
    *("Projection", "Labels"),
)
_LATERALITY = {"PA": "frontal", "AP": "frontal", "AP_horizontal": "frontal", "L": "lateral"}
_POSITION = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP", "L": "LATERAL"}
_SAYS_NOTHING = ("exclude", "unchanged", "suboptimal study")


def read_padchest(raw: pd.DataFrame, *, root: Path, file: Path | None = None) -> Reading:
    """Read the table of PadChest.

    Args:
        raw: All values as text: patient ids have up to 39 digits.
        root: The folder with the folders `0` to `54`, or with the images themselves.
        file: Not needed.

    Returns:
        The radiographs, with the public ids.

    Raises:
        CxrPairError: A column is missing.
    """
    for name in COLUMNS:
        columns.require(raw, name)
    projection = raw["Projection"].str.strip()
    table = pd.DataFrame({"image_id": raw["ImageID"], "patient_id": raw["PatientID"], "study_id": raw["StudyID"]})
    folder = raw["ImageDir"].str.strip().str.removesuffix(".0")
    table["path"] = (folder + "/" + raw["ImageID"]).str.removeprefix("/").mask(raw["ImageID"].str.strip() == "", "")
    table["view_position"] = projection.map(_POSITION).fillna(projection.ne("").map({True: "OTHER", False: ""}))
    table["laterality"] = projection.map(_LATERALITY).fillna("unknown")
    table["laterality_evidence"] = projection.ne("").map({True: "Projection", False: ""})
    table["study_datetime"] = pd.to_datetime(raw["StudyDate_DICOM"].str.slice(0, 8), format="%Y%m%d", errors="coerce")
    born = pd.to_numeric(raw["PatientBirth"], errors="coerce")
    age = table["study_datetime"].dt.year - born
    table["age"] = age.where(age.between(0, 150))
    table["sex"] = columns.parsed(raw["PatientSex_DICOM"], columns.parse_sex, "str")
    labels = indicators(raw["Labels"], name=_finding)
    found = [name for name in labels.columns if name in KNOWN]
    reading = Reading(
        table=table.join(labels[found]),
        findings=found,
        rejects=[],
        files_seen=len(raw),
        root=root,
        source="padchest",
    )
    silent = labels.isna().all(axis=1)
    reading.notes.append(f"radiographs without a label, whose findings are missing: {int(silent.sum())}")
    lists = raw.loc[silent & raw["Labels"].str.startswith("["), "Labels"]
    broken = sum(not names_in(text) and text.strip() != "[]" for text in lists)
    if broken:
        reading.notes.append(f"column 'Labels': {broken} lists could not be read")
    reading.leave_out(projection == "EXCLUDE", Reason.EXCLUDED)
    reading.leave_out_unusable()
    reading.table["study_id"], shared = own_studies(reading.table, all_if_any=False)
    if shared:
        reading.notes.append(f"studies of several patients that became one study of each: {shared}")
    reading.table["path"] = locate(reading.table["path"], root, folders=("images*",))
    return reading


def _finding(label: str) -> str:
    return "" if label in _SAYS_NOTHING else shared_name(label)
