"""How often two radiographs of a patient disagree, by how far apart they were taken."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.pairing.index import CandidateIndex, Ints

Rates = Callable[[CandidateIndex, Ints], dict[str, float | None]]
Limits = Mapping[str, tuple[int, int | None]]

# Name of a bin, and the smallest and largest distance in it; None: no end. Days are cut as in `cxrpair describe`.
DAYS: Limits = {
    "0, another study": (0, 0), "1 to 7": (1, 7), "8 to 30": (8, 30), "31 to 90": (31, 90), "91 to 365": (91, 365),
    "more than 365": (366, None),
}  # fmt: skip
STUDIES: Limits = {
    "1": (1, 1), "2": (2, 2), "3 to 5": (3, 5), "6 to 10": (6, 10), "more than 10": (11, None),
}  # fmt: skip


def by_distance(cohort: Cohort, rates: Rates) -> list[dict[str, Any]]:
    """Count disagreement by distance in time, from ranges: no list of pairs is ever made.

    Args:
        cohort: The radiographs.
        rates: The mismatch rate of each finding, from an index over some radiographs and their row numbers.

    Returns:
        One entry for `days` (calendar days, from the earliest date of a study; left out where no patient has two dated
        studies) and one for `studies` (difference of `study_order`), each with `unit`, `radiographs` (those that are
        placed in time) and `bins`: the `name` of the bin, the ordered `pairs` in it, the `radiographs` with a partner
        in it, and their `mismatch_rate` by finding.
    """
    patient, study, table = cohort.codes("patient_id"), cohort.codes("study_id"), cohort.table
    date = table["study_datetime"].groupby(study).transform("min")
    dated, everybody = np.flatnonzero(date.notna()), np.arange(len(cohort))
    days = date.iloc[dated].to_numpy(dtype="datetime64[D]").astype(np.int64)
    order = table["study_order"].to_numpy(dtype=np.int64)
    found = []
    for unit, rows, place, limits in (("days", dated, days, DAYS), ("studies", everybody, order, STUDIES)):
        bins = [
            {"name": name, "pairs": int(index.sizes.sum()), "radiographs": int((index.sizes > 0).sum()),
             "mismatch_rate": rates(index, rows)}
            for name, index in _bins(patient[rows], study[rows], place, limits)
        ]  # fmt: skip
        if unit == "studies" or any(entry["pairs"] for entry in bins[1:]):
            found.append({"unit": unit, "radiographs": len(rows), "bins": bins})
    return found


def _bins(patient: Ints, study: Ints, place: Ints, limits: Limits) -> Iterator[tuple[str, CandidateIndex]]:
    """The partners at a distance: one range of the order (patient, place, study) without one inside it."""
    n = len(patient)
    if not n:
        return
    place = place - place.min()
    width = int(place.max()) + 1
    order = np.lexsort((study, place, patient))
    line = (patient * width + place)[order]

    def first(at: Ints) -> Ints:
        """Where the patient's radiographs from a place on begin; past their last place it is where the next begin."""
        return np.searchsorted(line, patient * width + np.clip(at, 0, width), side="left")

    def index(*bounds: Ints) -> CandidateIndex:
        """From start, stop, skip_start, skip_stop."""
        return CandidateIndex(order=order, bounds=np.stack(bounds, axis=1), holds_self=np.zeros(n, dtype=np.bool_))

    # A study has one place, so its radiographs stand beside each other.
    begins = np.flatnonzero(np.diff(study[order], prepend=-1))
    run = np.searchsorted(begins, np.arange(n), side="right") - 1
    own, own_start, own_stop = np.empty((3, n), dtype=np.int64)
    own[order], own_start[order], own_stop[order] = np.arange(n), begins[run], np.append(begins[1:], n)[run]
    yield "same study", index(own_start, own_stop, own, own + 1)
    for name, (low, high) in limits.items():
        reach = width if high is None else high
        hole = (own_start, own_stop) if low == 0 else (first(place - low + 1), first(place + low))
        yield name, index(first(place - reach), first(place + reach + 1), *hole)
