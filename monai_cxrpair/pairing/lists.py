"""Candidates as lists: for rules that no two ranges describe, and for random subsets of fixed size.

A list is an index like any other: `order` holds the lists one after another, 4 bytes a candidate, and nothing is
skipped. Work goes in chunks of radiographs, so that only the result grows with the cohort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.index import Bools, CandidateIndex, Ints

Keep = Callable[[Ints, Ints], Bools]

CHUNK = 1 << 21  # pairs at a time, about 100 MB of intermediate numbers
LARGEST = 1 << 30  # candidates in all: 4 GB


def filtered(index: CandidateIndex, keep: Keep) -> CandidateIndex:
    """The candidates for which `keep(rows, candidates)` is true, both (pairs,).

    Raises:
        CxrPairError: The lists could hold more than `LARGEST` candidates.
    """
    refuse_too_many(int(index.sizes.sum()), "up to ")
    return _as_lists(index, keep)


def subset(index: CandidateIndex, sizes: Ints, *, seed: int) -> CandidateIndex:
    """A random subset of each S_c(x), uniform among those of its size, the same for the same seed.

    Args:
        index: the whole S_c(x).
        sizes: members wanted, (N,); all are taken where there are no more.
        seed: of the choice.

    Raises:
        CxrPairError: The lists would hold more than `LARGEST` candidates.
    """
    refuse_too_many(int(np.minimum(index.sizes, sizes).sum()), "")
    rng = np.random.default_rng(seed)

    def keep(rows: Ints, _candidates: Ints) -> Bools:
        # The first `sizes` of each row in a random order: sorted by row and 41 random bits. A chunk holds whole rows,
        # and the stream of numbers goes on from chunk to chunk, so the size of a chunk does not change the outcome.
        begins = np.concatenate([[True], rows[1:] != rows[:-1]])
        run = np.cumsum(begins) - 1
        shuffled = np.argsort((run << 41) | rng.integers(0, 1 << 41, size=len(rows)))
        rank = np.arange(len(rows)) - np.flatnonzero(begins)[run]
        kept = np.empty(len(rows), dtype=np.bool_)
        kept[shuffled] = rank < sizes[rows]  # the shuffle stays within rows, so `rank` and `rows` are as before
        return kept

    return _as_lists(index, keep)


def _as_lists(index: CandidateIndex, keep: Keep) -> CandidateIndex:
    n = len(index.bounds)
    counts, holds_self = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    lists = [np.empty(0, dtype=index.order.dtype)]
    for rows, candidates in _pairs(index):
        kept = keep(rows, candidates)
        rows, candidates = rows[kept], candidates[kept]
        np.add.at(counts, rows, 1)
        holds_self[rows[rows == candidates]] = True
        lists.append(candidates.astype(index.order.dtype))
    stop = np.cumsum(counts)
    bounds = (stop - counts, stop, stop, stop)
    return CandidateIndex.of(order=np.concatenate(lists), bounds=bounds, holds_self=holds_self)


def _pairs(index: CandidateIndex) -> Iterator[tuple[Ints, Ints]]:
    """All pairs (row, candidate) in chunks of whole rows, rows rising."""
    sizes = index.sizes
    rows = np.flatnonzero(sizes)
    ends = np.cumsum(sizes[rows])
    done = 0
    while done < len(rows):
        before = ends[done - 1] if done else 0
        to = max(done + 1, int(np.searchsorted(ends, before + CHUNK, side="right")))
        part, counts = rows[done:to], sizes[rows[done:to]]
        offsets = np.cumsum(counts) - counts
        repeated = np.repeat(part, counts)
        yield repeated, index.nth(repeated, np.arange(len(repeated)) - np.repeat(offsets, counts))
        done = to


def refuse_too_many(candidates: int, about: str) -> None:
    """Lists of `candidates` members, `about` so many, must fit.

    Raises:
        CxrPairError: They do not.
    """
    if candidates > LARGEST:
        raise CxrPairError(
            f"pairing: this rule needs lists of {about}{candidates:,} candidates ({4e-9 * candidates:,.1f} GB), more "
            f"than {LARGEST:,}: make it narrower, such as by study, max_days or max_studies_apart"
        )
