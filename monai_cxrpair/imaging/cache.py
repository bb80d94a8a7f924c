"""The radiographs of a cohort, decoded once and kept as 8 bits."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import CacheDataset

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)

UNREADABLE_SHOWN = 3


class RadiographCacheDataset(CacheDataset):
    """Caches each radiograph's deterministic part once, as uint8 (h, w), and returns centred square views.

    Args:
        cohort: the radiographs; item i of the dataset is row i of `self.cohort`.
        transform: the preprocessing of `{"image": path}`, ending in float (1, h, w) in [0, 1].
        image_size: of the square views, in pixels.
        num_workers: threads that fill the cache.
        max_unreadable: the share of radiographs that may turn out unreadable. They are left out and reported;
            more than that is an error.

    Attributes:
        cohort: the radiographs that could be read.
        unreadable: one line for each that could not, with its image_id.

    Raises:
        CxrPairError: more unreadable radiographs than allowed.
    """

    def __init__(
        self,
        cohort: Cohort,
        *,
        transform: Callable[..., Any],
        image_size: int,
        num_workers: int = 2,
        max_unreadable: float = 0.01,
    ) -> None:
        self.image_size = image_size
        self._ids = cohort.table["image_id"].tolist()
        self.data: list[dict[str, str]]
        self._cache: list[npt.NDArray[np.uint8]]
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
        means = np.array([image.mean() for image in self._cache]) / 255.0
        squares = np.array([np.square(image, dtype=np.float32).mean() for image in self._cache]) / 255.0**2
        mean = float(means.mean())
        return mean, float(np.sqrt(max(squares.mean() - mean**2, 1e-8)))

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

    def _center(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        # As MONAI's CenterSpatialCrop, so that inference, which uses that, sees the same pixels.
        size = self.image_size
        top, left = (length // 2 - size // 2 for length in image.shape)
        return image[top : top + size, left : left + size]

    def _load_cache_item(self, idx: int) -> npt.NDArray[np.uint8] | None:
        """One radiograph as uint8 (h, w); None if it cannot be read, which is counted afterwards."""
        try:
            image = self.transform(self.data[idx])["image"]
        except Exception as error:
            reason = reading_error(error, path=self.data[idx]["image"])
            if reason is None:
                raise
            self.unreadable.append(f"{self._ids[idx]}: {reason}")
            return None
        return np.asarray(np.rint(np.asarray(image, dtype=np.float32)[0] * 255.0), dtype=np.uint8)

    def _leave_out_unreadable(self, cohort: Cohort, allowed: float) -> Cohort:
        readable = [i for i, image in enumerate(self._cache) if image is not None]
        lost = len(self._cache) - len(readable)
        if not lost:
            return cohort
        shown = "; ".join(sorted(self.unreadable)[:UNREADABLE_SHOWN])
        if lost > allowed * len(self._cache):
            raise CxrPairError(
                f"{lost} of {len(self._cache)} radiographs cannot be read: {shown}. "
                "Remove them from the cohort, or raise max_unreadable"
            )
        logger.warning("%d of %d radiographs cannot be read and are left out: %s", lost, len(self._cache), shown)
        self.data = [self.data[i] for i in readable]
        self._cache = [self._cache[i] for i in readable]
        self.cache_num = len(readable)
        return cohort.take(np.asarray(readable, dtype=np.int64))


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
