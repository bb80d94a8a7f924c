"""What counts as a label: what becomes of uncertain ones, and of findings that the report does not mention."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_cxrpair.errors import CxrPairError

# CheXpert's U-Ignore, U-Zeros and U-Ones (Irvin et al. 2019).
UNCERTAIN: dict[str, float] = {"ignore": -1.0, "zeros": 0.0, "ones": 1.0}
# The paper's code counts blanks as absent (section 4). In CheXpert these are 40 % of the radiographs.
BLANK: dict[str, float] = {"ignore": np.nan, "zeros": 0.0}


def apply_policy(labels: ArrayLike, *, uncertain: str = "ignore", blank: str = "ignore") -> NDArray[np.float64]:
    """Labels as they are drawn and tested.

    Args:
        labels: (N,) 1 present, 0 absent, -1 uncertain, NaN not mentioned.
        uncertain: `ignore` leaves them out, `zeros` counts them as absent, `ones` as present.
        blank: `ignore` leaves out what is not mentioned, `zeros` counts it as absent.

    Returns:
        (N,) in the same code; what is left out stays -1 or NaN.

    Raises:
        CxrPairError: another word.
    """
    for key, word, known in (("uncertain", uncertain, UNCERTAIN), ("blank", blank, BLANK)):
        if word not in known:
            raise CxrPairError(f"{key} is {word!r}: use {' or '.join(known)}")
    values = np.asarray(labels, dtype=np.float64)
    return np.where(values == -1, UNCERTAIN[uncertain], np.where(np.isnan(values), BLANK[blank], values))


def certain(labels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which labels are present or absent: only these are learned from and tested."""
    return np.isin(labels, (0.0, 1.0))
