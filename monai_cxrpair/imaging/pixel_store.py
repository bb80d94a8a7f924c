"""The pixel cache on disk, read: radiographs decoded once, as memory maps that all processes of all runs share."""

from __future__ import annotations

import contextlib
import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.shards import (
    ENTRY,
    SUFFIX,
    Pixels,
    map_shard,
    new_shard,
    pixel_sums,
    read_index,
    write_shard,
)

logger = logging.getLogger(__name__)

Decode = Callable[[str], "Pixels | str"]  # path -> uint8 (h, w), or why the file cannot be read


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where radiographs come from: for each its file, its image_id, its key in the cache (None: no file there)."""

    paths: Sequence[str]
    ids: Sequence[str]
    keys: Sequence[bytes | None]
    decode: Decode

    def take(self, rows: Sequence[int]) -> Source:
        """Some of them, in that order."""
        return Source(
            paths=[self.paths[row] for row in rows],
            ids=[self.ids[row] for row in rows],
            keys=[self.keys[row] for row in rows],
            decode=self.decode,
        )


class PixelStore:
    """The radiographs of a cohort in a cache folder: `store[row]` is uint8 (h, w), read-only.

    The checksum of a radiograph is verified when a process first reads it. One that is damaged is decoded anew from its
    file, with a warning, and added to the folder again. Pickled, a store opens its shards again on the other side.

    Args:
        folder: of the shards.
        source: the radiographs, in row order.

    Attributes:
        damaged: shards that cannot be used.
        unused: entries in the folder that are not of these radiographs, or of another preprocessing or version.

    Raises:
        CxrPairError: the folder cannot be read.
    """

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder, self.source = folder, source
        self._kept: dict[int, Pixels] = {}  # decoded by this process
        self.scan()

    def scan(self) -> None:
        """Look what the folder holds; a damaged shard counts as not there."""
        self._shards: list[Path] = []
        self.damaged: list[Path] = []
        tables = [np.empty(0, ENTRY)]
        try:
            for path in sorted(self.folder.iterdir()):
                if path.suffix == SUFFIX and not path.name.startswith("."):
                    try:
                        tables.append(read_index(path))
                        self._shards.append(path)
                    except ValueError:
                        self.damaged.append(path)
        except OSError as error:
            raise CxrPairError(f"cache_dir {self.folder}: cannot be read ({error.strerror or error})") from error
        table = np.concatenate(tables)
        shard = np.repeat(np.arange(len(tables)) - 1, [len(part) for part in tables])
        position = {key: i for i, key in enumerate(table["key"].tolist())}  # of equal ones the newest
        found = np.array([position.get(key, -1) for key in self.source.keys], dtype=np.int64)
        self._entries = np.append(table, np.zeros(1, ENTRY))[found]
        self._shard = np.append(shard, -1)[found]  # -1: in no shard
        self.unused = len(table) - len(np.unique(found[found >= 0]))
        self._forget()

    def _forget(self) -> None:  # what belongs to one process
        self._maps: dict[int, Pixels] = {}
        self._verified = np.zeros(len(self._shard), dtype=np.bool_)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_maps", "_verified")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def __len__(self) -> int:
        return len(self._shard)

    def __getitem__(self, row: int) -> Pixels:
        if row in self._kept:
            return self._kept[row]
        _, offset, height, width, _, _, checksum = self._entries[row]
        stored = self._map(int(self._shard[row]))[offset : offset + height * width]
        if not self._verified[row]:
            if len(stored) != height * width or zlib.crc32(stored.data) != checksum:
                return self._repair(row)
            self._verified[row] = True
        return stored.reshape(height, width)

    def missing(self) -> list[int]:
        """The rows that are neither in the folder nor kept in memory."""
        return [row for row in np.flatnonzero(self._shard < 0).tolist() if row not in self._kept]

    def keep(self, row: int, pixels: Pixels) -> None:
        """Hold a radiograph in the memory of this process, where it cannot be written."""
        self._kept[row] = pixels

    def take(self, rows: Sequence[int]) -> PixelStore:
        """The store of some of the radiographs, in that order."""
        other = object.__new__(PixelStore)
        kept = {new: self._kept[old] for new, old in enumerate(rows) if old in self._kept}
        chosen = {"source": self.source.take(rows), "_entries": self._entries[rows], "_shard": self._shard[rows]}
        other.__setstate__({**self.__getstate__(), **chosen, "_kept": kept})
        return other

    def sums(self) -> npt.NDArray[np.float64]:
        """Sum of the pixels, sum of their squares, and number of pixels of each radiograph, (N, 3): from the index."""
        out = np.stack([self._entries["total"], self._entries["squares"], self._area()], axis=1).astype(np.float64)
        for row, pixels in self._kept.items():
            out[row] = *pixel_sums(pixels), pixels.size
        return out

    @property
    def nbytes(self) -> int:
        """Of the pixels in the folder."""
        return int(self._area().sum())

    def _area(self) -> npt.NDArray[np.int64]:
        return np.asarray(self._entries["height"].astype(np.int64) * self._entries["width"])

    def _map(self, shard: int) -> Pixels:
        if shard not in self._maps:
            try:
                self._maps[shard] = map_shard(self._shards[shard])
            except (OSError, RuntimeError):  # deleted while in use: each radiograph in it says so
                self._maps[shard] = np.empty(0, dtype=np.uint8)
        return self._maps[shard]

    def _repair(self, row: int) -> Pixels:
        name, pixels = self.source.ids[row], self.source.decode(self.source.paths[row])
        if isinstance(pixels, str):
            raise CxrPairError(
                f"{name}: its pixels in cache_dir {self.folder} are damaged, and its file cannot be read anew: {pixels}"
            )
        logger.warning("pixel cache: %s was damaged in %s and is decoded anew", name, self.folder)
        with contextlib.suppress(CxrPairError):  # a folder that cannot be written to: again in the next run
            write_shard(new_shard(self.folder), [(self.source.keys[row] or b"", pixels)])
        self._kept[row] = pixels
        return pixels
