"""The radiographs of a cohort, decoded once and kept as 8 bits, in memory or on disk."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import CacheDataset

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.identity import describe
from monai_cxrpair.imaging.pixel_build import open_store
from monai_cxrpair.imaging.pixel_store import PixelStore
from monai_cxrpair.imaging.shards import pixel_sums

logger = logging.getLogger(__name__)

UNREADABLE_SHOWN = 3


class RadiographCacheDataset(CacheDataset):
    """Caches each radiograph's deterministic part once, as uint8 (h, w), and returns centred square views.

    Args:
        cohort: the radiographs; item i of the dataset is row i of `self.cohort`.
        transform: the preprocessing of `{"image": path}`, ending in float (1, h, w) in [0, 1].
        image_size: of the square views, in pixels.
        num_workers: that fill the cache: threads, or with `cache_dir` processes; None: one per core.
        cache_dir: None: the radiographs are held in memory. A folder: they are decoded once for all runs and
            preprocessings, and all processes read them from there as memory maps. Items are the same either way.
        max_unreadable: the share of radiographs that may turn out unreadable. They are left out and reported;
            more than that is an error.

    Attributes:
        threaded: whether threads can make batches side by side: what takes time is OpenCV's, without Python's lock.
        cohort: the radiographs that could be read.
        unreadable: one line for each that could not, with its image_id.

    Raises:
        CxrPairError: more unreadable radiographs than allowed, or a `cache_dir` that cannot be used.
    """

    threaded = True

    def __init__(
        self,
        cohort: Cohort,
        *,
        transform: Callable[..., Any],
        image_size: int,
        num_workers: int | None = None,
        max_unreadable: float = 0.01,
        cache_dir: str | Path | None = None,
    ) -> None:
        if not isinstance(cache_dir, str | os.PathLike | None):
            raise CxrPairError(f"cache_dir is {cache_dir!r}: use the name of a folder, or null")
        self.image_size, self.cache_dir = image_size, cache_dir or None
        self._ids = cohort.table["image_id"].tolist()
        self._frames = cohort.table["frame"].tolist() if "frame" in cohort.table else [0] * len(cohort)
        self.data: list[dict[str, str]]
        self._cache: list[npt.NDArray[np.uint8]] | PixelStore
        self.unreadable: list[str] = []
        super().__init__(
            data=[{"image": str(path)} for path in cohort.paths()],
            transform=transform,
            num_workers=num_workers,
            progress=sys.stderr.isatty(),
            copy_cache=False,
        )
        self.cohort = self._leave_out_unreadable(cohort, max_unreadable)

    def pixel_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of the cached pixels in [0, 1], each radiograph weighted equally."""
        if isinstance(self._cache, PixelStore):
            sums = self._cache.sums()
        else:
            sums = np.array([(*pixel_sums(image), image.size) for image in self._cache], dtype=np.float64)
        total, squares, pixels = sums.T  # exact whole numbers, so that both kinds of cache give the same
        mean = float((total / pixels).mean()) / 255.0
        return mean, float(np.sqrt(max((squares / pixels).mean() / 255.0**2 - mean**2, 1e-8)))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One item: as a batch, without the batch dimension."""
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
        """A batch; torch's loader calls it with all its row numbers.

        Returns:
            `image` uint8 (B, 1, S, S): the largest centred square, and `row` int64 (B,).
        """
        rows = np.asarray(indices, dtype=np.int64)
        return {"image": np.stack([self._center(self._cache[row]) for row in rows])[:, None], "row": rows}

    def radiographs(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> list[npt.NDArray[np.uint8]]:
        """The cached radiographs, whole, uint8 (h, w) each: what views are made from."""
        return [self._cache[int(row)] for row in rows]

    def _center(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        # As MONAI's CenterSpatialCrop, so that inference, which uses that, sees the same pixels.
        size = self.image_size
        top, left = (length // 2 - size // 2 for length in image.shape)
        return image[top : top + size, left : left + size]

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[npt.NDArray[np.uint8]] | PixelStore:
        """What MONAI calls to fill the cache."""
        if self.cache_dir is None:
            logger.info("reading %d radiographs", len(self.data))
            began = time.perf_counter()
            filled: list[npt.NDArray[np.uint8]] = super()._fill_cache(indices)
            logger.info("read in %.1f s", time.perf_counter() - began)
            return filled
        store, unreadable = open_store(
            self.cache_dir,
            paths=[item["image"] for item in self.data],
            frames=self._frames,
            ids=self._ids,
            preprocessing=describe(self.transform),
            decode=partial(decode, transform=self.transform),
            image_size=self.image_size,
            workers=self.num_workers,
        )
        self.unreadable += [f"{self._ids[row]}: {reason}" for row, reason in unreadable.items()]
        return store

    def _load_cache_item(self, idx: int) -> npt.NDArray[np.uint8] | None:
        """One radiograph as uint8 (h, w); None if it cannot be read, which is counted afterwards."""
        image = decode(self.data[idx]["image"], transform=self.transform)
        if isinstance(image, str):
            self.unreadable.append(f"{self._ids[idx]}: {image}")
            return None
        return image

    def _leave_out_unreadable(self, cohort: Cohort, allowed: float) -> Cohort:
        n = len(self._cache)
        if isinstance(self._cache, PixelStore):
            lost = set(self._cache.missing())
        else:
            lost = {i for i, image in enumerate(self._cache) if image is None}
        if not lost:
            return cohort
        shown = "; ".join(sorted(self.unreadable)[:UNREADABLE_SHOWN])
        if len(lost) > allowed * n:
            raise CxrPairError(
                f"{len(lost)} of {n} radiographs cannot be read: {shown}. "
                "Remove them from the cohort, or raise max_unreadable"
            )
        logger.warning("%d of %d radiographs cannot be read and are left out: %s", len(lost), n, shown)
        readable = [i for i in range(n) if i not in lost]
        self.data = [self.data[i] for i in readable]
        if isinstance(self._cache, PixelStore):
            self._cache = self._cache.take(readable)
        else:
            self._cache = [self._cache[i] for i in readable]
        self.cache_num = len(readable)
        return cohort.take(np.asarray(readable, dtype=np.int64))


def decode(path: str, *, transform: Callable[..., Any]) -> npt.NDArray[np.uint8] | str:
    """One radiograph as uint8 (h, w), or why it cannot be read."""
    try:
        image = transform({"image": path})["image"]
    except Exception as error:
        reason = reading_error(error, path=path)
        if reason is None:
            raise
        return reason
    return np.asarray(np.rint(np.asarray(image, dtype=np.float32)[0] * 255.0), dtype=np.uint8)


def reading_error(error: BaseException, *, path: str) -> str | None:
    """Why a radiograph could not be read, without its path, which may hold a patient's name.

    MONAI's Compose wraps what a transform raises, hence the look at the cause. None: the error is another one, a fault
    of the code, and is not to be passed over.
    """
    cause = error if isinstance(error, CxrPairError) else error.__cause__
    return str(cause).replace(path, "").lstrip(": ") if isinstance(cause, CxrPairError) else None


def as_tensors(batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, torch.Tensor]:
    """`collate_fn` of the loader: the dataset already returns whole batches, only the type changes."""
    return {name: torch.from_numpy(value) for name, value in batch.items()}
