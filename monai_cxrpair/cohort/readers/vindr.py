"""VinDr-CXR (Nguyen et al., Scientific Data 2022): the tables of PhysioNet, and the one of the Kaggle challenge.

- `annotations/image_labels_train.csv`: image_id, rad_id and 28 findings with 1 and 0; three radiologists per image;
- `annotations/image_labels_test.csv`: image_id and the findings; the consensus of five radiologists;
- Kaggle's `train.csv`: image_id, class_name, rad_id and boxes; one row per finding that a radiologist marked.

A finding is present where at least one radiologist saw it, as torchxrayvision counts it (1,032 of the 15,000 training
images have a pleural effusion), else absent: everybody looked for everything. All are postero-anterior. An image is
`train/<image_id>.dicom` or `test/<image_id>.dicom`, or a converted file of that name.

Nobody knows which images are of one patient: every image counts as a patient of its own. The set can test an encoder;
pairs cannot be formed, and a split of it may have one person on two sides.
"""

from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort.readers import columns
from monai_cxrpair.cohort.readers.findings import finding_values, indicators, shared_name
from monai_cxrpair.cohort.readers.locate import locate
from monai_cxrpair.cohort.reading import NO_PATIENTS, Reading
from monai_cxrpair.cohort.schema import broken

NAMED = ("image_id", "rad_id", "class_name")  # Kaggle
WIDE = ("image_id", "Aortic enlargement", "Pleural effusion", "No finding")  # PhysioNet
_NO_FINDINGS = ("image_id", "rad_id", "class_name", "class_id", "x_min", "y_min", "x_max", "y_max")


def read_vindr(raw: pd.DataFrame, *, root: Path, file: Path | None = None) -> Reading:
    """Read a table of VinDr-CXR, one row per radiologist, finding or image.

    Args:
        raw: All values as text; several tables may stand below each other.
        root: The folder with `train` and `test`.
        file: Not needed.

    Returns:
        One row per image in the order in which they appear, with the public image ids and unknown patients.

    Raises:
        CxrPairError: A column is missing, or a finding holds something else than 1, 0 and blank.
    """
    columns.require(raw, "image_id")
    rows = raw.reset_index(drop=True)
    if "class_name" in rows:
        labels = indicators(rows["class_name"].where(rows["class_name"] != "", "No finding"), name=shared_name)
    else:
        found = {}
        for name in rows.columns:
            if name and name not in _NO_FINDINGS and not name.startswith("Unnamed"):
                found[shared_name(name)], wrong = finding_values(rows[name])
                broken(name, wrong | (found[shared_name(name)] == -1), "a finding of VinDr-CXR must be 1, 0 or blank")
        labels = pd.DataFrame(found, index=rows.index)
    images = rows["image_id"].str.strip()
    read = rows["rad_id"].str.strip().ne("") if "rad_id" in rows else pd.Series(False, index=rows.index)
    by_image = labels.groupby(images, sort=False).max()  # at least one radiologist; a missing value has no vote
    train = read.groupby(images, sort=False).any()
    split = train.map({True: "train", False: "test"}).astype("str")
    table = pd.DataFrame({"image_id": by_image.index.astype("str"), "published_split": split.to_numpy()})
    table["path"] = (table["published_split"] + "/" + table["image_id"] + ".dicom").mask(table["image_id"] == "", "")
    table["patient_id"] = table["study_id"] = table["image_id"]
    table["view_position"], table["laterality"], table["laterality_evidence"] = "PA", "frontal", "data set"
    table = table.join(by_image.reset_index(drop=True))
    reading = Reading(
        table=table,
        findings=list(labels.columns),
        rejects=[],
        files_seen=len(table),
        root=root,
        source="vindr",
        notes=[NO_PATIENTS],
        patients_known=False,
    )
    readers = len(rows.drop_duplicates([name for name in ("image_id", "rad_id") if name in rows]))
    reading.notes.append(f"{readers} readings of {len(table)} images: present is what at least one radiologist saw")
    reading.leave_out_unusable()
    reading.table["path"] = locate(reading.table["path"], root, folders=("train*", "test*", "images*"))
    return reading
