"""Builds the candidate index of a cohort, once (see `ranges` for how, `index` for what it holds)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import windows
from monai_cxrpair.pairing.blocks import find
from monai_cxrpair.pairing.criterion import PairCriterion
from monai_cxrpair.pairing.index import CandidateIndex, Ints
from monai_cxrpair.pairing.lists import subset
from monai_cxrpair.pairing.properties import finding_codes, property_codes
from monai_cxrpair.pairing.ranges import Codes

FRONTAL, LATERAL, UNKNOWN = 0, 1, 2


def laterality_codes(laterality: npt.ArrayLike) -> Ints:
    """`frontal`, `lateral`, anything else as 0, 1, 2; shape (N,)."""
    values = np.asarray(laterality)
    return np.where(values == "frontal", FRONTAL, np.where(values == "lateral", LATERAL, UNKNOWN)).astype(np.int64)


def require_patients(cohort: Cohort) -> None:
    """Refuse to choose partners by patient where nobody knows the patients (VinDr-CXR, RSNA).

    Raises:
        CxrPairError: The cohort has no patient ids.
    """
    if not cohort.patients_known:
        raise CxrPairError(
            f"the {cohort.source} cohort has no patient ids, so no partner can be chosen by patient: set "
            "`pairing: null` (plain MoCo), or train on a data set with patient ids and use this one for evaluation"
        )


def build_index(cohort: Cohort, criterion: PairCriterion) -> CandidateIndex:
    """Find the candidates of every radiograph under `criterion`.

    Raises:
        CxrPairError: no patient ids, a finding that is not there, or lists of candidates that would be too long.
    """
    require_patients(cohort)
    return _sized(criterion, partial(_find_in_cohort, cohort))


def build_index_from_codes(
    patient: Ints,
    study: Ints,
    laterality: Ints,
    criterion: PairCriterion,
    *,
    properties: Mapping[str, Ints] | None = None,
    time: Ints | None = None,
    study_order: Ints | None = None,
    finding: Ints | None = None,
) -> CandidateIndex:
    """The same from whole numbers of shape (N,); only what the rule asks for need be there.

    Args:
        patient: codes 0, 1, ...
        study: codes 0, 1, ...; a study belongs to one patient.
        laterality: `FRONTAL`, `LATERAL` or `UNKNOWN`.
        criterion: the rule.
        properties: codes of `view_position`, `age_group`, `sex`, -1 where unknown.
        time: microseconds, `windows.UNDATED` where there is none.
        study_order: rank of the study within its patient.
        finding: codes of the finding of `oracle_same_finding`.

    Raises:
        CxrPairError: the rule asks for what is not there, or its lists of candidates would be too long.
    """
    given = dict(properties or {}) | {"laterality": np.where(laterality == UNKNOWN, -1, laterality)}
    codes = Codes(
        patient=patient, study=study, properties=given, time=time, study_order=study_order, finding=finding
    )  # fmt: skip
    return _sized(criterion, partial(find, codes))


def _sized(criterion: PairCriterion, find_all: Callable[[PairCriterion], CandidateIndex]) -> CandidateIndex:
    """What `find_all` finds, cut to the size of the other rule where there is one."""
    index = find_all(criterion)
    if criterion.size_like is None:
        return index
    return subset(index, _sized(criterion.size_like, find_all).sizes, seed=criterion.size_seed)


def _find_in_cohort(cohort: Cohort, rule: PairCriterion) -> CandidateIndex:
    table, finding = cohort.table, rule.oracle_same_finding
    if finding is not None and finding not in cohort.findings:
        raise CxrPairError(
            f"pairing#oracle_same_finding is {finding!r}, which is no finding of the cohort: there are "
            f"{', '.join(cohort.findings) or 'none'}"
        )
    time = None
    if rule.by_time:
        dates = table["study_datetime"].to_numpy(dtype="datetime64[us]")
        time = np.where(np.isnat(dates), windows.UNDATED, dates.astype(np.int64))
    codes = Codes(
        patient=cohort.codes("patient_id"),
        study=cohort.codes("study_id"),
        properties={name: property_codes(cohort, name, age_bins=rule.age_bins) for name in rule.relations},
        time=time,
        study_order=table["study_order"].to_numpy(dtype=np.int64),
        finding=None if finding is None else finding_codes(table[finding]),
    )
    return find(codes, rule)
