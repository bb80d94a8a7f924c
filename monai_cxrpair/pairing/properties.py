"""The properties of a radiograph that rules speak of, as whole numbers.

A code is 0, 1, ... for a known value and -1 for an unknown one, which is neither the same as nor distinct from any.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from monai_cxrpair.cohort import Cohort

Ints = npt.NDArray[np.int64]

PROPERTIES = ("laterality", "view_position", "age_group", "sex")
DECADE = 10.0  # years; the paper names age a property to try (section 5) and gives no groups

_UNKNOWN = {"laterality": "unknown", "view_position": "", "sex": ""}  # the cohort's word for it


def property_codes(cohort: Cohort, name: str, *, age_bins: float | Sequence[float] = DECADE) -> Ints:
    """The codes of one of `PROPERTIES`, int64 (N,); `age_bins` as in `age_group_codes`."""
    if name == "age_group":
        return age_group_codes(cohort.table["age"].to_numpy(dtype=np.float64), age_bins)
    values = cohort.table[name]
    return np.asarray(pd.factorize(values.where(values != _UNKNOWN[name]))[0], dtype=np.int64)


def age_group_codes(age: npt.NDArray[np.float64], bins: float | Sequence[float] = DECADE) -> Ints:
    """Number the age groups.

    Args:
        age: years, (N,); NaN where it is not known.
        bins: the width of the groups in years, from birth on; or the ages at which a new group begins: `[18, 65]` are
            the three groups below 18, 18 to below 65, and from 65 on.

    Returns:
        int64 (N,), -1 where the age is not known.
    """
    known = ~np.isnan(age)
    years = np.where(known, age, 0.0)
    groups = years // bins if isinstance(bins, (int, float)) else np.searchsorted(np.asarray(bins), years, side="right")
    return np.where(known, groups, -1).astype(np.int64)


def finding_codes(values: npt.ArrayLike) -> Ints:
    """1 where a finding is present (1) or uncertain (-1), 0 where absent (0) or missing; never unknown, int64 (N,).

    So did the paper's authors: their Figure 2 comes out bin by bin with this reading (U-Ones, blank as 0) only.
    """
    return np.isin(np.asarray(values, dtype=np.float64), (1.0, -1.0)).astype(np.int64)
