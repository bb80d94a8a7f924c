"""Is this DICOM object a chest radiograph that can be used? The rules, in the order in which they are asked."""

import re
from typing import Any

from pydicom.multival import MultiValue

from monai_cxrpair.cohort.dicom_file import TAGS, Pixels
from monai_cxrpair.cohort.rejects import Reason

_BINARY = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel")  # unsigned shorts; all others are text
_PADDING = "\0 \t\r\n"
RADIOGRAPH = ("CR", "DX")  # RF is fluoroscopy, RG digitised film and mammograms, XA angiography
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


def text(dataset: Any, keyword: str) -> str:
    """Return an element as text without padding; empty where it is absent or empty.

    Plain ASCII is taken as it stands in the file: letting pydicom convert every value costs more than reading it.
    Several values are separated by a backslash.
    """
    tag = TAGS.get(keyword, keyword)
    if tag not in dataset:
        return ""
    element = dataset.get_item(tag)
    raw = element.value if element.is_raw and keyword not in _BINARY else None
    # An escape sequence switches to another character set (ISO 2022), though all bytes are ASCII.
    if isinstance(raw, bytes) and raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii").strip(_PADDING)
    value = dataset[tag].value
    if value is None:
        return ""
    parts = value if isinstance(value, MultiValue) else [value]
    return "\\".join(map(str, parts)).strip(_PADDING)


def texts(dataset: Any, keyword: str) -> list[str]:
    """Return the values of an element that may have several."""
    return [part.strip(_PADDING) for part in text(dataset, keyword).split("\\")]


def meanings(dataset: Any, keyword: str) -> list[str]:
    """Return the code meanings of a code sequence."""
    return [text(item, "CodeMeaning") for item in dataset.get(keyword) or []]


def reason_against(dataset: Any, pixels: Pixels) -> Reason | None:
    """Ask the rules one after the other.

    Args:
        dataset: The elements of `dicom_file.KEYWORDS`.
        pixels: What the file holds as pixels.

    Returns:
        The first reason against the object, or None for a chest radiograph that can be used.
    """
    return _not_a_chest_radiograph(dataset) or _not_readable(dataset, pixels) or _nobodys(dataset)


def _not_a_chest_radiograph(dataset: Any) -> Reason | None:
    modality, sop_class = text(dataset, "Modality").upper(), text(dataset, "SOPClassUID")
    if modality == "PR" or sop_class.startswith(_PRESENTATION_STATES):
        return Reason.PRESENTATION_STATE
    # NIH and RSNA ship their radiographs as secondary captures of modality DX and CR.
    if modality not in RADIOGRAPH and (sop_class + ".").startswith(_SECONDARY_CAPTURES + "."):
        return Reason.SECONDARY_CAPTURE if modality in ("", "OT", "SC") else Reason.OTHER_MODALITY
    if not modality or not sop_class:
        return Reason.NO_MODALITY
    if modality not in RADIOGRAPH:
        return Reason.OTHER_MODALITY
    if any(kind.upper() == "LOCALIZER" for kind in texts(dataset, "ImageType")):
        return Reason.LOCALISER
    return None if is_chest(dataset) else Reason.OTHER_BODY_PART


def is_chest(dataset: Any) -> bool:
    """Judge the body part; where it is missing, a description may contradict but need not confirm."""
    part = " ".join([text(dataset, "BodyPartExamined"), *meanings(dataset, "AnatomicRegionSequence")]).upper().strip()
    if part:
        return _CHEST.search(part) is not None
    descriptions = ("SeriesDescription", "ProtocolName", "StudyDescription")
    said = " ".join(text(dataset, keyword) for keyword in descriptions).upper().replace("_", " ")
    return _CHEST.search(said) is not None or _ELSEWHERE.search(said) is None


def _not_readable(dataset: Any, pixels: Pixels) -> Reason | None:
    if int(text(dataset, "NumberOfFrames") or 1) > 1:
        return Reason.MULTI_FRAME
    photometric = text(dataset, "PhotometricInterpretation").upper()
    samples = int(text(dataset, "SamplesPerPixel") or 1)
    if samples != 1 or (photometric and not photometric.startswith("MONOCHROME")):
        return Reason.COLOUR
    if not pixels.present:
        return Reason.NO_PIXEL_DATA
    rows, columns, bits = (int(text(dataset, name) or 0) for name in ("Rows", "Columns", "BitsAllocated"))
    if not (photometric and rows and columns and bits):
        return Reason.INCOMPLETE_HEADER
    if rows * columns > MAX_PIXELS:
        return Reason.IMPLAUSIBLE_SIZE
    needed = 0 if pixels.encapsulated else (rows * columns * bits + 7) // 8
    return Reason.TRUNCATED if not pixels.complete or pixels.length < needed else None


def _nobodys(dataset: Any) -> Reason | None:
    if not text(dataset, "PatientID"):
        return Reason.NO_PATIENT_ID
    if not text(dataset, "StudyInstanceUID"):
        return Reason.NO_STUDY_ID
    return None if text(dataset, "SOPInstanceUID") else Reason.NO_SOP_INSTANCE_UID
