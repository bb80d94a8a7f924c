"""Large cohorts are indexed block by block of patients, so that what is worked on stays small.

A candidate is always of the same patient: the index of a cohort is that of its blocks, one after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from monai_cxrpair.pairing.criterion import PairCriterion
from monai_cxrpair.pairing.index import CandidateIndex, Ints, Stored, put_rows, smallest_type
from monai_cxrpair.pairing.lists import LARGEST, refuse_too_many
from monai_cxrpair.pairing.ranges import Codes, find_at_once

BLOCK = 1 << 18  # radiographs


def find(codes: Codes, rule: PairCriterion) -> CandidateIndex:
    """The candidates of every radiograph under `rule`, without its size control.

    Raises:
        CxrPairError: codes that the rule needs are not there or too large, or lists of candidates would be too long.
    """
    n = len(codes.patient)
    if n <= BLOCK:
        return find_at_once(codes, rule)
    dtype = smallest_type(max(n, LARGEST))
    orders: list[Stored] = []
    bounds: Stored = np.zeros((n, 4), dtype=dtype)
    holds_self = np.zeros(n, dtype=np.bool_)
    label: Ints = np.zeros(int(codes.study.max(initial=0)) + 1, dtype=np.int64)
    done = 0
    for rows in _blocks(codes.patient):
        part = find_at_once(_part(codes, rows, label), rule)
        orders.append(rows[part.order].astype(dtype))
        put_rows(bounds, rows, part.bounds.astype(dtype, copy=False) + dtype.type(done))
        holds_self[rows] = part.holds_self
        done += len(part.order)
        if done > n:  # lists
            refuse_too_many(done, "at least ")
    return CandidateIndex(order=np.concatenate(orders), bounds=bounds, holds_self=holds_self)


def _blocks(patient: Ints) -> Iterator[Ints]:
    """The rows of one block of patients after another; about equally many patients in each."""
    count = -(-len(patient) // BLOCK)
    block = (patient * count // (int(patient.max()) + 1)).astype(np.uint16)  # two bytes: sorted in one pass
    order = np.argsort(block, kind="stable")
    stops = np.cumsum(np.bincount(block, minlength=count))
    for start, stop in zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True):
        if stop > start:
            yield order[start:stop]


def _part(codes: Codes, rows: Ints, label: Ints) -> Codes:
    """The codes of some rows, patients and studies numbered anew; `label` is room for a number of each study."""
    study, patient = codes.study[rows], codes.patient[rows]
    label[study] = np.arange(len(rows))  # the study is named after its last row
    return replace(
        codes,
        patient=patient - patient.min(),
        study=label[study],
        properties={name: values[rows] for name, values in codes.properties.items()},
        time=None if codes.time is None else codes.time[rows],
        study_order=None if codes.study_order is None else codes.study_order[rows],
        finding=None if codes.finding is None else codes.finding[rows],
    )
