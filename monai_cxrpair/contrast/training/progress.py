"""How far an epoch has come: sums over its batches, which survive a resume in mid-epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor


class EpochSums:
    """Sums over the batches of the current epoch, and the time spent on it.

    A run that was killed in mid-epoch and resumed reports the means of the whole epoch, as if nothing had happened.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.pairs = 0
        self._seconds = 0.0  # spent before the run was resumed
        self._since = time.perf_counter()

    def start(self, *, fresh: bool) -> None:
        """An epoch begins; or, not `fresh`, goes on."""
        if fresh:
            self.sums, self.pairs, self._seconds = {}, 0, 0.0
        self._since = time.perf_counter()

    def add(self, numbers: Mapping[str, Tensor], pairs: int) -> None:
        """Count a batch: its figures, each a scalar, and how many pairs it had."""
        for name, value in numbers.items():
            self.sums[name] = self.sums[name].to(value.device) + value if name in self.sums else value
        self.pairs += pairs

    @property
    def seconds(self) -> float:
        """Spent on this epoch, before a resume too."""
        return self._seconds + time.perf_counter() - self._since

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"sums": {n: v.cpu() for n, v in self.sums.items()}, "pairs": self.pairs, "seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.sums, self.pairs, self._seconds = dict(state["sums"]), state["pairs"], state["seconds"]
