"""The table of NIH ChestX-ray14 (Wang et al., CVPR 2017), Data_Entry_2017.csv.

Columns read: Image Index, Finding Labels (`|` between names, `No Finding`), Follow-up #, Patient ID, Patient Age,
Patient Gender, View Position. A follow-up has one image, so the same-study rules have no partner here, and there are
no laterals. Labels were mined from reports: what is not named is 0, nothing is uncertain or missing.
"""

from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort import columns, views
from monai_cxrpair.cohort.findings import indicators
from monai_cxrpair.cohort.reading import Reading
from monai_cxrpair.cohort.rejects import Reason

COLUMNS = (
    *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position"),
)


def read_nih(raw: pd.DataFrame, *, root: Path) -> Reading:
    """Read the NIH table.

    Args:
        raw: All values as text: patient ids may have leading zeros.
        root: The folder with the images: directly, in `images/`, or in the twelve folders `images_001/images/`, ...

    Returns:
        The radiographs; repeated rows and rows without an image or a patient are left out. The public ids are kept.

    Raises:
        CxrPairError: A column is missing.
    """
    for name in COLUMNS:
        columns.require(raw, name)
    table = pd.DataFrame({"image_id": raw["Image Index"], "patient_id": raw["Patient ID"]})
    table["study_id"] = raw["Patient ID"] + "_" + raw["Follow-up #"]
    table["path"] = raw["Image Index"]
    table["view_position"] = columns.parsed(raw["View Position"], views.normal_position, "str")
    table["laterality"] = columns.parsed(raw["View Position"], views.laterality_of, "str")
    table["age"] = columns.parsed(raw["Patient Age"], columns.parse_age, "float64")
    table["sex"] = columns.parsed(raw["Patient Gender"], columns.parse_sex, "str")
    labels = indicators(raw["Finding Labels"])
    reading = Reading(
        table=table.join(labels),
        findings=list(labels.columns),
        rejects=[],
        files_seen=len(raw),
        root=root,
        source="nih",
    )
    old = int(table["age"].isna().sum())
    if old:  # the first release has ages such as 412
        reading.notes.append(f"column 'Patient Age': {old} values were not understood and became missing")
    reading.leave_out(table["path"].str.strip() == "", Reason.NO_PATH)
    reading.leave_out(reading.table["patient_id"].str.strip() == "", Reason.NO_PATIENT_ID)
    reading.leave_out(reading.table["path"].duplicated(), Reason.DUPLICATE)
    reading.table = reading.table.assign(path=_located(reading.table["path"], root))
    return reading


def _located(names: pd.Series, root: Path) -> pd.Series:
    """Put the folder in front of the file names where the images lie in the folders of the distribution."""
    if not len(names) or (root / names.iloc[0]).exists():
        return names
    folders = {
        entry.name: f"{folder.relative_to(root).as_posix()}/{entry.name}"
        for folder in sorted([*root.glob("images"), *root.glob("images_*/images")])
        for entry in folder.iterdir()
    }
    return names.map(folders).fillna(names).astype("str")
