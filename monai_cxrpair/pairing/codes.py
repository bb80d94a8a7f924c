"""Metadata as integers: what pairing, affinities and negatives compare, in workers and on the device alike."""

from __future__ import annotations

import numpy as np
import pandas as pd

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.pairing.properties import PROPERTIES, Ints, property_codes

UNKNOWN = -1

# The columns of an array of codes, in this order; MoCo's queue keeps them beside each key.
CODES = ("patient", "study", "day", "order", *PROPERTIES)


def metadata_codes(cohort: Cohort) -> Ints:
    """The codes of all radiographs, int64 (N, C), columns as in `CODES`; -1 where a value is not known.

    Patients and studies are numbered within the cohort, so that two of them never share a number. `day` counts from
    the patient's first dated study: the queue is saved in checkpoints, and no date may leave the cohort file.
    """
    table = cohort.table
    columns = {
        "patient": cohort.codes("patient_id"),
        "study": cohort.codes("study_id"),
        "day": days(table),
        "order": table["study_order"].to_numpy(dtype=np.int64),
        **{name: property_codes(cohort, name) for name in PROPERTIES},
    }
    return np.stack([columns[name] for name in CODES], axis=1)


def days(table: pd.DataFrame) -> Ints:
    """Whole days since the patient's first dated study; one value for all radiographs of a study; -1 without a date."""
    day = table.groupby("study_id", sort=False)["study_datetime"].transform("min").dt.normalize()
    first = day.groupby(table["patient_id"], sort=False).transform("min")
    return np.asarray((day - first).dt.days.fillna(UNKNOWN), dtype=np.int64)
