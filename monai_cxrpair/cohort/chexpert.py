"""The tables of CheXpert (Irvin et al., AAAI 2019): train.csv, valid.csv, and MedAug's splits of them.

Columns read: Path, Sex, Age, Frontal/Lateral, AP/PA and the 14 observations with the values 1 (positive),
0 (negative), -1 (uncertain) and blank (not mentioned). Patient, study and image follow from Path, e.g.
`CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg`. Study numbers are not always in the order of time.
"""

import re
from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort import columns, views
from monai_cxrpair.cohort.findings import CHEXPERT, finding_name, finding_values
from monai_cxrpair.cohort.paths import relative_paths, strip_leading_folder
from monai_cxrpair.cohort.reading import Reading
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.cohort.schema import broken

COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
_PATH = re.compile(r"(patient\d+)/(study\d+)/([^/]+)\.\w+$")


def read_chexpert(raw: pd.DataFrame, *, root: Path) -> Reading:
    """Read a CheXpert table; an extra unnamed index column and absolute paths (MedAug's) do no harm.

    Args:
        raw: All values as text.
        root: The folder that holds `CheXpert-v1.0-small`, or that folder itself, or the one that holds `train`.

    Returns:
        The radiographs; rows whose Path is not CheXpert's, and repeated ones, are left out. The public ids are kept.

    Raises:
        CxrPairError: A column is missing, or an observation holds something else than 1, 0, -1 and blank.
    """
    for name in COLUMNS:
        columns.require(raw, name)
    # MedAug's splits hold the paths of another machine: what stands before the data set's own folder is dropped.
    own = raw["Path"]
    if own.str.startswith("/").any():
        own = own.str.replace(r"^/.*?(?=CheXpert-v[^/]*/)", "", regex=True)
    matches = [_PATH.search(path) for path in own.tolist()]  # six times as fast as str.extract
    parts = [match.groups() if match else ("", "", "") for match in matches]
    table = pd.DataFrame(parts, columns=["patient_id", "study", "image"], dtype="str", index=raw.index)
    table["path"] = relative_paths(own, root)
    table["laterality"] = columns.parsed(raw["Frontal/Lateral"], columns.parse_laterality, "str")
    table["view_position"] = columns.parsed(raw["AP/PA"], views.normal_position, "str")
    table["age"] = columns.parsed(raw["Age"], columns.parse_age, "float64")
    table["sex"] = columns.parsed(raw["Sex"], columns.parse_sex, "str")
    findings = {finding_name(name): name for name in raw.columns if finding_name(name) in CHEXPERT}
    for name, source in findings.items():
        table[name], wrong = finding_values(raw[source])
        broken(source, wrong, "an observation must be 1, 0, -1 or blank")
    reading = Reading(
        table=table, findings=list(findings), rejects=[], files_seen=len(raw), root=root, source="chexpert"
    )
    foreign = (table["patient_id"] == "") | (table["path"] == "")
    table["path"] = table["path"].mask(foreign, raw["Path"])
    reading.leave_out(foreign, Reason.NO_PATIENT_ID)
    reading.leave_out(reading.table["path"].duplicated(), Reason.DUPLICATE)
    table = reading.table = reading.table.copy()
    if len(table):
        table["path"] = strip_leading_folder(table["path"], root)
    table["study_id"] = table["patient_id"] + "/" + table.pop("study")
    table["image_id"] = table["study_id"] + "/" + table.pop("image")
    return reading
