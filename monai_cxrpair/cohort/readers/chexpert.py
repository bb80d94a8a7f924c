"""The tables of CheXpert (Irvin et al., AAAI 2019), small and full: train, valid and test, and MedAug's splits of them.

Columns read: Path, Sex, Age (years), Frontal/Lateral, AP/PA and the 14 observations with the values 1 (positive),
0 (negative), -1 (uncertain) and blank (not mentioned). Patient, study and image follow from Path, e.g.
`CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg`, and so does `published_split`. Study numbers are not
always in the order of time. The labels of the test set have only the observations and Path, or Study (such as
`CheXpert-v1.0/test/patient64741/study1`; the images are then looked for in that folder): the laterality follows from
the file name.
"""

import re
from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort import views
from monai_cxrpair.cohort.readers import columns
from monai_cxrpair.cohort.readers.findings import CHEXPERT, finding_name, finding_values
from monai_cxrpair.cohort.readers.paths import relative_paths, strip_leading_folder
from monai_cxrpair.cohort.reading import Reading
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.cohort.schema import broken
from monai_cxrpair.errors import CxrPairError

COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
TEST = tuple(
    frozenset({key, "Enlarged Cardiomediastinum", "Pleural Effusion", "Support Devices"}) for key in ("Path", "Study")
)
_PATH = re.compile(r"(patient\d+)/(study\d+)(?:/([^/]+)\.\w+)?$")
_SPLIT = re.compile(r"(?:^|/)(train|valid|test)/patient\d+/")
_SPLITS = {"train": "train", "valid": "validation", "test": "test"}


def public_ids(paths: pd.Series) -> pd.Series:
    """Make the study or image id of each path: `patient00001/study1` or `patient00001/study1/view1_frontal`."""
    matches = [_PATH.search(path.strip().rstrip("/")) for path in paths.tolist()]
    ids = ["/".join(part for part in match.groups() if part) if match else "" for match in matches]
    return pd.Series(ids, index=paths.index, dtype="str")


def read_chexpert(raw: pd.DataFrame, *, root: Path, file: Path | None = None) -> Reading:
    """Read a CheXpert table; an extra unnamed index column and absolute paths (MedAug's) do no harm.

    Args:
        raw: All values as text.
        root: The folder that holds `CheXpert-v1.0-small`, or that folder itself, or the one that holds `train`.
        file: Not needed.

    Returns:
        The radiographs; rows whose Path is not CheXpert's, and repeated ones, are left out. The public ids are kept.

    Raises:
        CxrPairError: A column is missing, an observation holds something else than 1, 0, -1 and blank, or a table by
            Study has no images beneath the root.
    """
    if "Path" not in raw and "Study" in raw:
        raw = _images(raw, root)
    columns.require(raw, "Path")
    # MedAug's splits hold the paths of another machine: what stands before the data set's own folder is dropped.
    own = raw["Path"]
    if own.str.startswith("/").any():
        own = own.str.replace(r"^/.*?(?=CheXpert-v[^/]*/)", "", regex=True)
    matches = [_PATH.search(path) for path in own.tolist()]  # six times as fast as str.extract
    parts = [match.groups("") if match else ("", "", "") for match in matches]
    table = pd.DataFrame(parts, columns=["patient_id", "study", "image"], dtype="str", index=raw.index)
    table["path"] = relative_paths(own, root)
    by_name = "Frontal/Lateral" not in raw
    seen = table["image"].str.rpartition("_")[2] if by_name else raw["Frontal/Lateral"]
    table["laterality"] = columns.parsed(seen, columns.parse_laterality, "str")
    known = {True: "file name" if by_name else "Frontal/Lateral", False: ""}
    table["laterality_evidence"] = table["laterality"].ne("unknown").map(known)
    if "AP/PA" in raw:
        table["view_position"] = columns.parsed(raw["AP/PA"], views.normal_position, "str")
    if "Age" in raw:
        table["age"] = columns.parsed(raw["Age"], columns.parse_age, "float64")
    if "Sex" in raw:
        table["sex"] = columns.parsed(raw["Sex"], columns.parse_sex, "str")
    splits = [_SPLIT.search(path) for path in own.tolist()]
    table["published_split"] = [_SPLITS[match[1]] if match else "" for match in splits]
    findings = {finding_name(name): name for name in raw.columns if finding_name(name) in CHEXPERT}
    for name, source in findings.items():
        table[name], wrong = finding_values(raw[source])
        broken(source, wrong, "an observation must be 1, 0, -1 or blank")
    reading = Reading(
        table=table, findings=list(findings), rejects=[], files_seen=len(raw), root=root, source="chexpert"
    )
    foreign = (table["image"] == "") | (table["path"] == "")
    table["path"] = table["path"].mask(foreign, raw["Path"])
    reading.leave_out(foreign, Reason.NO_PATIENT_ID)
    reading.leave_out(reading.table["path"].duplicated(), Reason.DUPLICATE)
    table = reading.table = reading.table.copy()
    if len(table):
        table["path"] = strip_leading_folder(table["path"], root)
    table["study_id"] = table["patient_id"] + "/" + table.pop("study")
    table["image_id"] = table["study_id"] + "/" + table.pop("image")
    return reading


def _images(raw: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Turn a table with one row per study into one with one row per image, by the files beneath the root."""
    rows: list[int] = []
    paths: list[str] = []
    for row, study in enumerate(raw["Study"].str.strip().str.strip("/").tolist()):
        inner = "/".join(study.split("/")[1:])  # the root may be the folder that the table names
        for folder in (study, inner):
            files = sorted((root / folder).glob("view*.*")) if folder else []
            rows.extend([row] * len(files))
            paths.extend(f"{folder}/{file.name}" for file in files)
            if files:
                break
    if not rows:
        raise CxrPairError(
            f"the table names studies, and there are no images of them beneath {root}: give --root, or index the "
            "images by another table and give this one as --labels"
        )
    return raw.iloc[rows].reset_index(drop=True).assign(Path=pd.Series(paths, dtype="str"))
