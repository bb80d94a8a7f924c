"""In which order the queries of an epoch come, from any batch on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DistributedSampler


class ResumableSampler(DistributedSampler[Any]):
    """torch's `DistributedSampler`, whose order follows from (seed, epoch), that can begin in the middle of an epoch.

    What is skipped is never fetched. Its length stays that of a whole epoch, by which the trainer counts.

    Args: those of `DistributedSampler`.
    """

    _start: tuple[int, int] = (-1, 0)

    def start_at(self, *, epoch: int, item: int) -> None:
        """Let this epoch begin at an item; all other epochs are whole.

        Args:
            epoch: as in `set_epoch`.
            item: number of the first item, of those of this rank.
        """
        self._start = (epoch, item)

    def __iter__(self) -> Iterator[Any]:
        epoch, item = self._start
        return islice(super().__iter__(), item if self.epoch == epoch else 0, None)
