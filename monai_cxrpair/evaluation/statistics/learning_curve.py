"""How many labels until an AUC of x? A power law through the AUCs of several label counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_cxrpair.errors import CxrPairError

# Exponents tried. Learning curves of classifiers lie between 0.1 and 1 (Figueroa et al. 2012; Cho et al. 2015).
_EXPONENTS = np.geomspace(0.02, 3.0, 400)
REPLICATES = 1000
# More radiographs than anybody will label: a forecast beyond counts as not reachable.
_MOST = 1e9


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """AUC(n) = a - b n^-c, with a in [0, 1], b >= 0, c > 0.

    Attributes:
        a, b, c: of the means over the draws; a is what endless labels would reach.
        samples: (R, 3) the same of each bootstrap replicate over draws.
        largest: the largest count measured: beyond it the curve is a forecast.
    """

    a: float
    b: float
    c: float
    samples: NDArray[np.float64]
    largest: float

    def auc(self, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The fitted AUC at counts (K,) and its pointwise 95 % interval (K, 2)."""
        n = np.asarray(labels, dtype=np.float64)
        a, b, c = (column[:, None] for column in self.samples.T)
        bounds = np.percentile(a - b * n ** (-c), [2.5, 97.5], axis=0).T
        return self.a - self.b * n**-self.c, bounds

    def labels_for(self, auc: float) -> dict[str, Any]:
        """How many labels until this AUC?

        Args:
            auc: in (0, 1).

        Returns:
            `labels`, None where not reachable by this fit; `ci95`, with None for an end that is not reachable;
            `reachable`, the share of replicates that get there; `verdict`, in words.
        """
        if not 0 < auc < 1:
            raise CxrPairError(f"labels_for: the AUC must lie between 0 and 1, got {auc}")
        needed = float(_needed(auc, np.array([[self.a, self.b, self.c]]))[0])
        counts = _needed(auc, self.samples)
        # Replicates that never get there stand at infinity, so an end of the interval may lie there too.
        low, high = np.percentile(counts, [2.5, 97.5], method="nearest")
        labels = needed if np.isfinite(needed) else None
        if labels is None:
            verdict = f"AUC {auc:g} is not reachable by this fit: it levels off at {self.a:.3f}"
        elif labels > self.largest:
            verdict = f"about {labels:,.0f} labels, a forecast: {labels / self.largest:.1f} times the most measured"
        else:
            verdict = f"about {labels:,.0f} labels, inside what was measured"
        ends = [float(end) if np.isfinite(end) else None for end in (low, high)]
        return {
            "auc": auc,
            "labels": labels,
            "ci95": ends,
            "reachable": float(np.isfinite(counts).mean()),
            "verdict": verdict,
        }


def fit_learning_curve(
    aucs: Mapping[int, Sequence[float]], *, replicates: int = REPLICATES, seed: int = 0
) -> LearningCurve:
    """Least squares through the mean AUCs, all counts alike; the interval resamples the draws within each count.

    Args:
        aucs: number of labels -> AUC of each draw; at least three numbers, of at least one draw each.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The curve. With one draw for each count the replicates are all alike and the intervals have no width.
    """
    counts = np.array(sorted(aucs), dtype=np.float64)
    if len(counts) < 3 or counts[0] <= 0:
        raise CxrPairError(
            f"fit_learning_curve: {len(counts)} label counts from {counts[0] if len(counts) else 'none'}: a power law "
            "has three parameters, so at least three counts above 0 are needed"
        )
    draws = [np.asarray(aucs[int(count)], dtype=np.float64) for count in counts]
    for count, values in zip(counts, draws, strict=True):
        if not len(values) or not np.isfinite(values).all():
            raise CxrPairError(f"fit_learning_curve: the AUCs at {count:.0f} labels are missing or not finite")
    rng = np.random.default_rng(seed)
    resampled = [values[rng.integers(len(values), size=(replicates, len(values)))].mean(axis=1) for values in draws]
    means = np.stack([[values.mean() for values in draws], *np.stack(resampled, axis=1)])  # (1 + R, K)
    fits = _fit(counts, means)
    a, b, c = fits[0]
    return LearningCurve(a=float(a), b=float(b), c=float(c), samples=fits[1:], largest=float(counts[-1]))


def _fit(counts: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, 3) from means (R, K): for each exponent a and b are a straight line's, so only the exponent is searched."""
    best = np.full(len(means), np.inf)
    fits = np.zeros((len(means), 3))
    for c in _EXPONENTS:
        x = counts**-c
        centred = x - x.mean()
        b = np.maximum(0, -(means @ centred) / (centred @ centred))
        a = means.mean(axis=1) + b * x.mean()
        over = a > 1  # no AUC is above 1: then the line goes through 1
        b[over] = np.maximum(0, ((1 - means[over]) @ x) / (x @ x))
        a[over] = 1
        loss = ((means - a[:, None] + b[:, None] * x) ** 2).sum(axis=1)
        better = loss < best
        best[better] = loss[better]
        fits[better] = np.stack([a, b, np.full_like(a, c)], axis=1)[better]
    return fits


def _needed(auc: float, fits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Labels until the AUC, infinity where the curve levels off below."""
    a, b, c = fits.T
    counts = np.full(len(fits), np.inf)
    reached = a > auc
    with np.errstate(over="ignore"):
        counts[reached] = (b[reached] / (a[reached] - auc)) ** (1 / c[reached])
    counts[counts > _MOST] = np.inf
    result: NDArray[np.float64] = np.maximum(counts, 1)
    return result
