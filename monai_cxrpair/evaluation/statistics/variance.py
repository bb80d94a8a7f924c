"""Where the spread of an AUC comes from: the label draw, the pre-training seed, the test patients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from monai_cxrpair.errors import CxrPairError


@dataclass(frozen=True, kw_only=True)
class VarianceSplit:
    """Variances, all in AUC squared; negative estimates are given as 0. None: not measured, for want of repetitions.

    Attributes:
        seed: between pre-training seeds; None for one seed.
        draw: between label draws; None for one draw.
        rest: seed and draw together beyond their sum, None where either is 1 (it is then part of the other).
        test: between test sides.
        total: of one seed and one draw on one test side, the sum of those measured.
        mean_se: standard error of the mean of all seeds and draws: each part over its number, the test side once.
    """

    seed: float | None
    draw: float | None
    rest: float | None
    test: float
    total: float
    mean_se: float

    def shares(self) -> dict[str, float]:
        """Each part of the total, adding up to 1; empty where nothing varies."""
        parts = {name: getattr(self, name) for name in ("seed", "draw", "rest", "test")}
        return {name: part / self.total for name, part in parts.items() if part is not None and self.total > 0}


def split_variance(aucs: ArrayLike, *, test_variance: float) -> VarianceSplit:
    """Two-way random effects by the method of moments (analysis of variance, seeds crossed with draws).

    AUC(seed, draw) = mean + seed + draw + rest. All cells are measured on the same test patients, so what the test
    side does to all of them alike cannot be seen in the table and comes in as `test_variance`. The same function
    splits the differences between two encoders: then what hits both alike is gone.

    Args:
        aucs: (S, D) pre-training seeds by label draws, the same draws for every seed; (D,) for one seed.
        test_variance: variance of the mean AUC over test patients, from DeLong (`contrast`, squared) or the bootstrap
            of the patients alone.

    Returns:
        The parts.
    """
    table = np.atleast_2d(np.asarray(aucs, dtype=np.float64))
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise CxrPairError(f"split_variance: AUCs must be finite, seeds x draws, got shape {table.shape}")
    if not (np.isfinite(test_variance) and test_variance >= 0):
        raise CxrPairError(f"split_variance: test_variance must be at least 0, got {test_variance}")
    seeds, draws = table.shape
    of_seed = float(draws * np.var(table.mean(axis=1), ddof=1)) if seeds > 1 else None  # mean squares
    of_draw = float(seeds * np.var(table.mean(axis=0), ddof=1)) if draws > 1 else None
    rest: float | None = None
    if of_seed is not None and of_draw is not None:
        residual = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
        rest = float((residual**2).sum() / ((seeds - 1) * (draws - 1)))
    within = rest or 0.0
    seed = None if of_seed is None else max(0.0, (of_seed - within) / draws)
    draw = None if of_draw is None else max(0.0, (of_draw - within) / seeds)
    total = (seed or 0) + (draw or 0) + within + test_variance
    of_mean = (seed or 0) / seeds + (draw or 0) / draws + within / (seeds * draws) + test_variance
    return VarianceSplit(
        seed=seed, draw=draw, rest=rest, test=test_variance, total=total, mean_se=float(np.sqrt(of_mean))
    )
