"""Draws the keys of a batch of queries."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.candidates import build_index
from monai_cxrpair.pairing.criterion import PairCriterion
from monai_cxrpair.pairing.index import Ints

logger = logging.getLogger(__name__)


class PairSampler:
    """Draws partners uniformly from S_c(x), fresh in every call (paper section 3.1).

    The K keys of a query are drawn with replacement, each on its own: most S_c(x) hold fewer than two radiographs (in
    the studies of CheXpert 1.08 on average where there is any), so that K different keys are rarely there.

    Args:
        cohort: the radiographs; row numbers refer to its table.
        criterion: the pairing rule; None pairs every radiograph with itself (plain MoCo, no metadata).
        seed: of the stream that successive calls of `draw` continue.

    Raises:
        CxrPairError: There is a criterion, and the cohort has no patient ids or not the finding of an oracle; no
            radiograph may be a query; lists of candidates would be too long.
    """

    def __init__(self, cohort: Cohort, criterion: PairCriterion | None, *, seed: int = 0) -> None:
        self.criterion = criterion
        self._index = None if criterion is None else build_index(cohort, criterion)
        self._sizes = np.zeros(len(cohort), dtype=np.int64) if self._index is None else self._index.sizes
        self._rng = np.random.default_rng(seed)
        if criterion is not None and criterion.oracle_same_finding is not None:
            logger.warning(
                "pairing#oracle_same_finding chooses the pairs by the labels of %s: the encoder is an upper bound, not "
                "self-supervised", criterion.oracle_same_finding,
            )  # fmt: skip
        if not len(self.queries):
            raise CxrPairError(
                f"pairing#require_partner leaves no query: none of {len(cohort)} radiographs has a candidate under "
                f"{criterion}"
            )

    @property
    def sizes(self) -> Ints:
        """How many candidates each radiograph has, shape (N,)."""
        return self._sizes

    @property
    def partners(self) -> Ints:
        """How many candidates other than itself each radiograph has, shape (N,)."""
        return self._sizes if self._index is None else self._sizes - self._index.holds_self

    @property
    def queries(self) -> Ints:
        """The rows that may be queries: all, or with `require_partner` those with a candidate."""
        skips = self.criterion is not None and self.criterion.require_partner
        return np.flatnonzero(self._sizes) if skips else np.arange(len(self._sizes))

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
        itself = np.repeat(rows[:, None], keys, axis=1)  # (B, K)
        out = itself if self._index is None else self._index.draw(rows, keys, rng)
        return out, np.ones(out.shape, dtype=np.float32)
