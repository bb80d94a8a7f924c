"""The loader of a cached dataset: whole batches, prepared while the network computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.cache import RadiographCacheDataset, as_tensors


class BatchLoader(DataLoader[Any]):
    """torch's `DataLoader` with defaults for cached datasets: batches are tensors, pinned where CUDA is there.

    Without worker processes a thread prepares the next batches, since OpenCV does not hold Python's lock: the training
    step does not wait. The batches are the same with any number of workers.

    Args:
        dataset: a cached dataset.
        num_workers: processes that make batches; they stay from epoch to epoch.
        prefetch: how many batches are prepared ahead, by each process or by the thread; 0 (without processes only):
            each is made when it is asked for.
        settings: of torch's `DataLoader`.

    Raises:
        CxrPairError: a number out of range.
    """

    def __init__(
        self, dataset: RadiographCacheDataset, *, num_workers: int = 0, prefetch: int = 2, **settings: Any
    ) -> None:
        for name, value, least in (("num_workers", num_workers, 0), ("prefetch", prefetch, int(num_workers != 0))):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise CxrPairError(f"{name} is {value!r}: use a whole number of at least {least}")
        self.prefetch = prefetch
        defaults = {
            "collate_fn": as_tensors,
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": _start_worker,
            "persistent_workers": num_workers > 0,
            "prefetch_factor": prefetch if num_workers > 0 else None,
        }
        super().__init__(dataset, num_workers=num_workers, **{**defaults, **settings})

    def __iter__(self) -> Any:
        # Made here, in the calling thread: it draws a number from torch's global generator, which the step seeds.
        batches = super().__iter__()
        return batches if self.num_workers or not self.prefetch else _ahead(batches, self.prefetch)


def _start_worker(_number: int) -> None:
    cv2.setNumThreads(0)  # its threads did not survive the fork, and each process has a core of its own


def _ahead(batches: Iterator[Any], depth: int) -> Iterator[Any]:
    """The same batches, up to `depth` of them made ahead by one thread; what it raises is raised here."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        waiting = deque(thread.submit(next, batches, None) for _ in range(depth))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(thread.submit(next, batches, None))
            yield batch
