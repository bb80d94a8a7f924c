"""Read the header of one DICOM file, whatever the bytes are, and find out whether its pixels are all there.

Nothing is read beyond what the file holds: sizes that the header claims are compared with the file first.
"""

import io
import logging
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag, Tag

from monai_cxrpair.cohort.rejects import Reason

_PIXEL_DATA = 0x7FE00010
# Float and double pixel data end the header too. Other elements of their group (its length in ACR-NEMA files, offset
# tables) come before the pixels.
_PIXELS = frozenset((0x7FE00008, 0x7FE00009, _PIXEL_DATA))
_UNDEFINED = 0xFFFFFFFF
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_DICOMDIR = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage, PS3.4 Annex I
_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
# Without the `DICM` mark only files that start with one of these groups (file meta, identifying group, ACR-NEMA's
# length-to-end) are worth a try; pydicom would "read" HTML, PNG or CSV without an error.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
MAX_INFLATED = 1 << 30  # bytes; a deflated radiograph is far smaller, a zip bomb is not

KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "BodyPartExamined", "AnatomicRegionSequence"),
    *("PatientID", "PatientName", "PatientSex", "PatientAge", "PatientBirthDate"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "SeriesDescription", "ProtocolName"),
    *("AcquisitionDeviceProcessingDescription", "ViewPosition", "ViewCodeSequence", "PatientOrientation"),
    *("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
)
TAGS: dict[str, Any] = {keyword: Tag(keyword) for keyword in KEYWORDS}


@dataclass(frozen=True)
class Pixels:
    """What the file holds as PixelData (7FE0,0010).

    Attributes:
        present: Is the element there?
        encapsulated: Is it a sequence of fragments (compressed)?
        length: Bytes of the value for native pixels, as far as the file holds them; 0 for encapsulated ones.
        complete: Does the file hold all that the element claims, to the last fragment?
    """

    present: bool = False
    encapsulated: bool = False
    length: int = 0
    complete: bool = False


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from printing: its warnings quote values, which may be a patient's."""
    settings = pydicom.config.settings
    logger = logging.getLogger("pydicom")
    before, disabled = settings.reading_validation_mode, logger.disabled
    settings.reading_validation_mode, logger.disabled = pydicom.config.IGNORE, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.reading_validation_mode, logger.disabled = before, disabled


def read_header(path: Path) -> tuple[Any, Pixels] | Reason:
    """Read the elements of `KEYWORDS` from a file.

    Args:
        path: Any file, with any name.

    Returns:
        The data set and what is known about its pixels, or the reason why there is none.
    """
    marked = True  # until the first bytes are there: what cannot be opened is unreadable, not foreign
    try:
        # A pipe or a device would block or never end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return Reason.UNREADABLE
        with path.open("rb") as file:
            head = file.read(1024)
            marked = head[128:132] == b"DICM"
            if not marked and head[:2] not in _FIRST_GROUPS:
                return Reason.NOT_DICOM
            size = file.seek(0, io.SEEK_END)
            deflated = marked and _DEFLATED in head
            if deflated:
                size = _inflated_size(file, head)
                if size > MAX_INFLATED:
                    return Reason.IMPLAUSIBLE_SIZE
            file.seek(0)
            dataset, pixels = _parse(file, size, deflated=deflated)
    except Exception:  # a parser that is fed foreign bytes may raise anything; the file gets its reason
        return Reason.UNREADABLE if marked else Reason.NOT_DICOM
    if str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == _DICOMDIR:
        return Reason.DICOMDIR
    if not marked and not ("SOPClassUID" in dataset and "Modality" in dataset):
        return Reason.NOT_DICOM
    return dataset, pixels


def _parse(file: BinaryIO, size: int, *, deflated: bool) -> tuple[Any, Pixels]:
    """Read up to the pixels, and look at the frame around them."""
    found = Pixels()

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal found
        if tag not in _PIXELS:
            return False
        if tag == _PIXEL_DATA and deflated:
            # The position in the inflated data is not known here, only that it cannot hold more than its size.
            found = Pixels(present=True, length=min(length, size), complete=length <= size)
        elif tag == _PIXEL_DATA:
            found = _pixels_at(file, file.tell(), length, size)  # pydicom stands behind the element's length here
        return True

    dataset = read_partial(file, stop_when=at_pixels, force=True, specific_tags=list(TAGS.values()))
    return dataset, found


def _pixels_at(file: BinaryIO, start: int, length: int, size: int) -> Pixels:
    if length == _UNDEFINED:
        complete = _last_fragment_is_there(file, start, size)
        file.seek(start)  # pydicom rewinds from here
        return Pixels(present=True, encapsulated=True, complete=complete)
    return Pixels(present=True, length=min(length, size - start), complete=start + length <= size)


def _last_fragment_is_there(file: BinaryIO, start: int, size: int) -> bool:
    """Walk over the fragments of encapsulated pixels (PS3.5 A.4) to the delimiter, reading only their heads."""
    position = start
    while position + 8 <= size:
        file.seek(position)
        group, element, length = struct.unpack("<HHL", file.read(8))
        if (group, element) == _END:
            return True
        if (group, element) != _ITEM or length == _UNDEFINED:
            return False
        position += 8 + length
    return False


def _inflated_size(file: BinaryIO, head: bytes) -> int:
    """Inflate a deflated data set piece by piece and return its size; stop once it is beyond bearing."""
    if head[132:138] != b"\x02\x00\x00\x00UL":
        raise ValueError("no group length in the file meta information")
    file.seek(144 + struct.unpack("<L", head[140:144])[0])  # PS3.10 7.1: preamble, mark, group length, the group
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    while piece := file.read(1 << 16):
        while piece and total <= MAX_INFLATED:
            total += len(inflater.decompress(piece, 1 << 22))
            piece = inflater.unconsumed_tail
        if total > MAX_INFLATED or inflater.eof:
            break
    return total
