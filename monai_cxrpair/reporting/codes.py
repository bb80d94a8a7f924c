"""The terms of a report: SNOMED CT, DICOM's own, and a private scheme for what neither has."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

PRIVATE_SCHEME = "99CXRPAIR"  # PS3.16 8.2: private schemes begin with 99
PRIVATE_SCHEME_NAME = "CXR-Pair private codes, not of any standard"


class Term(NamedTuple):
    """A coded concept, in the order that highdicom takes."""

    value: str
    scheme: str
    meaning: str


# The findings of the public datasets that SNOMED CT has a term for. "pleural_other", "lung_opacity" and the like stay
# private: they are groups of a dataset's own making.
_FINDINGS = {
    "atelectasis": Term("46621007", "SCT", "Atelectasis"),
    "cardiomegaly": Term("8186001", "SCT", "Cardiomegaly"),
    "consolidation": Term("95436008", "SCT", "Lung consolidation"),
    "edema": Term("19242006", "SCT", "Pulmonary edema"),  # the label of CheXpert and MIMIC-CXR means the lung's
    "fracture": Term("125605004", "SCT", "Fracture of bone"),
    "pleural_effusion": Term("60046008", "SCT", "Pleural effusion"),
    "pneumonia": Term("233604007", "SCT", "Pneumonia"),
    "pneumothorax": Term("36118008", "SCT", "Pneumothorax"),
}
# What DICOM's own CAD templates for chest and breast give the score of a device: 0 to 100 %, placed upon the finding it
# belongs to (PS3.16 TID 4104, CID 6048). (122157, DCM, "Probability") is of stress tests; 111047 is cancer's only.
CERTAINTY = Term("111012", "DCM", "Certainty of Finding")
PERCENT = Term("%", "UCUM", "Percent")
# DICOM has no term for a cut-off on a device's own score: "Threshold Value" (122411, DCM) belongs to segmentation.
THRESHOLD = Term("THRESHOLD", PRIVATE_SCHEME, "Decision threshold on Certainty of Finding")
CALIBRATED = Term("CALIBRATED", PRIVATE_SCHEME, "Calibrated probability of finding")
PRESENT = Term("52101004", "SCT", "Present")  # CID 240
ABSENT = Term("272519000", "SCT", "Absent")
COMMENT = Term("121106", "DCM", "Comment")
CHEST_RADIOGRAPHY = Term("399208008", "SCT", "Plain chest X-ray")
SOURCE_IMAGE = Term("121322", "DCM", "Source image for image processing operation")  # CID 7202
_SHORT, _LONG = 16, 64  # letters of a code value and of its meaning (SH, LO)


def finding_term(finding: str) -> Term:
    """The term of a finding; a private one, which says so, where the table has none.

    Args:
        finding: Name of a label column, such as `pleural_effusion`.
    """
    known = _FINDINGS.get(finding.strip().lower().replace(" ", "_"))
    if known is not None:
        return known
    name = " ".join(finding.replace("_", " ").replace("\\", "/").split())
    value = name.replace(" ", "_").upper()
    if len(value) > _SHORT or not value.isascii():  # cut off, two findings might look the same
        value = "F-" + hashlib.sha256(name.encode()).hexdigest()[:12].upper()
    return Term(value, PRIVATE_SCHEME, f"{name[: _LONG - 15]} (private code)")
