"""Mutations of PNG, JPEG and NIfTI."""

from __future__ import annotations

import struct
import zlib
from random import Random

from mutate_raw import SIZES, number, raw


def picture(data: bytes, rng: Random) -> bytes:
    """PNG: the chunks, with checksums that are right; JPEG: the markers."""
    if rng.random() < 0.4:
        return raw(data, rng)
    if data[:2] == b"\xff\xd8":
        at = next((at for at in range(2, len(data) - 9) if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC2)), None)
        if at is None or rng.random() < 0.3:
            return number(data, rng)
        size = struct.pack(">2H", *(rng.choice(SIZES) & 0xFFFF for _ in range(2)))
        tail = data[at + 9 :] if rng.random() < 0.7 else bytes([rng.randrange(256)]) + data[at + 10 :]
        return data[: at + 5] + size + tail
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">L", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    which = rng.randrange(len(chunks)) if chunks and rng.random() < 0.5 else 0
    kind, body = chunks[which] if chunks else (b"IHDR", bytes(13))
    if kind == b"IHDR" and len(body) == 13:
        size = struct.pack(">2L", rng.choice(SIZES), rng.choice(SIZES)) if rng.random() < 0.7 else body[:8]
        form = bytes((rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 1)), 0, 0, rng.choice((0, 1))))
        body = size + (form if rng.random() < 0.6 else body[8:])
    else:
        body = rng.choice((b"", body * 2, zlib.compress(bytes(1 << rng.choice((4, 20, 24)))), body[: len(body) // 2]))
    chunks[which : which + 1] = [(kind, body)] * rng.choice((0, 1, 1, 1, 1, 2))
    if rng.random() < 0.2:
        chunks.insert(
            rng.randrange(len(chunks) + 1),
            (rng.choice((b"iCCP", b"tEXt", b"PLTE", b"tRNS", b"zTXt", b"acTL")), rng.randbytes(40)),
        )
    return data[:8] + b"".join(
        struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body)) for kind, body in chunks
    )


def nifti(data: bytes, rng: Random) -> bytes:
    """Dimensions, type, offset and scaling of a NIfTI-1 header."""
    if rng.random() < 0.3:
        return raw(data, rng)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        what = rng.randrange(6)
        if what == 0:
            struct.pack_into("<h", out, 40, rng.choice((0, 1, 2, 3, 7, 8, -1, 0x0200)))
        elif what == 1:
            struct.pack_into("<h", out, 42 + 2 * rng.randrange(7), rng.choice((0, 1, -1, 2, 8192, 32767, -32768)))
        elif what == 2:
            struct.pack_into(
                "<h", out, 70, rng.choice((0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1536, 1792, 2048, 2304, 9))
            )
        elif what == 3:
            struct.pack_into(
                "<f", out, 108, rng.choice((0.0, -1.0, 352.0, 353.0, 1e9, float("nan"), float("inf"), 1e38))
            )
        elif what == 4:
            struct.pack_into(
                "<2f", out, 112, *(rng.choice((0.0, 1.0, float("nan"), 1e38, -1e38, float("inf"), 1e-45)) for _ in "ab")
            )
        else:
            struct.pack_into("<l", out, 0, rng.choice((348, 540, 0, 0x5C010000, -1)))
    return bytes(out)
