"""Patients of the train side that are kept for validation, where a split has no such side."""

import pandas as pd

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.split.near_duplicates import find_links
from monai_cxrpair.cohort.split.split import Split, share_of
from monai_cxrpair.errors import CxrPairError


def hold_out_validation(cohort: Cohort, split: Split, *, fraction: float, seed: int) -> Split:
    """Move some train patients to the validation side, where a split has none; its own stays as it is.

    Who goes follows from a hash of the patient id alone, as in `split_patients`, but of another stream; patients who
    share a picture go together. The test side stays as it is, so what holds for it (`hash`) holds for the result.

    Args:
        cohort: The whole cohort.
        split: Its split.
        fraction: Expected fraction of the train patients, at least 0 and below 1; 0 changes nothing.
        seed: Another seed chooses others.

    Returns:
        The split.

    Raises:
        CxrPairError: The fraction is out of range, or one of the two sides gets no patient.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 <= fraction < 1:
        raise CxrPairError(f"validation_fraction is {fraction!r}: it must be at least 0 and below 1")
    if len(split.validation_rows) or not fraction:
        return split
    table = pd.DataFrame({"patient": cohort.table["patient_id"], "group": find_links(cohort).groups})
    train = table[table["patient"].isin(set(split.train_patients))].drop_duplicates()
    leaders = train.groupby("group")["patient"].min()
    chosen = {group: share_of(f"validation:{leader}", seed) < fraction for group, leader in leaders.items()}
    on_validation = train["group"].map(chosen).astype(bool)
    sides = {
        "train": tuple(train["patient"][~on_validation]),
        "validation": tuple(train["patient"][on_validation]),
        "test": tuple(split.test_patients),
    }
    for side in ("train", "validation"):
        if not sides[side]:
            raise CxrPairError(
                f"none of the {len(train)} train patients falls on the {side} side with validation_fraction "
                f"{fraction:g} and seed {seed}: use another fraction"
            )
    return split.with_sides(cohort, sides, validation_fraction=float(fraction))
