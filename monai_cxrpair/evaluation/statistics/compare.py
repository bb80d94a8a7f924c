"""Two encoders on the same test patients, and Holm's correction over a table of such comparisons."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, paired_p
from monai_cxrpair.evaluation.statistics.delong import delong


def compare_delong(
    labels: ArrayLike, first: NDArray[np.float64], second: NDArray[np.float64], patients: ArrayLike | None
) -> dict[str, float | None]:
    """The difference of two mean AUCs, mean over the label draws, by DeLong's variance.

    With several draws, the variance of the test patients (clustered DeLong of the mean difference) and that of the
    draws (variance of the differences of the draws, over their number) are added, and the degrees of freedom are
    Welch and Satterthwaite's: few draws say little about how much another draw would change. The part of the draws
    that differs from one test side to another is in both, so the test errs to the safe side. With one draw it is
    DeLong's test, and the draw is taken as given.

    Args:
        labels: (N,) 0 or 1.
        first: (D, N) scores of the encoder that is subtracted from, one row for each draw.
        second: (D, N) scores of the other, of the same draws.
        patients: (N,), or None for independent rows.

    Returns:
        `difference` (first - second), `se`, `p`, `df` (None: the normal distribution), and `se_test`, the part of `se`
        that the test patients make.
    """
    a, b = np.atleast_2d(first), np.atleast_2d(second)
    if a.shape != b.shape:
        raise CxrPairError(f"compare_delong: scores of shapes {a.shape} and {b.shape}: the draws must be the same")
    draws = len(a)
    found = delong(labels, np.concatenate([a, b]), patients)
    line = np.concatenate([np.full(draws, 1 / draws), np.full(draws, -1 / draws)])
    if draws == 1:
        difference, error = found.contrast(line)
        return {"difference": difference, "se": error, "se_test": error, "p": found.p(line), "df": None}
    difference, error = found.contrast(line)
    between = float(np.var(found.aucs[:draws] - found.aucs[draws:], ddof=1)) / draws
    total = error**2 + between
    if total == 0:
        return {"difference": difference, "se": 0.0, "se_test": 0.0, "p": 1.0 if difference == 0 else 0.0, "df": None}
    freedom = total**2 / (between**2 / (draws - 1)) if between > 0 else np.inf
    p = float(2 * t.sf(abs(difference) / np.sqrt(total), freedom))
    return {
        "difference": difference,
        "se": float(np.sqrt(total)),
        "se_test": error,
        "p": p,
        "df": float(freedom) if np.isfinite(freedom) else None,
    }


def compare_bootstrap(first: NDArray[np.float64], second: NDArray[np.float64]) -> dict[str, Any]:
    """Interval and p of a difference from samples of the same replicates, (R,) each."""
    differences = first - second
    return {"ci95": list(ci95(differences)), "p": paired_p(differences)}


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down correction (1979): the chance of any false finding in the table stays below the level.

    Args:
        p_values: (K,) in [0, 1], of all comparisons of one table.

    Returns:
        (K,) corrected, in the order given: compare each with 0.05.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise CxrPairError(f"holm: p must be numbers from 0 to 1 in one row, got {p_values!r}")
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    corrected = np.empty_like(p)
    corrected[order] = stepped
    return corrected
