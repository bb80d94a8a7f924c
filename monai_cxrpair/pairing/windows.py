"""Order within a group: each rule about time, rank or a distinct value is an interval of some axis, minus a hole in it.

An axis gives each radiograph a whole-number position. Around each x, `low..high` is where its candidates lie and
`hole_low..hole_high` where they do not, ends included; the hole lies inside the interval and holds x itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

UNDATED = np.iinfo(np.int64).max  # after every date
MICROSECONDS = 86_400_000_000  # of a day
_LONGEST = 1 << 61  # microseconds; a sum of a time and this stays an int64


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Positions 0..length-1, int64 (N,), and what they allow; without a hole `hole_low` and `hole_high` are None."""

    position: Ints
    length: int
    low: Ints | int
    high: Ints | int
    hole_low: Ints | None = None
    hole_high: Ints | None = None

    def without_own(self) -> Axis:
        """The same axis with at least the position of x in the hole."""
        if self.hole_low is not None:
            return self
        return Axis(
            position=self.position, length=self.length, low=self.low, high=self.high,
            hole_low=self.position, hole_high=self.position,
        )  # fmt: skip


def everything(position: Ints) -> Axis:
    """All positions are allowed."""
    length = int(position.max(initial=0)) + 1
    return Axis(position=position, length=length, low=0, high=length - 1)


def near_in_order(study_order: Ints, max_apart: int) -> Axis:
    """Studies at most `max_apart` ranks away."""
    length = int(study_order.max(initial=0)) + 1
    low, high = np.maximum(study_order - max_apart, 0), np.minimum(study_order + max_apart, length - 1)
    return Axis(position=study_order, length=length, low=low, high=high)


def near_in_time(study: Ints, time: Ints, *, min_days: float, max_days: float | None) -> Axis:
    """Studies at least `min_days` and at most `max_days` away.

    Args:
        study: codes 0, 1, ..., (N,).
        time: microseconds, `UNDATED` where there is none, (N,); the earliest counts for the whole study.
        min_days: of the window, in days.
        max_days: of the window, in days; None: no upper end.
    """
    length = int(study.max(initial=0)) + 1
    of_study = np.full(length, UNDATED, dtype=np.int64)
    np.minimum.at(of_study, study, time)
    by_time = np.argsort(of_study, kind="stable")
    rank = np.empty(length, dtype=np.int64)
    rank[by_time] = np.arange(length)
    position = rank[study]
    times = of_study[by_time]
    dates = times[: int(np.searchsorted(times, UNDATED))]
    undated = np.arange(len(dates), length)  # ranks; each is near itself alone

    def of_radiograph(dated: Ints) -> Ints:
        return np.concatenate([dated, undated])[position]

    longest, shortest = _LONGEST if max_days is None else _microseconds(max_days), _microseconds(min_days)
    low = of_radiograph(np.searchsorted(dates, dates - longest, side="left"))
    high = of_radiograph(np.searchsorted(dates, dates + longest, side="right") - 1)
    hole_low = hole_high = None
    if min_days > 0:
        hole_low = of_radiograph(np.searchsorted(dates, dates - shortest, side="right"))
        hole_high = of_radiograph(np.searchsorted(dates, dates + shortest, side="left") - 1)
    return Axis(position=position, length=length, low=low, high=high, hole_low=hole_low, hole_high=hole_high)


def _microseconds(days: float) -> int:
    return min(round(days * MICROSECONDS), _LONGEST)
