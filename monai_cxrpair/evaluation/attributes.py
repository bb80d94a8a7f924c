"""What is known of radiographs, in words."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def views(table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Laterality and view position of radiographs, empty where not known.

    Args:
        table: (n rows) of a cohort.

    Returns:
        `laterality` (`frontal`, `lateral`) and `view_position` (`AP`, `PA`, of those that are not lateral): (n,) text.
    """
    laterality, position = (table[name].to_numpy(dtype=object) for name in ("laterality", "view_position"))
    is_position = np.isin(position, ("AP", "PA")) & (laterality != "lateral")
    return {
        "laterality": np.where(np.isin(laterality, ("frontal", "lateral")), laterality, "").astype(str),
        "view_position": np.where(is_position, position, "").astype(str),
    }


def attributes(table: pd.DataFrame, labels: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Those of `views`, after `finding`: `present`, `absent` or empty, by labels (n,) of 1, 0, -1 or NaN."""
    return {"finding": np.select([labels == 1, labels == 0], ["present", "absent"], default=""), **views(table)}


def view_names(known: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """One word for the view of each radiograph: `lateral`, else `AP` or `PA`, else `frontal`, else `unknown`."""
    laterality, position = known["laterality"], known["view_position"]
    words = np.where(position != "", position, np.where(laterality != "", laterality, "unknown"))
    return np.where(laterality == "lateral", "lateral", words)
