"""The closed list of reasons for which a file, or a row of a table, is left out of the cohort."""

from enum import StrEnum


class Reason(StrEnum):
    """Why something was left out; `description` says it in a sentence."""

    description: str

    def __new__(cls, value: str, description: str) -> "Reason":
        """Make a member that is its own text and carries a description."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.description = description
        return member

    NOT_DICOM = "not dicom", "The file is no DICOM file: no `DICM` mark and no plausible header without it."
    UNREADABLE = "unreadable", "The file cannot be opened, or its header cannot be parsed."
    TOO_SLOW = "too slow", "Reading it was given up: its header is made so that it takes forever."
    ENCRYPTED = "encrypted", "A file in an archive that needs a password: unpack it first."
    ARCHIVE = "archive", "An archive that is damaged, or lies within an archive: unpack it first."
    UNSAFE_PATH = (
        "unsafe path",
        "A name in an archive or a DICOMDIR that leads out of its folder.",
    )
    DICOMDIR = "dicomdir", "The file is the directory of a DICOM medium; the files it names are found without it."
    NO_MODALITY = "no modality", "The header does not say what kind of image it is."
    OTHER_MODALITY = "other modality", "The modality is neither CR nor DX."
    PRESENTATION_STATE = "presentation state", "A presentation state: how to show an image, not the image."
    SECONDARY_CAPTURE = "secondary capture", "A secondary capture whose modality is neither CR nor DX."
    OTHER_BODY_PART = "other body part", "The body part, or a description where it is missing, is not the chest."
    LOCALISER = "localiser", "A scout image."
    MULTI_FRAME = "multi-frame", "The object has more than one frame."
    COLOUR = "colour", "The pixels are not one grey channel."
    NO_PIXEL_DATA = "no pixel data", "The object has no pixels."
    INCOMPLETE_HEADER = "incomplete header", "An element without which the pixels cannot be read is missing."
    IMPLAUSIBLE_SIZE = "implausible size", "The header claims more pixels than a radiograph has, or than are bearable."
    TRUNCATED = "truncated", "The file holds fewer bytes of pixels than its header claims."
    BURNED_IN = (
        "burned-in annotation",
        "The header says that text is burned in; --allow-burned-in takes it.",
    )
    UNDECODABLE = "undecodable", "The pixels cannot be decoded (only looked at with --check-pixels)."
    NO_PATIENT_ID = "no patient id", "Nobody knows whose it is; such images are never pooled under an empty id."
    NO_STUDY_ID = "no study id", "The study is not known."
    NO_SOP_INSTANCE_UID = "no sop instance uid", "The image has no identity of its own."
    FOR_PROCESSING = "for processing", "The raw twin of an image that is there FOR PRESENTATION."
    DUPLICATE = (
        "duplicate",
        "An image with the same identity, or the same pixels (--check-pixels), came earlier.",
    )
    NO_PATH = "no path", "The row of the table names no file, or one outside of the root."
    EXCLUDED = "excluded", "The publisher of the data set has set the image aside (PadChest: Projection EXCLUDE)."
    MISSING_FILE = "missing file", "The file that the table names does not exist (only looked for with --check-files)."
    INVALID_VALUE = "invalid value", "A value in the row cannot be what its column says."
