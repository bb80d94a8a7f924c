"""Is this DICOM object a chest radiograph that can be used? The rules, in the order in which they are asked."""

import re
from functools import lru_cache

from monai_cxrpair.cohort.dicom.header import RADIOGRAPH, Header
from monai_cxrpair.cohort.rejects import Reason

MAX_PIXELS = 1 << 26  # 8192 x 8192; the largest flat detectors have about 4300 x 4300
_PRESENTATION_STATES = "1.2.840.10008.5.1.4.1.1.11."  # PS3.4 B.5: all softcopy presentation states
_SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
# Words of the chest in BodyPartExamined (0018,0015) and in descriptions, also as they stand in real exports
# (NON GRID CHEST, PORTABLE CHEST, TORAX). Rib and spine series are other examinations with other exposures.
_CHEST = re.compile(r"CHEST|THORAX|TORAX|TORACE|LUNG|PULMO|CXR|胸|흉부")
_ELSEWHERE = re.compile(
    r"\b(?:ABDOM\w*|ANKLES?|BREASTS?|MAMMO\w*|CALCANEUS|CLAVICLES?|COCCYX|ELBOWS?|EXTREMITY|FACIAL|FEET|FEMUR|FIBULA"
    r"|FINGERS?|FOOT|FOREARM|HANDS?|HEAD|HIPS?|HUMERUS|JAW|KNEES?|LEGS?|MANDIBLE|NASAL|NECK|ORBITS?|PELVIS|BECKEN"
    r"|RIBS?|SACRUM|SCAPULA|SHOULDERS?|SINUS\w*|SKULL|[CTLS]?[ -]?SPINE|STERNUM|TEETH|DENTAL|PANORAMIC|THUMBS?"
    r"|TIBIA|TOES?|WRISTS?)\b"
)
# Projections that only other body parts have: breast, knee, ankle, skull, hip, shoulder.
_VIEWS_ELSEWHERE = re.compile(
    r"\b(?:MLO|CC|LMO|XCCL?|SUNRISE|MERCHANT|TUNNEL|MORTISE|ODONTOID|WATERS|TOWNES?|CALDWELL|FROG ?LEG|JUDET"
    r"|INLET|OUTLET|AXILLARY|SCAPULAR)\b"
)


def reason_against(header: Header) -> Reason | None:
    """Ask the rules one after the other.

    Args:
        header: The elements of `header.KEYWORDS`.

    Returns:
        The first reason against the object, or None for a chest radiograph that can be used.

    Raises:
        Exception: A value is not what its element says; pydicom converts values when they are asked for.
    """
    return _not_a_chest_radiograph(header) or _not_readable(header) or _nobodys(header)


def _not_a_chest_radiograph(header: Header) -> Reason | None:
    modality, sop_class = header.text("Modality").upper(), header.text("SOPClassUID")
    if modality == "PR" or sop_class.startswith(_PRESENTATION_STATES):
        return Reason.PRESENTATION_STATE
    # NIH and RSNA ship their radiographs as secondary captures of modality DX and CR.
    if modality not in RADIOGRAPH and (sop_class + ".").startswith(_SECONDARY_CAPTURES + "."):
        return Reason.SECONDARY_CAPTURE if modality in ("", "OT", "SC") else Reason.OTHER_MODALITY
    if not modality or not sop_class:
        return Reason.NO_MODALITY
    if modality not in RADIOGRAPH:
        return Reason.OTHER_MODALITY
    if "LOCALIZER" in header.text("ImageType").upper().split("\\"):
        return Reason.LOCALISER
    part = header.text("BodyPartExamined")
    if part and is_chest(part, ""):
        return None
    part = " ".join([part, *(meaning for (meaning,) in header.items("AnatomicRegionSequence", "CodeMeaning"))])
    said = " ".join(map(header.text, ("SeriesDescription", "ProtocolName", "StudyDescription")))
    return None if is_chest(part, said, header.text("ViewPosition")) else Reason.OTHER_BODY_PART


@lru_cache(maxsize=4096)  # an export has a few dozen different ones
def is_chest(part: str, said: str, view: str = "") -> bool:
    """Judge the body part; where it is missing, a description or the view may contradict but need not confirm."""
    if part.strip():
        return _CHEST.search(part.upper()) is not None
    said = said.upper().replace("_", " ")
    if _CHEST.search(said) is not None:
        return True
    return _ELSEWHERE.search(said) is None and _VIEWS_ELSEWHERE.search(view.upper()) is None


def _not_readable(header: Header) -> Reason | None:
    if header.number("NumberOfFrames", 1) > 1:
        return Reason.MULTI_FRAME
    photometric = header.text("PhotometricInterpretation").upper()
    if header.number("SamplesPerPixel", 1) != 1 or (photometric and not photometric.startswith("MONOCHROME")):
        return Reason.COLOUR
    pixels = header.pixels
    if not pixels.present:
        return Reason.NO_PIXEL_DATA
    rows, columns, bits = (header.number(name, 0) for name in ("Rows", "Columns", "BitsAllocated"))
    if not (photometric and rows and columns and bits):
        return Reason.INCOMPLETE_HEADER
    if rows * columns > MAX_PIXELS:
        return Reason.IMPLAUSIBLE_SIZE
    needed = 0 if pixels.encapsulated else (rows * columns * bits + 7) // 8
    return Reason.TRUNCATED if not pixels.complete or pixels.length < needed else None


def _nobodys(header: Header) -> Reason | None:
    if not header.text("PatientID").strip():  # a full-width blank is one, too
        return Reason.NO_PATIENT_ID
    if not header.text("StudyInstanceUID").strip():
        return Reason.NO_STUDY_ID
    return None if header.text("SOPInstanceUID").strip() else Reason.NO_SOP_INSTANCE_UID
