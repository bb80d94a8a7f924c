"""What is known of the radiographs that a panel shows, in words."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def attributes(table: pd.DataFrame, labels: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Finding, laterality and view position of radiographs, empty where not known.

    Args:
        table: (n rows) of a cohort.
        labels: (n,) 1, 0, -1 or NaN.

    Returns:
        `finding` (`present`, `absent`), `laterality` (`frontal`, `lateral`) and `view_position` (`AP`, `PA`, of those
        that are not lateral): (n,) text each.
    """
    laterality, position = (table[name].to_numpy(dtype=object) for name in ("laterality", "view_position"))
    return {
        "finding": np.select([labels == 1, labels == 0], ["present", "absent"], default=""),
        "laterality": np.where(np.isin(laterality, ("frontal", "lateral")), laterality, "").astype(str),
        "view_position": np.where(np.isin(position, ("AP", "PA")) & (laterality != "lateral"), position, "").astype(
            str
        ),
    }


def view_names(known: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """One word for the view of each radiograph: `lateral`, else `AP` or `PA`, else `frontal`, else `unknown`."""
    laterality, position = known["laterality"], known["view_position"]
    words = np.where(position != "", position, np.where(laterality != "", laterality, "unknown"))
    return np.where(laterality == "lateral", "lateral", words)
