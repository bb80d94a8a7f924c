"""DICOM as bytes: find the elements of a data set and write others, without pydicom and without any check.

pydicom refuses to write most of what a fuzzer wants to write, and what it reads is what is being tested.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
UNDEFINED = 0xFFFFFFFF
META_START = 132
IMPLICIT, EXPLICIT, BIG, DEFLATED = (f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".2", ".1.99"))
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


@dataclass(frozen=True)
class Element:
    """Where an element of a file stands.

    Attributes:
        tag: group * 65536 + element.
        vr: its two letters; empty where they are not written.
        start: of its tag.
        length_at: of its length.
        value_at: of its value.
        end: behind its value.
        implicit, little: how it is written.
    """

    tag: int
    vr: bytes
    start: int
    length_at: int
    value_at: int
    end: int
    implicit: bool
    little: bool


def elements(data: bytes) -> list[Element]:
    """The elements at the top of a file, as far as they can be followed; sequences count as one."""
    found: list[Element] = []
    at, syntax = (META_START, "") if data[128:132] == b"DICM" else (0, IMPLICIT)
    while at + 8 <= len(data) and len(found) < 2000:
        meta = data[at : at + 2] == b"\x02\x00" and at >= META_START
        if not meta and syntax == DEFLATED:
            break
        element = _element(data, at, implicit=not meta and syntax == IMPLICIT, little=meta or syntax != BIG)
        if element is None:
            break
        found.append(element)
        if element.tag == 0x00020010:
            syntax = data[element.value_at : element.end].decode("ascii", "replace").strip("\0 ")
        at = element.end
    return found


def _element(data: bytes, at: int, *, implicit: bool, little: bool) -> Element | None:
    order = "<" if little else ">"
    group, number = struct.unpack_from(order + "HH", data, at)
    vr = b"" if implicit else data[at + 4 : at + 6]
    if implicit:
        length_at, length = at + 4, struct.unpack_from(order + "L", data, at + 4)[0]
    elif vr in LONG:
        if at + 12 > len(data):
            return None
        length_at, length = at + 8, struct.unpack_from(order + "L", data, at + 8)[0]
    elif vr.isalpha() and vr.isupper():
        length_at, length = at + 6, struct.unpack_from(order + "H", data, at + 6)[0]
    else:
        return None
    value_at = length_at + (2 if vr and vr not in LONG else 4)
    if length == UNDEFINED:
        mark = struct.pack(order + "HHL", 0xFFFE, 0xE0DD, 0)
        end = data.rfind(mark, value_at) if (group, number) == (0x7FE0, 0x0010) else data.find(mark, value_at)
        end = len(data) if end < 0 else end + 8
    else:
        end = min(value_at + length, len(data))
    return Element((group << 16) | number, vr, at, length_at, value_at, end, implicit, little)


def write(tag: int, vr: bytes, value: bytes, *, implicit: bool, little: bool, length: int | None = None) -> bytes:
    """An element; `length` is what it claims, the truth where it is None."""
    order = "<" if little else ">"
    said = len(value) if length is None else length
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack(order + "L", said & UNDEFINED) + value
    if vr in LONG:
        return head + vr + b"\0\0" + struct.pack(order + "L", said & UNDEFINED) + value
    return head + vr + struct.pack(order + "H", said & 0xFFFF) + value


def nested(tag: int, depth: int, *, implicit: bool, little: bool, closed: bool, known: bool) -> bytes:
    """Sequences within sequences.

    Args:
        tag: of each of them.
        depth: how many.
        implicit, little: how they are written.
        closed: write the delimiters, too.
        known: with lengths instead of delimiters.
    """
    order = "<" if little else ">"

    def mark(which: int, length: int) -> bytes:
        return struct.pack(order + "HHL", which >> 16, which & 0xFFFF, length)

    if known:
        inner = b""
        for _ in range(min(depth, 1500)):  # each level copies all within it
            item = mark(ITEM, len(inner)) + inner
            inner = write(tag, b"SQ", item, implicit=implicit, little=little)
        return inner
    opened = write(tag, b"SQ", b"", implicit=implicit, little=little, length=UNDEFINED) + mark(ITEM, UNDEFINED)
    return opened * depth + (mark(ITEM_END, 0) + mark(SEQUENCE_END, 0)) * (depth if closed else 0)
