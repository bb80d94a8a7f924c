"""Read the header of one DICOM file, whatever the bytes are, and find out whether its pixels are all there.

Nothing is read beyond what the file holds: sizes that the header claims are compared with the file first, a header may
take `MAX_HEADER` bytes and `MAX_SECONDS`.
"""

import io
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from pydicom.filereader import data_element_generator, read_partial
from pydicom.tag import BaseTag

from monai_cxrpair.cohort.dicom.guard import time_limit
from monai_cxrpair.cohort.dicom.header import CHARACTER_SET, RADIOGRAPH, TAGS, Header, Pixels
from monai_cxrpair.cohort.rejects import Reason

_PIXEL_DATA = 0x7FE00010
# Float and double pixel data end the header too. Other elements of their group (its length in ACR-NEMA files, offset
# tables) come before the pixels.
_PIXELS = frozenset((0x7FE00008, 0x7FE00009, _PIXEL_DATA))
_WANTED = [CHARACTER_SET, *TAGS.values()]
_LAST_WANTED = max(_WANTED)
_UNDEFINED = 0xFFFFFFFF
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
DICOMDIR = "1.2.840.10008.1.3.10"  # Media Storage Directory Storage, PS3.4 Annex I
_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
# Without the `DICM` mark only files that start with one of these groups (file meta, identifying group, ACR-NEMA's
# length-to-end) are worth a try; pydicom would "read" HTML, PNG or CSV without an error.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
HEAD = 1 << 15  # bytes; nearly all headers are smaller, and reading so much at once costs nothing
MAX_INFLATED = 1 << 28  # bytes; a deflated radiograph is far smaller, a zip bomb is not
MAX_HEADER = 1 << 24  # bytes that are read (not skipped) before the pixels; thumbnails and private data fit in
MAX_VALUE = 1 << 20  # bytes of one element that is looked at
MAX_SECONDS = 4.0  # for one header; a usual one takes a ten-thousandth of it


def is_marked(path: Path) -> bool:
    """Say whether a file has the mark of DICOM (PS3.10 7.1), as a DICOMDIR has."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_header(file: BinaryIO, size: int) -> Header | Reason:
    """Read the elements of `header.KEYWORDS` from a file.

    A header within the first `HEAD` bytes is bounded by them; the others get no more than `MAX_SECONDS`.

    Args:
        file: Any file that can be sought, at its start.
        size: Its size in bytes.

    Returns:
        The elements and what is known about the pixels, or the reason why there are none.
    """
    marked = True  # until the first bytes are there: what cannot be opened is unreadable, not foreign
    try:
        head = file.read(HEAD)
        marked = head[128:132] == b"DICM"
        if not marked and head[:2] not in _FIRST_GROUPS:
            return Reason.NOT_DICOM
        start, syntax, kind = file_meta(head) if marked else (0, "", "")
        if kind == DICOMDIR:
            return Reason.DICOMDIR
        header: Header | Reason | None = _from_head(file, size, head, start, syntax)
        if header is None:
            with time_limit(MAX_SECONDS):
                header = _at_leisure(file, size, head, start, syntax)
    except TimeoutError:
        return Reason.TOO_SLOW
    except Exception:  # a parser that is fed foreign bytes may raise anything; the file gets its reason
        return Reason.UNREADABLE if marked else Reason.NOT_DICOM
    if isinstance(header, Header) and not marked and not ("SOPClassUID" in header and "Modality" in header):
        return Reason.NOT_DICOM
    if isinstance(header, Header) and marked:
        header.preamble = head[:128]
    return header


def file_meta(head: bytes) -> tuple[int, str, str]:
    """Return where the data set starts, its transfer syntax and its media storage class; 0 where that is unusual."""
    if head[132:138] != b"\x02\x00\x00\x00UL":  # PS3.10 7.1: preamble, mark, group length, the group
        return 0, "", ""
    start = 144 + int(struct.unpack("<L", head[140:144])[0])
    if start > len(head) - 8:
        return 0, "", ""
    meta = data_element_generator(io.BytesIO(head[144:start]), False, True, specific_tags=[0x00020002, 0x00020010])
    texts = {int(element.tag): element.value.decode("ascii").strip("\0 ") for element in meta}
    return start, texts.get(0x00020010, ""), texts.get(0x00020002, "")


def _from_head(file: BinaryIO, size: int, head: bytes, start: int, syntax: str) -> Header | None:
    """Read a header as nearly all are: short, right behind the file meta information, in the syntax it says.

    Returns:
        The header; None where something is unusual, for a slower and more patient look.
    """
    if not _is_as_said(head, start, syntax):
        return None
    stream = io.BytesIO(head)
    stream.seek(start)
    try:
        header, ended = _elements(stream, file, size, syntax)
    except Exception:  # a sequence may be cut by the end of the head
        return None
    return header if ended or size <= len(head) else None


def _at_leisure(file: BinaryIO, size: int, head: bytes, start: int, syntax: str) -> Header | Reason:
    """Read a long header from the file itself, and leave to pydicom what is not written as it should be."""
    if _is_as_said(head, start, syntax):
        return _elements(_Bounded(file, start), file, size, syntax)[0]
    if syntax == DEFLATED:
        size = inflated_size(file, start)
        if size > MAX_INFLATED:
            return Reason.IMPLAUSIBLE_SIZE
    file.seek(0)
    return _with_pydicom(file, size, deflated=syntax == DEFLATED)


def _is_as_said(head: bytes, start: int, syntax: str) -> bool:
    """Say whether the data set is plainly there, with explicit value representations where the syntax has them."""
    if not start or not syntax or syntax == DEFLATED:
        return False
    vr = head[start + 4 : start + 6]
    return (syntax != _IMPLICIT) == (vr.isalpha() and vr.isupper())


def _elements(stream: Any, file: BinaryIO, size: int, syntax: str) -> tuple[Header, bool]:
    """Collect the wanted elements up to the pixels; say whether nothing that comes after the stream can matter."""
    pixels = Pixels()
    collected: dict[int, Any] = {}
    ended = False

    def at_end(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal pixels, ended
        if not int.__gt__(tag, _LAST_WANTED):  # BaseTag compares in Python; this runs for every element of every file
            return False
        if int(tag) == _PIXEL_DATA:
            pixels = _pixels_at(file, stream.tell(), length, size)
        # What is no radiograph needs no further look: the sequences of other modalities are as large as they like.
        ended = int(tag) in _PIXELS or Header(collected, pixels).text("Modality").upper() not in RADIOGRAPH
        return ended

    implicit, little = syntax == _IMPLICIT, syntax != _BIG_ENDIAN
    for element in data_element_generator(
        stream, implicit, little, stop_when=at_end, defer_size=MAX_VALUE, specific_tags=_WANTED
    ):
        collected[int(element.tag)] = element
    return Header(collected, pixels), ended


class _Bounded:
    """A file from which no more than `MAX_HEADER` bytes can be read, however far it is sought."""

    def __init__(self, file: BinaryIO, start: int = 0) -> None:
        self._file = file
        self._left = MAX_HEADER
        self.seek, self.tell = file.seek, file.tell
        file.seek(start)

    def read(self, length: int = -1) -> bytes:
        if length < 0 or length > self._left:
            length = self._left + 1
        data = self._file.read(length)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("a header of this length is none")
        return data


def _with_pydicom(file: BinaryIO, size: int, *, deflated: bool) -> Header | Reason:
    """Read what has no mark, no or wrong meta information, or is deflated."""
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

    source: Any = file if deflated else _Bounded(file)
    dataset = read_partial(source, stop_when=at_pixels, defer_size=MAX_VALUE, force=True, specific_tags=_WANTED)
    if str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == DICOMDIR:
        return Reason.DICOMDIR
    return Header({int(tag): dataset.get_item(tag) for tag in dataset.keys()}, found)  # noqa: SIM118 - raw elements


def _pixels_at(file: BinaryIO, start: int, length: int, size: int) -> Pixels:
    if length == _UNDEFINED:
        position = file.tell()
        complete = _last_fragment_is_there(file, start, size)
        file.seek(position)  # pydicom rewinds from here
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


def inflated_size(file: BinaryIO, start: int) -> int:
    """Inflate a deflated data set piece by piece and return its size; stop once it is beyond bearing."""
    if not start:
        raise ValueError("no group length in the file meta information")
    file.seek(start)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    while piece := file.read(1 << 16):
        while piece and total <= MAX_INFLATED:
            total += len(inflater.decompress(piece, 1 << 22))
            piece = inflater.unconsumed_tail
        if total > MAX_INFLATED or inflater.eof:
            break
    return total
