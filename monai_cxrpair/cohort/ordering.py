"""The rank of a study within its patient: by date and time where there is one, else by the study's name."""

import re

import numpy as np
import pandas as pd

_NUMBER = re.compile(r"\d+")


def natural_keys(texts: pd.Series) -> pd.Series:
    """Return keys that sort texts with the numbers in them compared as numbers: `study2` before `study10`.

    Every number is filled with zeros to the length of the longest one (a component of a DICOM UID has up to 39
    digits), so that the order of the texts is the order of the numbers. `study1` and `study01` get the same key.
    """
    width = max(map(len, _NUMBER.findall("\n".join(texts.tolist()))), default=0)
    if not width:
        return texts
    filled = texts.str.replace(r"(\d+)", "0" * width + r"\1", regex=True)
    return filled.str.replace(rf"\d*(\d{{{width}}})", r"\1", regex=True)


def study_order(table: pd.DataFrame) -> pd.Series:
    """Rank the studies of each patient from 0.

    Args:
        table: Columns `patient_id`, `study_id` (text) and `study_datetime` (nullable). Where all studies of a
            patient have a date-time they are ranked by it (by the earliest one of the study); else by the natural
            order of the study ids. Studies at the same time are ranked by id.

    Returns:
        int64, one value per row of `table`, the same for all rows of a study.
    """
    studies = table.groupby(["patient_id", "study_id"], sort=False, as_index=False)["study_datetime"].min()
    several = studies["patient_id"].duplicated(keep=False)  # one study has rank 0 without any sorting
    order = pd.Series(0, index=studies.index, dtype="int64")
    ranked = studies[several].copy()
    undated = ranked["study_datetime"].isna().groupby(ranked["patient_id"], sort=False).transform("any")
    ranked.loc[undated, "study_datetime"] = pd.NaT
    open_ = ranked.duplicated(["patient_id", "study_datetime"], keep=False)  # the others need no name to be ranked
    ranked["key"] = natural_keys(ranked["study_id"].where(open_, ""))
    ranked = ranked.sort_values(["patient_id", "study_datetime", "key", "study_id"])
    order.loc[ranked.index] = ranked.groupby("patient_id", sort=False).cumcount().to_numpy()
    # ngroup numbers the groups in order of appearance, which is the order of the rows of `studies`.
    rows = table.groupby(["patient_id", "study_id"], sort=False).ngroup().to_numpy()
    return pd.Series(order.to_numpy(dtype=np.int64)[rows], index=table.index)
