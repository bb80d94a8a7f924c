"""What a protocol makes of one encoder and the drawn labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Learned:
    """The outcome of all draws of one encoder.

    Attributes:
        scores: (D, n) probabilities of the rows asked for.
        held_out: for each draw rows of it and their probabilities by a model that did not learn from their patient:
            thresholds are chosen on them. None where the draw is too small for that.
        details: what `results.json` keeps of it beside the figures.
    """

    scores: NDArray[np.float64]
    held_out: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]] | None]
    details: Mapping[str, Any] = field(default_factory=dict)


class Learner(Protocol):
    """A protocol: linear, knn or fine_tune."""

    def learn(self, encoder: str, draws: Sequence[NDArray[np.int64]], rows: NDArray[np.int64]) -> Learned:
        """Learn from each draw, predict `rows`."""

    def describe(self) -> dict[str, Any]:
        """Its settings, for the report."""


def too_few(labels: NDArray[np.float64], least: int) -> bool:
    """Whether a draw has fewer than `least` radiographs of a class."""
    return bool(min((labels == 1).sum(), (labels == 0).sum()) < least)
