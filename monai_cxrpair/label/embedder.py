"""Every radiograph through the encoder once: the pixels and the embeddings are kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from monai.transforms import Compose

from monai_cxrpair.imaging.cache import RadiographCacheDataset, decode
from monai_cxrpair.imaging.transforms import LoadRadiographd, ResizeShorterSided
from monai_cxrpair.label.embedding_table import EmbeddingTable, encoder_key, pixel_key
from monai_cxrpair.label.loaded import Loaded
from monai_cxrpair.label.studies import Studies

_FEW = 16  # radiographs that are decoded for one answer; of more the pixels are kept for the next start
_File = tuple[str, int, int, int, int]


def preprocessing(size: int) -> Compose:
    """As in the bundle's evaluate.yaml: `{"image": path}` to float (1, h, w), the shorter side `size` pixels."""
    return Compose([LoadRadiographd(keys="image"), ResizeShorterSided(keys="image", size=size)])


class Embedder:
    """Embeddings of radiographs, from memory, from disk, or from the encoder.

    Args:
        folder: keeps `pixels/`, the pixel cache, and `embeddings/`, one table for each encoder.
        batch_size: radiographs that are embedded at once.
        num_workers: that decode radiographs.
    """

    def __init__(self, folder: Path, *, batch_size: int, num_workers: int) -> None:
        self.folder, self.pixels_folder = folder, folder / "pixels"
        self._batch_size, self._num_workers = batch_size, num_workers
        self._lock = threading.Lock()
        self._pixels: dict[_File, bytes | None] = {}  # file -> pixel hash, None: it cannot be read
        self._tables: dict[str, EmbeddingTable] = {}
        self._table_of: tuple[Loaded, EmbeddingTable] | None = None

    def embed(self, loaded: Loaded, studies: Studies, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Embeddings of radiographs.

        Args:
            loaded: the classifier with the encoder.
            studies: what is read.
            rows: of `studies.cohort`.

        Returns:
            (n, F), NaN where a file cannot be read.

        Raises:
            CxrPairError: the folder cannot be written to.
        """
        table, paths = self._table(loaded), studies.cohort.paths()
        files = [_identity(paths[row], loaded.image_size) for row in rows]
        todo = [i for i, file in enumerate(files) if not self._known(file, table)]
        if todo:
            self._compute(loaded, table, studies, rows[todo], [files[i] for i in todo])
        features = np.full((len(rows), loaded.network.fc.in_features), np.nan, dtype=np.float32)
        for i, file in enumerate(files):
            pixels = self._pixels[file]
            found = None if pixels is None else table.get(pixels)
            if found is not None:
                features[i] = found
        return features

    def _known(self, file: _File, table: EmbeddingTable) -> bool:
        if file not in self._pixels:
            return False
        pixels = self._pixels[file]
        return pixels is None or table.get(pixels) is not None

    def _table(self, loaded: Loaded) -> EmbeddingTable:
        with self._lock:
            if self._table_of is None or self._table_of[0] is not loaded:
                key = encoder_key(loaded.encoder, loaded.device)  # another head on the same encoder has the same
                if key not in self._tables:
                    self._tables = {key: EmbeddingTable(self.folder / "embeddings", key)}
                self._table_of = loaded, self._tables[key]
            return self._table_of[1]

    def _compute(
        self,
        loaded: Loaded,
        table: EmbeddingTable,
        studies: Studies,
        rows: npt.NDArray[np.int64],
        files: Sequence[_File],
    ) -> None:
        """Read radiographs, embed those whose pixels are new, and remember which file has which pixels."""
        found: dict[_File, bytes | None] = dict.fromkeys(files)
        if len(rows) <= _FEW:
            squares = [_square(studies.cohort.paths()[row], loaded.image_size) for row in rows]
            readable = [file for file, square in zip(files, squares, strict=True) if square is not None]
            seen = [square for square in squares if square is not None]
            if seen:
                found |= self._embed_batch(loaded, table, readable, np.stack(seen)[:, None])
        else:
            dataset = RadiographCacheDataset(
                studies.cohort.take(rows),
                transform=preprocessing(loaded.image_size),
                image_size=loaded.image_size,
                num_workers=self._num_workers,
                max_unreadable=1.0,  # the worklist tells of them
                cache_dir=self.pixels_folder,
            )
            by_image = dict(zip(studies.cohort.table["image_id"].iloc[rows], files, strict=True))
            readable = [by_image[image] for image in dataset.cohort.table["image_id"]]
            for start in range(0, len(readable), self._batch_size):
                part = range(start, min(start + self._batch_size, len(readable)))
                batch = dataset.__getitems__(part)["image"]  # (b, 1, S, S)
                found |= self._embed_batch(loaded, table, [readable[i] for i in part], batch)
        with self._lock:
            self._pixels = {**self._pixels, **found}

    def _embed_batch(
        self, loaded: Loaded, table: EmbeddingTable, files: Sequence[_File], squares: npt.NDArray[np.uint8]
    ) -> dict[_File, bytes]:
        """Embed the squares (b, 1, S, S) whose pixels are new; which file has which pixels."""
        keys = [pixel_key(square[0]) for square in squares]
        new = [i for i, key in enumerate(keys) if table.get(key) is None]
        if new:
            with torch.inference_mode():
                features = loaded.encoder.network(loaded.views(squares[new])).float().cpu().numpy()
            table.add({keys[i]: row for i, row in zip(new, features, strict=True)})
        return dict(zip(files, keys, strict=True))


def centre(pixels: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """The centred square, as the pixel cache cuts it."""
    top, left = (length // 2 - size // 2 for length in pixels.shape)
    return pixels[top : top + size, left : left + size]


def _square(path: Path, size: int) -> npt.NDArray[np.uint8] | None:
    pixels = decode(str(path), transform=preprocessing(size))
    return None if isinstance(pixels, str) else centre(pixels, size)


def _identity(path: Path, size: int) -> _File:
    """What tells a file from another one, and from what it was before; all 0 where there is none."""
    try:
        said = os.stat(path)
    except OSError:  # gone, or in an archive
        return str(path), size, 0, 0, 0
    return str(path), size, said.st_size, said.st_mtime_ns, said.st_ino
