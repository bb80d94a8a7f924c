"""Mutations of DICOM files that know what a DICOM file is made of."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from random import Random

from dicom_bytes import DEFLATED, ITEM, UNDEFINED, Element, elements, nested, write
from dicom_values import LENGTHS, NUMBERS, PIXEL_DATA, SHORTS, SYNTAXES, TEXTS, VALUES, VRS

Mutation = Callable[[bytes, Random], bytes]


def flip_bits(data: bytes, rng: Random) -> bytes:
    """Flip some bits: anywhere, or in the header."""
    out = bytearray(data)
    end = len(out) if rng.random() < 0.5 else min(len(out), 2048)
    for _ in range(rng.choice((1, 1, 2, 4, 16, 128)) if end else 0):
        out[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(data: bytes, rng: Random) -> bytes:
    """Cut the file: anywhere, at an element, or within its head."""
    found = elements(data)
    if found and rng.random() < 0.6:
        element = rng.choice(found)
        return data[
            : max(0, rng.choice((element.start, element.length_at, element.value_at, element.end)) - rng.randrange(3))
        ]
    return data[: rng.randrange(len(data) + 1)]


def splice(data: bytes, rng: Random) -> bytes:
    """Remove, repeat, blank or invent a stretch of bytes."""
    if not data:
        return data
    start = rng.randrange(len(data))
    length = min(rng.choice((1, 2, 4, 13, 64, 500, 4000)), len(data) - start)
    piece = rng.choice((b"", data[start : start + length] * 2, bytes(length), b"\xff" * length, rng.randbytes(length)))
    return data[:start] + piece + data[start + length :]


def lie_about_length(data: bytes, rng: Random) -> bytes:
    """Claim another length for an element."""
    found = elements(data)
    if not found:
        return splice(data, rng)
    element = rng.choice(found[-1:] if rng.random() < 0.2 else found)
    size = element.value_at - element.length_at
    length = rng.choice((*LENGTHS, element.end - element.value_at + rng.randint(-4, 4))) & (
        UNDEFINED if size == 4 else 0xFFFF
    )
    order = "<" if element.little else ">"
    return (
        data[: element.length_at] + struct.pack(order + ("L" if size == 4 else "H"), length) + data[element.value_at :]
    )


def swap_vr(data: bytes, rng: Random) -> bytes:
    """Write another value representation, over the old one or with a head of its own form."""
    found = [element for element in elements(data) if element.vr]
    if not found:
        return lie_about_length(data, rng)
    element, vr = rng.choice(found), rng.choice(VRS)
    if rng.random() < 0.5:
        return data[: element.start + 4] + vr + data[element.start + 6 :]
    return _replaced(data, element, data[element.value_at : element.end], vr=vr)


def delete(data: bytes, rng: Random) -> bytes:
    """Leave an element out."""
    found = elements(data)
    if not found:
        return splice(data, rng)
    element = rng.choice(found)
    return data[: element.start] + data[element.end :]


def duplicate(data: bytes, rng: Random) -> bytes:
    """Write an element twice or a thousand times, there or elsewhere."""
    found = elements(data)
    if not found:
        return splice(data, rng)
    element, at = rng.choice(found), rng.choice(found).end
    piece = data[element.start : element.end]
    times = rng.choice((1, 1, 1, 2, 1000)) if len(piece) < 200 else 1
    return data[:at] + piece * times + data[at:]


def claim_number(data: bytes, rng: Random) -> bytes:
    """Claim rows, columns, bits, samples or planes."""
    for tag in rng.sample(NUMBERS, rng.choice((1, 1, 2, 3))):
        data = _put(data, tag, b"US", struct.pack(_order(data) + "H", rng.choice(SHORTS)))
    return data


def claim_text(data: bytes, rng: Random) -> bytes:
    """Give one to three elements a value that is odd, of another element, or of another length."""
    for tag in rng.sample(TEXTS, rng.choice((1, 1, 2, 3))):
        value = rng.choice(VALUES)
        data = _put(data, tag, b"LO" if len(value) < 60000 else b"UT", value + b" " * (len(value) % 2))
    return data


def nest(data: bytes, rng: Random) -> bytes:
    """Put sequences a few to thousands deep in front of an element."""
    found = [element for element in elements(data) if element.tag >> 16 != 2]
    if not found:
        return splice(data, rng)
    place = rng.choice(found)
    tag = rng.choice((0x00082218, 0x00540220, 0x00283010, 0x00283000, 0x00082112, 0x00091001, 0x00400275, 0x5200_9229))
    depth = rng.choice((1, 2, 10, 100, 240, 260, 400, 1000, 3000))
    piece = nested(
        tag, depth, implicit=place.implicit, little=place.little,
        closed=rng.random() < 0.7, known=rng.random() < 0.4,
    )  # fmt: skip
    return data[: place.start] + piece + data[place.start :]


def look_up_table(data: bytes, rng: Random) -> bytes:
    """Add a modality or VOI look-up table whose descriptor and data need not agree."""
    implicit, little = _form(data)
    order = "<" if little else ">"
    entries, bits = rng.choice((0, 1, 2, 255, 256, 4096, 65535)), rng.choice((0, 8, 12, 16, 17, 65535))
    first = rng.choice((0, 1, 200, 32768, 65535))
    held = rng.choice((entries, entries, max(entries - 1, 0), entries * 2, 0, 3))
    descriptor = struct.pack(order + "3H", entries, first, bits)[: rng.choice((6, 6, 6, 6, 4, 2, 0))]
    values = rng.randbytes(min(held, 5000) * rng.choice((1, 2)))
    values += b"\0" * (len(values) % 2)
    item = write(0x00283002, rng.choice((b"US", b"SS", b"OB")), descriptor, implicit=implicit, little=little)
    item += write(0x00283006, rng.choice((b"OW", b"US", b"OB")), values, implicit=implicit, little=little)
    items = struct.pack(order + "HHL", ITEM >> 16, ITEM & 0xFFFF, len(item)) + item
    return _put(data, rng.choice((0x00283000, 0x00283010)), b"SQ", rng.choice((items, items, items * 2, b"")))


def swap_syntax(data: bytes, rng: Random) -> bytes:
    """Say that the data set is written in another transfer syntax; sometimes deflate it as well."""
    meta = [element for element in elements(data) if element.tag == 0x00020010]
    if not meta:
        return splice(data, rng)
    syntax = rng.choice(SYNTAXES)
    start = next((element.start for element in elements(data) if element.tag >> 16 != 2), len(data))
    if syntax == DEFLATED and rng.random() < 0.8:
        rest = data[start:] if rng.random() < 0.9 else data[start:] + bytes(rng.choice((1 << 20, 1 << 24)))
        packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = data[:start] + packer.compress(rest) + packer.flush()
    value = syntax.encode("utf-8")
    return _replaced(data, meta[0], value + b"\0" * (len(value) % 2), right_group=True)


def fragments(data: bytes, rng: Random) -> bytes:
    """Make of the pixels fragments with an offset table, both of which may lie."""
    pixels = next((element for element in elements(data) if element.tag == PIXEL_DATA), None)
    if pixels is None:
        return splice(data, rng)
    value = data[pixels.value_at : pixels.end]
    stream = value[16:-8] if data[pixels.length_at : pixels.length_at + 4] == b"\xff" * 4 else value
    count = rng.choice((0, 1, 1, 2, 3, 50))
    edges = sorted(rng.randrange(len(stream) + 1) for _ in range(max(count - 1, 0)))
    parts = [stream[a:b] for a, b in zip([0, *edges], [*edges, len(stream)], strict=True)] if count else []
    table = struct.pack(f"<{count}L", *(rng.choice((0, 8, 100, len(stream), UNDEFINED)) for _ in range(count)))
    table = table[: len(table) - rng.choice((0, 0, 0, 1, 2, 3))] if rng.random() < 0.6 else b""
    out = b""
    for part in (table, *parts):
        length = len(part) if rng.random() < 0.9 else rng.choice(LENGTHS)
        out += struct.pack("<HHL", *rng.choice(((0xFFFE, 0xE000),) * 9 + ((0xFFFE, 0xE00D),)), length) + part
    out += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) if rng.random() < 0.9 else b""
    data = data[: pixels.start] + write(
        PIXEL_DATA, b"OB", out, implicit=pixels.implicit, little=pixels.little, length=UNDEFINED
    )
    return data + (rng.randbytes(7) if rng.random() < 0.1 else b"")


def damage_stream(data: bytes, rng: Random) -> bytes:
    """Damage the head of the compressed picture: sizes, components, tables."""
    pixels = next((element for element in elements(data) if element.tag == PIXEL_DATA), None)
    if pixels is None:
        return flip_bits(data, rng)
    out, end = bytearray(data), min(len(data), pixels.value_at + rng.choice((60, 200, 1000)))
    for _ in range(rng.choice((1, 1, 2, 5))):
        if pixels.value_at < end:
            out[rng.randrange(pixels.value_at, end)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(out)


def no_preamble(data: bytes, rng: Random) -> bytes:
    """Without preamble, mark or file meta information; or with something else in front."""
    start = next((element.start for element in elements(data) if element.tag >> 16 != 2), len(data))
    return rng.choice((data[128:], data[132:], data[start:], data[:128] + data[132:], b"MZ" + data[2:], data[:132]))


MUTATIONS: tuple[Mutation, ...] = (
    *(flip_bits, cut, splice, lie_about_length, swap_vr, delete, duplicate, claim_number, claim_number, claim_text),
    *(claim_text, nest, look_up_table, swap_syntax, fragments, damage_stream, no_preamble),
)


def _form(data: bytes) -> tuple[bool, bool]:
    found = [element for element in elements(data) if element.tag >> 16 != 2]
    return (found[0].implicit, found[0].little) if found else (True, True)


def _order(data: bytes) -> str:
    return "<" if _form(data)[1] else ">"


def _put(data: bytes, tag: int, vr: bytes, value: bytes) -> bytes:
    """Set an element, at its place."""
    found = elements(data)
    there = next((element for element in found if element.tag == tag), None)
    if there is not None:
        return _replaced(data, there, value, vr=there.vr if len(value) < 65535 else vr)
    after = [element for element in found if element.tag < tag]
    at = after[-1].end if after else len(data)
    implicit, little = _form(data)
    return data[:at] + write(tag, vr, value, implicit=implicit, little=little) + data[at:]


def _replaced(
    data: bytes, element: Element, value: bytes, *, vr: bytes | None = None, right_group: bool = False
) -> bytes:
    new = write(element.tag, element.vr if vr is None else vr, value, implicit=element.implicit, little=element.little)
    out = data[: element.start] + new + data[element.end :]
    first = next(iter(elements(data)), None)
    if right_group and first is not None and first.tag == 0x00020000:  # else the data set is looked for elsewhere
        (said,) = struct.unpack_from("<L", data, first.value_at)
        said += len(new) - (element.end - element.start)
        out = out[: first.value_at] + struct.pack("<L", said & UNDEFINED) + out[first.value_at + 4 :]
    return out
