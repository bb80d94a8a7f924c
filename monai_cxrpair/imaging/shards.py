"""The file format of the pixel cache: a shard holds some hundred radiographs as 8 bits.

Pixels one after another, then the index (`ENTRY` each), then a footer of 16 bytes. One file and one rename: a shard is
there as a whole or not at all. Nothing in it names a radiograph but a keyed hash (see `identity`).
"""

from __future__ import annotations

import itertools
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from monai_cxrpair.cohort.files import atomic_path

Pixels = npt.NDArray[np.uint8]

SUFFIX = ".pixels"
MAGIC = b"CXRPIX01"
FOOTER = struct.Struct("<8sII")  # magic, entries, CRC-32 of all of the index and the footer before it
# `total` and `squares` are sums over the pixels and their squares: statistics of a cohort without reading its pixels.
ENTRY = np.dtype(
    [("key", "V16"), ("offset", "<u8"), ("height", "<u4"), ("width", "<u4"),
     ("total", "<u8"), ("squares", "<u8"), ("checksum", "<u4")]
)  # fmt: skip


def new_shard(folder: Path) -> Path:
    """A path that nobody else uses; sorted by name, shards are sorted by age."""
    return folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}{SUFFIX}"


def write_shard(path: Path, radiographs: Iterable[tuple[bytes, Pixels]]) -> int:
    """Write radiographs (key, uint8 (h, w)) as they come; nothing is written where none comes.

    Returns:
        How many bytes the shard has.

    Raises:
        CxrPairError: the file cannot be written.
    """
    entries: list[tuple[Any, ...]] = []
    coming = iter(radiographs)
    first = next(coming, None)
    if first is None:
        return 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for key, pixels in itertools.chain([first], coming):
            pixels = np.ascontiguousarray(pixels)
            entries.append((key, file.tell(), *pixels.shape, *pixel_sums(pixels), zlib.crc32(pixels.data)))
            file.write(pixels.data)
        index = np.array(entries, dtype=ENTRY).tobytes()
        file.write(index + FOOTER.pack(MAGIC, len(entries), _index_checksum(index, len(entries))))
        size = file.tell()
    return size


def read_index(path: Path) -> npt.NDArray[Any]:
    """The entries of a shard.

    Raises:
        ValueError: the shard is damaged: cut, or with a changed index.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < FOOTER.size:
            raise ValueError("too short")
        file.seek(size - FOOTER.size)
        magic, count, checksum = FOOTER.unpack(file.read(FOOTER.size))
        end = size - FOOTER.size - count * ENTRY.itemsize  # of the pixels
        if magic != MAGIC or end < 0:
            raise ValueError("no footer")
        file.seek(end)
        index = file.read(count * ENTRY.itemsize)
    if _index_checksum(index, count) != checksum:
        raise ValueError("index changed")
    entries = np.frombuffer(index, dtype=ENTRY)
    if int((entries["height"].astype(np.uint64) * entries["width"]).sum()) != end:
        raise ValueError("cut")
    return entries


def map_shard(path: Path) -> Pixels:
    """The bytes of a shard as a read-only memory map; all processes share one copy of them.

    torch's map keeps no file descriptor open, unlike numpy's: a million radiographs are two thousand shards, more than
    the descriptors a process may usually have.

    Raises:
        OSError, RuntimeError: the file is gone.
    """
    mapped: Pixels = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8).numpy()
    mapped.setflags(write=False)
    return mapped


def pixel_sums(pixels: Pixels) -> tuple[int, int]:
    """Sum of the pixels and of their squares, both exact."""
    return int(cv2.sumElems(pixels)[0]), int(cv2.norm(pixels, cv2.NORM_L2SQR))


def _index_checksum(index: bytes, count: int) -> int:
    return zlib.crc32(MAGIC + struct.pack("<I", count), zlib.crc32(index))
