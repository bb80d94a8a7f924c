"""Mutations of bytes, whatever they are."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from random import Random

from mutate_dicom import flip_bits, splice

SIZES = (0, 1, 2, 255, 8192, 8193, 16384, 32767, 46341, 65535, 0x7FFFFFFF, 0xFFFFFFFF)


def cut(data: bytes, rng: Random) -> bytes:
    """The beginning only."""
    return data[: rng.randrange(len(data) + 1)]


def number(data: bytes, rng: Random) -> bytes:
    """Another number in two, four or eight bytes, at the beginning, the end or anywhere."""
    if len(data) < 8:
        return data
    start = rng.choice(
        (
            rng.randrange(len(data) - 7),
            rng.randrange(min(len(data) - 7, 400)),
            len(data) - 8 - rng.randrange(min(len(data) - 7, 400)),
        )
    )
    form = rng.choice("HLQ")
    value = rng.choice((*SIZES, len(data), rng.getrandbits(16))) & (2 ** (8 * struct.calcsize("<" + form)) - 1)
    piece = struct.pack(rng.choice("<>") + form, value)
    return data[:start] + piece + data[start + len(piece) :]


def raw(data: bytes, rng: Random) -> bytes:
    """Whatever needs no knowledge of the format."""
    return rng.choice((flip_bits, cut, splice, number))(data, rng)


def gzipped(data: bytes, rng: Random, inner: Callable[[bytes, Random], bytes]) -> bytes:
    """What is in it, or the bytes; sometimes a great many zeros behind it."""
    if rng.random() < 0.3:
        return raw(data, rng)
    content = inner(gzip.decompress(data), rng)
    content += bytes(rng.choice((1 << 20, 1 << 24))) if rng.random() < 0.03 else b""
    out = gzip.compress(content, 6, mtime=0)
    return out if rng.random() < 0.9 else out + rng.choice((out, b"x" * 9, out[:10]))
