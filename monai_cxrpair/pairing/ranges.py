"""The algebra of pairing rules: every rule is a range of one order minus a range inside it.

Sort the radiographs by a group and, within it, along one axis; then the candidates of x are

    what is asked                        is
    study, property, finding `same`      part of the group
    `distinct`, two values (laterality)  part of the group; the range is looked up in the group of the other value
    study `distinct`                     axis: study; the range loses the study of x
    min_days, max_days                   axis: time of the study; the range is a window, and loses the one too near
    max_studies_apart                    axis: rank of the study; the range is a window
    `distinct`, more values (view)       axis: the value; the range loses the value of x
    no axis                              the range loses x itself, unless `include_self`

Time and rank are axes of studies, so study `distinct` fits on them too. What would need a second axis (a second
property of more than two values, a window of days and one of ranks) is filtered out of the ranges and kept as lists.
A radiograph with an unknown value where a known one is needed is not in the order at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.criterion import PairCriterion
from monai_cxrpair.pairing.index import Bools, CandidateIndex, Ints, Stored, smallest_type
from monai_cxrpair.pairing.lists import Keep, filtered
from monai_cxrpair.pairing.windows import Axis, everything, near_in_order, near_in_time

_FITS = 1 << 62  # a group and a position on the axis together are one int64


@dataclass(frozen=True, kw_only=True)
class Codes:
    """What rules speak of as whole numbers, each int64 (N,); None or absent where no rule asks for it.

    Attributes:
        patient, study: 0, 1, ...; a study belongs to one patient.
        properties: name -> 0, 1, ..., -1 where unknown.
        time: microseconds, `windows.UNDATED` where there is none.
        study_order: rank of the study within its patient.
        finding: of the same-finding oracle.
    """

    patient: Ints
    study: Ints
    properties: Mapping[str, Ints]
    time: Ints | None = None
    study_order: Ints | None = None
    finding: Ints | None = None


def find_at_once(codes: Codes, rule: PairCriterion) -> CandidateIndex:
    """The candidates of every radiograph under `rule`, without its size control.

    Raises:
        CxrPairError: codes that the rule needs are not there or too large, or lists of candidates would be too long.
    """
    related = {name: _needed(codes.properties.get(name), name) for name in rule.relations}
    same = [related[name] for name, relation in rule.relations.items() if relation == "same"]
    if rule.oracle_same_finding is not None:
        same.append(_needed(codes.finding, rule.oracle_same_finding))
    distinct = [related[name] for name, relation in rule.relations.items() if relation == "distinct"]
    opposite = [values for values in distinct if values.max(initial=0) <= 1]
    further = [values for values in distinct if values.max(initial=0) > 1]

    axis, left = _axis(codes, rule, further)
    group = wanted = codes.study if rule.study == "same" else codes.patient
    groups = int(group.max(initial=0)) + 1
    for values, other in [(values, values) for values in same] + [(values, 1 - values) for values in opposite]:
        n_values = max(2, int(values.max(initial=0)) + 1)
        group, wanted, groups = group * n_values + values, wanted * n_values + other, groups * n_values
    if groups * axis.length >= _FITS:
        raise CxrPairError("pairing: the codes of patients and studies are too large: number them 0, 1, 2, ...")

    known = np.ones(len(group), dtype=np.bool_)
    for values in related.values():
        known &= values >= 0
    index = _ranges(group, wanted, axis, known, rule)
    return filtered(index, lambda rows, found: np.all([keep(rows, found) for keep in left], axis=0)) if left else index


def _axis(codes: Codes, rule: PairCriterion, further: list[Ints]) -> tuple[Axis, list[Keep]]:
    """The axis that says most, and what it leaves to be filtered."""
    left = [_differ(values) for values in further]
    if rule.max_studies_apart is not None:
        order, apart = _needed(codes.study_order, "study_order"), rule.max_studies_apart
        axis = near_in_order(order, apart)
        if rule.by_time:
            left.append(lambda rows, found: np.abs(order[rows] - order[found]) <= apart)
    if rule.by_time:
        time = _needed(codes.time, "study_datetime")
        axis = near_in_time(codes.study, time, min_days=rule.min_days, max_days=rule.max_days)
    if rule.by_time or rule.max_studies_apart is not None:
        return axis.without_own() if rule.study == "distinct" else axis, left
    if rule.study == "distinct":
        return everything(codes.study).without_own(), left
    if further:
        return everything(further[0]).without_own(), left[1:]
    return everything(np.zeros_like(codes.study)), left


def _needed(values: Ints | None, name: str) -> Ints:
    if values is None:
        raise CxrPairError(f"pairing: the rule needs {name}, and its codes are not there")
    return values


def _differ(values: Ints) -> Keep:
    return lambda rows, found: values[rows] != values[found]


def _ranges(group: Ints, wanted: Ints, axis: Axis, known: Bools, rule: PairCriterion) -> CandidateIndex:
    """Look the ranges up; `group` and `wanted` are where x is found and where its candidates are, (N,).

    Everything happens in the order of the places, so that memory is read one number after another, and in the smallest
    type: at ten million rows most of the time goes into touching fresh memory.
    """
    place = group if axis.length == 1 else group * axis.length + axis.position
    order, places = _sorted(place, known)
    at_home = wanted is group
    sought = places if at_home and axis.length == 1 else (wanted * axis.length)[order]

    def ends(low: Ints | int, high: Ints | int) -> tuple[Stored, Stored]:
        if at_home and isinstance(low, int):
            return _runs(places if axis.length == 1 else places // axis.length)
        if at_home and low is axis.position and high is axis.position:
            return _runs(places)
        first, last = (end if isinstance(end, int) else end[order] for end in (low, high))
        start = np.searchsorted(places, sought + first, side="left")
        return start, np.searchsorted(places, sought + last, side="right")

    start, stop = ends(axis.low, axis.high)
    skip_start = skip_stop = stop
    if axis.hole_low is not None and axis.hole_high is not None:
        skip_start, skip_stop = ends(axis.hole_low, axis.hole_high)
    elif not rule.excludes_self and not rule.include_self:
        skip_start = np.arange(len(order), dtype=order.dtype)
        skip_stop = skip_start + 1
    holds_self = known & (rule.include_self and not rule.excludes_self)
    return CandidateIndex.of(
        order=order, rows=order, bounds=(start, stop, skip_start, skip_stop), holds_self=holds_self
    )


def _sorted(place: Ints, known: Bools) -> tuple[Stored, Ints]:
    """The known rows in the order of their places, and the places in that order; rows of one place stay in order."""
    n, dtype = len(place), smallest_type(len(place))
    bits = n.bit_length()
    if int(place.max(initial=0)).bit_length() + bits >= 63:
        rows = np.flatnonzero(known)
        rows = rows[np.argsort(place[rows], kind="stable")]
        return rows.astype(dtype, copy=False), place[rows]
    key = place << bits  # place and row in one number: sorted in half the time of an argsort
    key |= np.arange(n, dtype=dtype)
    if not known.all():
        key = key[known]
    key.sort()
    order: Stored = np.empty(len(key), dtype=dtype)
    np.bitwise_and(key, (1 << bits) - 1, out=order, casting="unsafe")
    key >>= bits
    return order, key


def _runs(values: Ints) -> tuple[Stored, Stored]:
    """Where the run of equal values that each entry lies in begins and ends."""
    new = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    begins = np.flatnonzero(new).astype(smallest_type(len(values)))
    stops = np.append(begins[1:], begins.dtype.type(len(values))) if len(values) else begins
    lengths = stops - begins
    return np.repeat(begins, lengths), np.repeat(stops, lengths)
