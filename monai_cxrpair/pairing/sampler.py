"""Draws the keys of a batch of queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.candidates import Ints, build_index
from monai_cxrpair.pairing.criterion import PairCriterion


class PairSampler:
    """Draws partners uniformly from S_c(x), with replacement, fresh in every call (paper section 3.1).

    Args:
        cohort: the radiographs; row numbers refer to its table.
        criterion: the pairing rule; None pairs every radiograph with itself (plain MoCo, no metadata).
        seed: of the stream that successive calls of `draw` continue.

    Raises:
        CxrPairError: There is a criterion, and the cohort has no patient ids.
    """

    def __init__(self, cohort: Cohort, criterion: PairCriterion | None, *, seed: int = 0) -> None:
        self.criterion, self._cohort = criterion, cohort
        self._index = None if criterion is None else build_index(cohort, criterion)
        self._sizes = np.zeros(len(cohort.table), dtype=np.int64) if self._index is None else self._index.sizes
        self._rng = np.random.default_rng(seed)

    @property
    def sizes(self) -> Ints:
        """How many candidates each radiograph has, shape (N,)."""
        return self._sizes

    @property
    def partners(self) -> Ints:
        """How many candidates other than itself each radiograph has, shape (N,)."""
        if self.criterion is None or not self.criterion.include_self:
            return self._sizes
        return build_index(self._cohort, replace(self.criterion, include_self=False)).sizes

    def draw(
        self, query_rows: npt.ArrayLike, keys: int = 1, *, rng: np.random.Generator | None = None
    ) -> tuple[Ints, npt.NDArray[np.float32]]:
        """Draw `keys` partners for each query.

        Args:
            query_rows: row numbers, shape (B,).
            keys: K, how many partners per query.
            rng: draw from this generator instead of the sampler's own stream.

        Returns:
            The row numbers of the keys, int64 (B, K), and their affinity, float32 (B, K). A radiograph without a
            candidate is paired with itself (paper equation 2), affinity 1.

        Raises:
            CxrPairError: `keys` below 1, or a row number outside the cohort.
        """
        rows = np.asarray(query_rows, dtype=np.int64)
        if keys < 1:
            raise CxrPairError(f"keys is {keys}: at least one key per query is needed")
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self._sizes):
            raise CxrPairError(
                f"query_rows reach from {rows.min()} to {rows.max()}: rows are 0..{len(self._sizes) - 1}"
            )
        rng = self._rng if rng is None else rng
        out = np.repeat(rows[:, None], keys, axis=1)  # (B, K), the fall-back
        sizes = self._sizes[rows]
        draws = rng.integers(0, np.maximum(sizes, 1)[:, None], size=out.shape)  # (B, K)
        has_partner = sizes > 0
        if self._index is not None and has_partner.any():
            out[has_partner] = self._index.nth(out[has_partner], draws[has_partner])
        return out, np.ones(out.shape, dtype=np.float32)
