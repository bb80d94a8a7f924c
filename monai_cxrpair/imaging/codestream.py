"""What does a compressed picture say it is? Read from its own header, without decoding it.

A decoder asks for the memory that the codestream claims, not for what the DICOM header says: 36 bytes that claim
60000 x 60000 cost it gigabytes and minutes.
"""

from __future__ import annotations

import struct

_J2K = b"\xff\x4f\xff\x51"  # SOC and SIZ, ISO/IEC 15444-1 A.4.1 and A.5.1
_J2K_BOXES = 4096  # bytes of JP2 boxes that may stand before it, though PS3.5 A.4.4 forbids them
_SOF55, _EOI = 0xF7, b"\xff\xd9"  # ISO/IEC 14495-1 C.2.2
# Start of frame, ISO/IEC 10918-1 table B.1: all processes but DHT (C4), JPG (C8) and DAC (CC); SOF55 is JPEG-LS.
_SOF = {*range(0xC0, 0xD0), _SOF55} - {0xC4, 0xC8, 0xCC}
_PADDING = 16  # bytes after the end: one of zero by PS3.5 A.4, and some writers add more
_ALONE = {0x01, *range(0xD0, 0xD9)}  # TEM, RSTn and SOI have no length


def claimed_shape(stream: bytes) -> tuple[int, int] | None:
    """Read rows and columns from the header of a JPEG, JPEG-LS or JPEG 2000 codestream.

    Returns:
        Rows and columns; None for another encoding (RLE), or where the header holds no size.
    """
    try:
        if (at := stream[:_J2K_BOXES].find(_J2K)) >= 0:
            right, down, left, top = struct.unpack_from(">4I", stream, at + 8)
            return down - top, right - left
        frame = _start_of_frame(stream)
        return None if frame is None else frame[1:]
    except (struct.error, IndexError):  # cut within the header
        return None


def is_jpeg_ls(stream: bytes) -> bool:
    """Whether it is a JPEG-LS codestream, whatever the file around it says."""
    try:
        frame = _start_of_frame(stream)
    except (struct.error, IndexError):
        return False
    return frame is not None and frame[0] == _SOF55


def has_end(stream: bytes) -> bool:
    """Whether a JPEG or JPEG-LS codestream ends with its end marker."""
    return _EOI in stream[-_PADDING:]


def _start_of_frame(stream: bytes) -> tuple[int, int, int] | None:
    """Marker, rows and columns."""
    if stream[:2] != b"\xff\xd8":
        return None
    at = 2
    while stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in _SOF:
            rows, columns = struct.unpack_from(">2H", stream, at + 5)
            return marker, rows, columns
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", stream, at + 2)[0]
    return None
