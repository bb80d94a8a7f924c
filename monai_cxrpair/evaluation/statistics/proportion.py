"""A share with its interval: Wilson's, with the radiographs of a patient counted for what they tell."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.checks import clusters


def proportion(hits: ArrayLike, patients: ArrayLike | None = None) -> dict[str, Any]:
    """The share of hits and its 95 % interval.

    Independent rows get Wilson's interval (1927), as `scipy.stats.binomtest(...).proportion_ci(method="wilson")`
    gives it. Rows of patients get the same at the effective number of rows: their number over the design effect, the
    ratio of the clustered variance of the share to the binomial one (Rao and Scott 1992). It is at most the number of
    rows, and the number of patients where the share is 0 or 1, which has no variance to look at. Unlike a bootstrap
    it does not end at [1, 1] then.

    Args:
        hits: (n,) booleans or 0 and 1.
        patients: (n,) patient of each row, None: independent rows.

    Returns:
        `value` in [0, 1], `ci95`, `n` rows; value and interval None where there is no row, the interval None where
        all rows are of one patient.
    """
    values = np.asarray(hits, dtype=np.float64)
    if values.ndim != 1 or not np.isin(values, (0, 1)).all():
        raise CxrPairError("proportion: hits must be 0 or 1 in one row")
    n = len(values)
    if not n:
        return {"value": None, "ci95": None, "n": 0}
    share = float(values.mean())
    effective = float(n)
    if patients is not None:
        codes = clusters(patients, n, "proportion")
        if codes.max() == 0 and n > 1:
            return {"value": share, "ci95": None, "n": n}
        clustered = float((np.bincount(codes, weights=values - share) ** 2).sum()) / n**2
        if share in (0.0, 1.0):
            effective = float(codes.max() + 1)
        elif clustered > 0:
            effective = min(effective, share * (1 - share) / clustered)
    return {"value": share, "ci95": list(_wilson(share, effective)), "n": n}


def _wilson(share: float, n: float) -> tuple[float, float]:
    z = float(norm.ppf(0.975))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    # An end that is 0 or 1 exactly comes out a rounding error beside it.
    return (0.0 if share == 0 else centre - half), (1.0 if share == 1 else centre + half)
