"""The loader of a cached dataset: whole batches, prepared while the network computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.cache import RadiographCacheDataset, as_tensors


class BatchLoader(DataLoader[Any]):
    """torch's `DataLoader` for cached datasets: batches are tensors, pinned where CUDA is there, and made ahead.

    Threads make them, since OpenCV does not hold Python's lock: the training step does not wait, and nothing is copied
    from process to process, which costs more than the views do. MONAI's own transforms are Python: they get processes.
    The batches are the same with any number of either.

    Args:
        dataset: a cached dataset.
        num_workers: threads, at least one, or processes that stay from epoch to epoch, that make batches.
        prefetch: how many batches each of them prepares ahead; 0 (without processes only): each is made when it is
            asked for.
        processes: whether to use processes; None: where the dataset is not `threaded`.
        settings: of torch's `DataLoader`.

    Raises:
        CxrPairError: a number out of range.
    """

    def __init__(
        self,
        dataset: RadiographCacheDataset,
        *,
        num_workers: int = 0,
        prefetch: int = 2,
        processes: bool | None = None,
        **settings: Any,
    ) -> None:
        for name, value, least in (("num_workers", num_workers, 0), ("prefetch", prefetch, int(num_workers != 0))):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise CxrPairError(f"{name} is {value!r}: use a whole number of at least {least}")
        processes = num_workers > 0 and (not dataset.threaded if processes is None else processes)
        self.threads, self.prefetch = (0 if processes else max(1, num_workers)), prefetch
        defaults = {
            "collate_fn": as_tensors,
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": _start_worker,
            "persistent_workers": processes,
            "prefetch_factor": prefetch if processes else None,
        }
        super().__init__(dataset, num_workers=num_workers if processes else 0, **{**defaults, **settings})

    def __iter__(self) -> Any:
        return self._ahead() if self.threads and self.prefetch else super().__iter__()

    def _ahead(self) -> Iterator[Any]:
        """Batches in the sampler's order, some of them made ahead; what a thread raises is raised here."""
        order = iter(self.batch_sampler or ())
        with ThreadPoolExecutor(self.threads, thread_name_prefix="batches") as pool:
            waiting = deque(pool.submit(self._make, rows) for rows in islice(order, self.threads * self.prefetch))
            try:
                while waiting:
                    batch = waiting.popleft().result()
                    waiting.extend(pool.submit(self._make, rows) for rows in islice(order, 1))
                    yield batch
            finally:  # left early: those that nobody waits for are not made
                pool.shutdown(wait=False, cancel_futures=True)

    def _make(self, rows: Any) -> Any:
        batch = self.collate_fn(self.dataset.__getitems__(rows))  # type: ignore[attr-defined]
        return pin_memory(batch) if self.pin_memory else batch


def _start_worker(_number: int) -> None:
    cv2.setNumThreads(0)  # its threads did not survive the fork, and each process has a core of its own
