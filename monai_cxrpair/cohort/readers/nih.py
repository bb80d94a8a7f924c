"""The table of NIH ChestX-ray14 (Wang et al., CVPR 2017), Data_Entry_2017.csv.

Columns read: Image Index, Finding Labels (`|` between names, `No Finding`), Follow-up #, Patient ID, Patient Age,
Patient Gender, View Position. `train_val_list.txt` and `test_list.txt` beside it become `published_split` (train,
test). A follow-up has one image, so the same-study rules have no partner here, and there are no laterals. Labels were
mined from reports: what is not named is 0, nothing is uncertain or missing.
"""

from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort import views
from monai_cxrpair.cohort.readers import columns
from monai_cxrpair.cohort.readers.findings import indicators
from monai_cxrpair.cohort.readers.locate import locate
from monai_cxrpair.cohort.reading import Reading

COLUMNS = (
    *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position"),
)
_LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}


def read_nih(raw: pd.DataFrame, *, root: Path, file: Path | None = None) -> Reading:
    """Read the NIH table.

    Args:
        raw: All values as text: patient ids may have leading zeros.
        root: The folder with the images: directly, in `images/`, or in the twelve folders `images_001/images/`, ...
        file: The table's file.

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
    table["laterality_evidence"] = table["laterality"].ne("unknown").map({True: "View Position", False: ""})
    lists = {split: file.with_name(name) for split, name in _LISTS.items()} if file is not None else {}
    for split, listed in lists.items():
        if listed.is_file():
            held = table["image_id"].isin(listed.read_text(encoding="utf-8").split())
            table["published_split"] = table.get("published_split", pd.Series("", index=table.index)).mask(held, split)
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
    reading.leave_out_unusable()
    reading.table["path"] = locate(reading.table["path"], root, folders=("images", "images_*/images"))
    return reading
