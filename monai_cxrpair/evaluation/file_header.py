"""What the header of a file says before its pixels are read: is it a chest radiograph, of which study, which view?"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from monai_cxrpair.cohort.dicom.archives import open_file
from monai_cxrpair.cohort.dicom.file import read_header
from monai_cxrpair.cohort.dicom.guard import quiet_pydicom
from monai_cxrpair.cohort.dicom.header import Header, Pixels
from monai_cxrpair.cohort.dicom.rules import reason_against
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.cohort.views import view_of
from monai_cxrpair.imaging.codestream import claimed_shape
from monai_cxrpair.imaging.read import PICTURE_MAGIC

# A radiograph can be scored though nobody knows whose it is.
_NO_MATTER = (Reason.NO_PATIENT_ID, Reason.NO_STUDY_ID, Reason.NO_SOP_INSTANCE_UID)
_SHOWN_MODALITY = re.compile(r"[A-Z]{2,4}")  # longer text is no modality, and may be anything
_DESCRIPTIONS = (
    *("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription", "PostprocessingFunction"),
)
_HEAD = 1 << 16  # bytes of a picture in which its size is looked for


@dataclass(frozen=True, kw_only=True)
class FileSays:
    """What a header says.

    Attributes:
        reason: why the file is not to be scored; empty where nothing speaks against it.
        study_uid: Study Instance UID, an identifier of the patient; empty where there is none.
        laterality: `frontal`, `lateral` or `unknown`; None for a file without a header that could say it (JPEG, PNG).
    """

    reason: str = ""
    study_uid: str = ""
    laterality: str | None = None


class _DigitalRadiography(Header):
    """A header of modality DR, which is not in the standard: what some archives write for DX.

    Whether its pixels are all there is left to the decoder.
    """

    __slots__ = ()

    def text(self, keyword: str) -> str:
        value = super().text(keyword)
        return "DX" if keyword == "Modality" else value


def look(path: str | PathLike[str]) -> FileSays:
    """Read the header of one file.

    Args:
        path: DICOM, JPEG, PNG, 2-D NIfTI or anything else; a folder is left to the reader of pixels.

    Returns:
        What it says. What is no DICOM file, or cannot be opened, says nothing: reading its pixels tells more.
    """
    try:
        with quiet_pydicom(), open_file(Path(path)) as stream:
            if stream.read(8).startswith(PICTURE_MAGIC):
                return FileSays()
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            return _judge(read_header(stream, size))
    except OSError:
        return FileSays()


def stored_size(path: str | PathLike[str]) -> tuple[int, int] | None:
    """Rows and columns of a radiograph as its header says, without decoding it; None where it does not say them."""
    try:
        with quiet_pydicom(), open_file(Path(path)) as stream:
            head = stream.read(8)
            stream.seek(0)
            if head.startswith(PICTURE_MAGIC):
                return _picture_size(stream)
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            header = read_header(stream, size)
            if isinstance(header, Reason):
                return None
            rows, columns = header.number("Rows", 0), header.number("Columns", 0)
            return (rows, columns) if rows > 0 and columns > 0 else None
    except (OSError, ValueError):
        return None


def _judge(header: Header | Reason) -> FileSays:
    if isinstance(header, Reason):
        return FileSays() if header is Reason.NOT_DICOM else FileSays(reason=_sentence(header))
    try:
        modality = header.text("Modality").upper()
        if modality == "DR":
            header = _DigitalRadiography(header._elements, Pixels(present=True, encapsulated=True, complete=True))
        reason = reason_against(header)
        view = view_of(
            position=header.text("ViewPosition"),
            codes=[
                said for code in header.items("ViewCodeSequence", "CodeValue", "CodeMeaning") for said in code if said
            ],
            descriptions=[(keyword, header.text(keyword)) for keyword in _DESCRIPTIONS],
            orientation=header.texts("PatientOrientation"),
        )
        study = header.text("StudyInstanceUID")
    except Exception:  # pydicom converts values when they are asked for; a broken one may raise anything
        return FileSays(reason=_sentence(Reason.INVALID_VALUE))
    said = "" if reason is None or reason in _NO_MATTER else _sentence(reason, modality)
    return FileSays(reason=said, study_uid=study, laterality=view.laterality)


def _sentence(reason: Reason, modality: str = "") -> str:
    shown = f" {modality}" if reason is Reason.OTHER_MODALITY and _SHOWN_MODALITY.fullmatch(modality) else ""
    return f"{reason}{shown}: {reason.description}"


def _picture_size(stream: BinaryIO) -> tuple[int, int] | None:
    head = stream.read(_HEAD)
    if head.startswith(b"\x89PNG"):
        columns, rows = struct.unpack_from(">2I", head, 16)  # the first chunk is IHDR
        return rows, columns
    return claimed_shape(head)
