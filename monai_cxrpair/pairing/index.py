"""The candidate index: where the partners of every radiograph are, drawn from without a search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Stored = npt.NDArray[np.signedinteger[Any]]


def smallest_type(largest: int) -> np.dtype[np.signedinteger[Any]]:
    """int32 where it holds the number, else int64."""
    return np.dtype(np.int32 if largest < np.iinfo(np.int32).max else np.int64)


def put_rows(bounds: Stored, rows: Stored, values: Stored) -> None:
    """`bounds[rows] = values`, both of four columns and one type; four int32 move as one number of 16 bytes, faster."""
    if bounds.dtype == np.int32:
        bounds.view(np.complex128)[rows, 0] = np.ascontiguousarray(values).view(np.complex128)[:, 0]
    else:
        bounds[rows] = values


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateIndex:
    """The candidates of radiograph i are `order[start:stop]` without `order[skip_start:skip_stop]`, inside it.

    The arrays are read-only, also after pickling, so safe to share between workers and ranks. They are int32 as long
    as numbers fit: 21 bytes per radiograph where `order` is one range after another, and 4 per candidate in lists.

    Attributes:
        order: row numbers, of any length.
        bounds: (N, 4), the four numbers of each radiograph beside each other: a draw reads one cache line.
        holds_self: bool (N,), whether x is in S_c(x).
    """

    order: Stored
    bounds: Stored
    holds_self: Bools

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.setflags(write=False)

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self.__post_init__()

    @classmethod
    def of(
        cls, *, order: Stored, bounds: Iterable[Stored], holds_self: Bools, rows: Stored | None = None
    ) -> CandidateIndex:
        """An index in the smallest type that holds the numbers.

        Args:
            order: as in the index.
            bounds: its four columns, of the radiographs `rows`; all others have no candidates.
            holds_self: as in the index.
            rows: row numbers; None: all.
        """
        n = len(holds_self)
        dtype = smallest_type(max(len(order), n))
        packed: Stored = np.empty((n if rows is None else len(rows), 4), dtype=dtype)
        for i, numbers in enumerate(bounds):
            packed[:, i] = numbers
        if rows is not None:
            spread: Stored = np.zeros((n, 4), dtype=dtype)
            put_rows(spread, rows, packed)
            packed = spread
        return cls(order=order.astype(dtype, copy=False), bounds=packed, holds_self=holds_self)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.order.nbytes + self.bounds.nbytes + self.holds_self.nbytes

    @property
    def sizes(self) -> Ints:
        """|S_c(x)| of every radiograph, int64 (N,)."""
        start, stop, skip_start, skip_stop = self.bounds.T
        return np.asarray((stop - start) - (skip_stop - skip_start), dtype=np.int64)

    def nth(self, rows: Ints, n: Ints) -> Ints:
        """The n-th candidate (0-based) of each row; `rows` and `n` broadcast. Each n must be below the row's size."""
        bounds = self.bounds[rows]  # (..., 4)
        position = bounds[..., 0] + n
        position += np.where(position >= bounds[..., 2], bounds[..., 3] - bounds[..., 2], 0)
        return np.asarray(self.order[position], dtype=np.int64)

    def totals(self, values: npt.ArrayLike) -> Ints:
        """Sum of whole numbers `values`, (N,), over S_c(x) of every x, int64 (N,): prefix sums, however large S is."""
        before = np.concatenate([[0], np.cumsum(np.asarray(values)[self.order], dtype=np.int64)])
        start, stop, skip_start, skip_stop = self.bounds.T
        return np.asarray(before[stop] - before[start] - before[skip_stop] + before[skip_start])

    def draw(self, rows: Ints, keys: int, rng: np.random.Generator) -> Ints:
        """Draw `keys` candidates of each row, uniformly, with replacement, int64 (B, K); a row without any: itself."""
        bounds = self.bounds[rows]  # (B, 4)
        sizes = (bounds[:, 1] - bounds[:, 0]) - (bounds[:, 3] - bounds[:, 2])
        n = rng.integers(0, np.maximum(sizes, 1)[:, None], size=(len(rows), keys))
        out = np.repeat(rows[:, None], keys, axis=1)
        some = sizes > 0
        if some.any():
            out[some] = self.nth(rows[some, None], n[some])
        return out

    def candidates(self, row: int) -> Ints:
        """S_c(x) of one radiograph as row numbers."""
        start, stop, skip_start, skip_stop = self.bounds[row]
        return np.concatenate([self.order[start:skip_start], self.order[skip_stop:stop]]).astype(np.int64)
