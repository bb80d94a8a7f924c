"""How the sides of a split become a split file: the check for overlaps, the label draws, and what the file tells."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort.cohort import Cohort, count_states
from monai_cxrpair.cohort.split.draws import SavedDraws, label_draws
from monai_cxrpair.cohort.split.near_duplicates import Links
from monai_cxrpair.cohort.split.saved import FORMAT, content_hash
from monai_cxrpair.cohort.split.split import SIDES
from monai_cxrpair.errors import CxrPairError


def check_sides(
    cohort: Cohort, links: Links, sides: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.bool_], CxrPairError | None]:
    """Look for patients, and for patients who share a picture, on two sides.

    Args:
        cohort: The radiographs.
        links: Its near-duplicates.
        sides: int64 (radiographs,), positions in `SIDES`, -1 for no side.

    Returns:
        bool (radiographs,), those that would have to leave their side: where a group is on several sides, all of it
        that is not on the last of them (test before validation before train); and the error that says so, or None.
    """
    table = cohort.table.assign(group=links.groups, side=sides)
    on_side = table[table["side"] >= 0]
    latest = on_side.groupby("group")["side"].max()
    must_leave = (table["side"] >= 0) & (table["side"] < table["group"].map(latest).fillna(-1))
    if not must_leave.any():
        return must_leave.to_numpy(dtype=bool), None
    several = on_side.groupby("patient_id")["side"].nunique()
    same_patient = int((several > 1).sum())
    groups = on_side.groupby("group")["side"].nunique()
    reason = (
        f"{same_patient} patients are on two sides"
        if same_patient
        else f"{int((groups > 1).sum())} groups of patients who share a picture (near-duplicates) are on two sides"
    )
    return must_leave.to_numpy(dtype=bool), CxrPairError(
        f"the split overlaps: {reason}; mend its table, or leave {int(must_leave.sum())} radiographs out of train or "
        "validation with --leave-out-overlap"
    )


def draw_labels(
    cohort: Cohort, sides: npt.NDArray[np.int64], *, finding: str, fraction: float, draws: int, seed: int
) -> SavedDraws:
    """Draw label fractions of the train side, the way `evaluating` draws them.

    Args:
        cohort: The whole cohort.
        sides: int64 (radiographs,), 0 for the train side.
        finding: The label column.
        fraction: Share of the labelled studies in each draw.
        draws: How many draws.
        seed: The same seed gives the same draws.

    Returns:
        The draws.

    Raises:
        CxrPairError: The finding does not exist, or the fraction cannot hold two studies of each class.
    """
    known = np.flatnonzero(sides == 0)
    labels = cohort.labels(finding)[known]
    patients, studies = cohort.codes("patient_id")[known], cohort.codes("study_id")[known]
    drawn = label_draws(labels, patients, studies, fraction=fraction, draws=draws, seed=seed)
    images = cohort.table["image_id"].to_numpy(dtype=object)[known]
    return SavedDraws(
        finding=finding,
        fraction=fraction,
        seed=seed,
        labelled_studies=drawn.labelled_studies,
        studies_per_draw=drawn.studies_per_draw,
        redrawn=drawn.redrawn,
        image_ids=tuple(tuple(images[rows]) for rows in drawn),
    )


def make_split_file(
    cohort: Cohort,
    links: Links,
    sides: npt.NDArray[np.int64],
    *,
    method: Mapping[str, Any],
    label_draws: Sequence[SavedDraws] = (),
) -> dict[str, Any]:
    """Put a split into the form in which it is written.

    Args:
        cohort: The whole cohort.
        links: Its near-duplicates.
        sides: int64 (radiographs,), positions in `SIDES`, -1 for no side.
        method: How the sides were found: everything that is needed to find them again.
        label_draws: Draws of labelled radiographs of the train side.

    Returns:
        What the file holds, its hash included.

    Raises:
        CxrPairError: A patient or a group of linked patients is on two sides, a side that trains is empty, or a draw
            holds a radiograph that is not on the train side.
    """
    _, overlap = check_sides(cohort, links, sides)
    if overlap is not None:
        raise overlap
    table = cohort.table
    patients = {name: sorted(table["patient_id"][sides == number].unique()) for number, name in enumerate(SIDES)}
    if not patients["train"]:
        raise CxrPairError("the split has nobody on the train side")
    named = table["patient_id"].isin({patient for listed in patients.values() for patient in listed})
    training = set(table["image_id"][sides == 0])
    for drawn in label_draws:
        outside = sum(image not in training for images in drawn.image_ids for image in images)
        if outside:
            raise CxrPairError(f"the label draws hold {outside} radiographs that are not on the train side")
    content: dict[str, Any] = {
        "format": FORMAT,
        "cohort": {
            "fingerprint": cohort.fingerprint(),
            "radiographs": len(cohort),
            "patients": table["patient_id"].nunique(),
        },
        "method": dict(method),
        "near_duplicates": {
            "digest": links.digest,
            "pairs": len(links.pairs),
            "linked_patients": links.linked_patients,
            "linked_groups": links.linked_groups,
            "largest_group": links.largest,
            "without_hash": links.unknown,
        },
        "counts": {
            **{name: _count(cohort, sides == number) for number, name in enumerate(SIDES)},
            "left_out": _count(cohort, sides < 0),
        },
        "patients": patients,
        "left_out": sorted(table["image_id"][named & (sides < 0)]),
        "label_draws": [{**vars(drawn), "image_ids": [list(ids) for ids in drawn.image_ids]} for drawn in label_draws],
    }
    return {**content, "hash": content_hash(content)}


def _count(cohort: Cohort, rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
    part = cohort.table[rows]
    return {
        "radiographs": len(part),
        "patients": part["patient_id"].nunique(),
        "studies": part["study_id"].nunique(),
        "findings": {name: count_states(part[name]) for name in cohort.findings},
    }
