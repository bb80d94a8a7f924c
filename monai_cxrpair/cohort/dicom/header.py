"""The elements of one DICOM object that the cohort needs, as text and numbers.

A `Header` is filled with what pydicom's element generator yields and converts an element only when it is asked for:
building a `Dataset` of all elements costs more than reading them.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

_BINARY = frozenset(("Rows", "Columns", "BitsAllocated", "SamplesPerPixel"))  # unsigned shorts; all others are text
_PADDING = "\0 \t\r\n"
CHARACTER_SET = 0x00080005
KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "Modality", "ImageType", "BodyPartExamined", "AnatomicRegionSequence"),
    *("PatientID", "PatientName", "PatientSex", "PatientAge", "PatientBirthDate"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "SeriesDescription", "ProtocolName"),
    *("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "PresentationIntentType", "SourceImageSequence"),
    *("AcquisitionDeviceProcessingDescription", "PostprocessingFunction"),
    *("ViewPosition", "ViewCodeSequence", "PatientOrientation", "BurnedInAnnotation"),
    *("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
)
RADIOGRAPH = ("CR", "DX")  # RF is fluoroscopy, RG digitised film and mammograms, XA angiography
TAGS: dict[str, int] = {keyword: int(Tag(keyword)) for keyword in KEYWORDS}


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


class Header:
    """Elements of one object by tag, and what is known about its pixels.

    Args:
        elements: Tag -> pydicom's raw or converted element.
        pixels: What the file holds as pixels.

    Attributes:
        preamble: The 128 bytes before the mark (PS3.10 7.1), of which DICOM takes no notice; empty without a mark.
    """

    __slots__ = ("_elements", "_encoding", "pixels", "preamble")

    def __init__(self, elements: Mapping[int, Any], pixels: Pixels) -> None:
        self._elements = elements
        self._encoding: Sequence[str] | None = None
        self.pixels = pixels
        self.preamble = b""

    def __contains__(self, keyword: str) -> bool:
        return TAGS[keyword] in self._elements

    def text(self, keyword: str) -> str:
        """Return an element as text without padding; empty where it is absent or empty.

        Plain ASCII is taken as it stands in the file: letting pydicom convert every value costs more than reading it.
        Several values are separated by a backslash.
        """
        element = self._elements.get(TAGS[keyword])
        if element is None:
            return ""
        raw = element.value
        # An escape sequence switches to another character set (ISO 2022), though all bytes are ASCII.
        if type(raw) is bytes and keyword not in _BINARY and raw.isascii() and b"\x1b" not in raw:
            return raw.decode("ascii").strip(_PADDING)
        value = self._converted(element)
        if value is None:
            return ""
        parts = value if isinstance(value, MultiValue) else [value]
        return "\\".join(map(str, parts)).strip(_PADDING)

    def texts(self, keyword: str) -> list[str]:
        """Return the values of an element that may have several."""
        return [part.strip(_PADDING) for part in self.text(keyword).split("\\")]

    def number(self, keyword: str, default: int) -> int:
        """Return a whole number; `default` where it is absent or empty.

        Raises:
            ValueError: It is no number.
        """
        element = self._elements.get(TAGS[keyword])
        if element is None or element.value in (None, b"", ""):
            return default
        if keyword in _BINARY and type(element.value) is bytes and len(element.value) == 2:
            return int(struct.unpack("<H" if element.is_little_endian else ">H", element.value)[0])
        return int(self.text(keyword) or default)

    def items(self, keyword: str, *names: str) -> Sequence[tuple[str, ...]]:
        """Return of each item of a sequence the elements of these keywords as text, empty where they are absent."""
        element = self._elements.get(TAGS[keyword])
        if element is None:
            return ()
        if isinstance(element, RawDataElement) and type(element.value) is bytes:
            # Code sequences are the same in many files, and converting one costs as much as reading the header.
            little, implicit = element.is_little_endian, element.is_implicit_VR
            return _items_of_bytes(element.value, int(element.tag), implicit, little, tuple(self._encodings()), names)
        return _texts_of(self._converted(element), names)

    def _converted(self, element: Any) -> Any:
        if not isinstance(element, RawDataElement):
            return element.value
        return convert_raw_data_element(element, encoding=list(self._encodings())).value

    def _encodings(self) -> Sequence[str]:
        if self._encoding is None:
            declared = self._elements.get(CHARACTER_SET)
            names = declared.value if declared is not None else b""
            if isinstance(names, bytes):
                names = names.decode("ascii", "replace").strip(_PADDING).split("\\")
            self._encoding = convert_encodings(list(names)) if names else [default_encoding]
        return self._encoding


@lru_cache(maxsize=1024)
def _items_of_bytes(
    value: bytes, tag: int, implicit: bool, little: bool, encoding: tuple[str, ...], names: tuple[str, ...]
) -> Sequence[tuple[str, ...]]:
    element = RawDataElement(BaseTag(tag), "SQ", len(value), value, 0, implicit, little)
    return _texts_of(convert_raw_data_element(element, encoding=list(encoding)).value, names)


def _texts_of(items: Any, names: tuple[str, ...]) -> Sequence[tuple[str, ...]]:
    return tuple(tuple(str(item.get(name) or "").strip(_PADDING) for name in names) for item in items or ())
