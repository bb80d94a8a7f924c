"""The candidate index: where the partners of every radiograph are, found once, drawn from without a search.

Every rule becomes the same thing. Sort the radiographs by (patient or study, laterality, study); then the
candidates of x are one range of that order minus one range inside it:

    study     laterality   the range                            minus
    any       any          patient                              x itself
    same      any          study                                x itself
    distinct  any          patient                              the study of x
    any       same         patient + laterality of x            x itself
    same      same         study + laterality of x              x itself
    any       distinct     patient + the other laterality       nothing
    same      distinct     study + the other laterality         nothing
    distinct  same         patient + laterality of x            those of the study of x
    distinct  distinct     patient + the other laterality       those of the study of x
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.criterion import PairCriterion

Ints = npt.NDArray[np.int64]

FRONTAL, LATERAL, UNKNOWN = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class CandidateIndex:
    """The candidates of radiograph i are `order[start[i]:stop[i]]` without `order[skip_start[i]:skip_stop[i]]`.

    All arrays are int64 of shape (N,): 40 bytes per radiograph. Read-only, so safe to share between workers.
    """

    order: Ints
    start: Ints
    stop: Ints
    skip_start: Ints
    skip_stop: Ints

    @property
    def sizes(self) -> Ints:
        """|S_c(x)| of every radiograph, shape (N,)."""
        return (self.stop - self.start) - (self.skip_stop - self.skip_start)

    def nth(self, rows: Ints, n: Ints) -> Ints:
        """The n-th candidate (0-based) of each row; `rows` and `n` broadcast. Each n must be below the row's size."""
        position = self.start[rows] + n
        position += np.where(position >= self.skip_start[rows], self.skip_stop[rows] - self.skip_start[rows], 0)
        return np.asarray(self.order[position])

    def candidates(self, row: int) -> Ints:
        """S_c(x) of one radiograph as row numbers."""
        return self.nth(np.full(self.sizes[row], row), np.arange(self.sizes[row]))


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
    """Find the candidates of every radiograph under `criterion` (module docstring).

    Raises:
        CxrPairError: The cohort has no patient ids.
    """
    require_patients(cohort)
    patient, study = cohort.codes("patient_id"), cohort.codes("study_id")
    laterality = laterality_codes(cohort.table["laterality"])
    return build_index_from_codes(patient, study, laterality, criterion)


def build_index_from_codes(patient: Ints, study: Ints, laterality: Ints, criterion: PairCriterion) -> CandidateIndex:
    """The same from integer codes of shape (N,); a study belongs to one patient."""
    n_studies = int(study.max(initial=0)) + 1
    within = study if criterion.study == "same" else patient
    if criterion.laterality == "any":
        group = wanted = within
        has_any = np.ones(len(patient), dtype=bool)
    else:
        group = within * 3 + laterality
        other = laterality if criterion.laterality == "same" else 1 - laterality
        has_any = laterality != UNKNOWN  # unknown is neither the same as nor distinct from any laterality
        wanted = np.where(has_any, within * 3 + other, group)

    fine = group * n_studies + study
    order = np.argsort(fine, kind="stable")
    sorted_group, sorted_fine = group[order], fine[order]
    start = np.searchsorted(sorted_group, wanted, side="left")
    stop = np.where(has_any, np.searchsorted(sorted_group, wanted, side="right"), start)

    if criterion.study == "distinct":
        skip_start = np.searchsorted(sorted_fine, wanted * n_studies + study, side="left")
        skip_stop = np.searchsorted(sorted_fine, wanted * n_studies + study, side="right")
    elif criterion.laterality != "distinct" and not criterion.include_self:
        skip_start = np.empty_like(order)
        skip_start[order] = np.arange(len(order))
        skip_stop = skip_start + 1
    else:
        skip_start = skip_stop = stop
    skip_start, skip_stop = np.where(has_any, skip_start, start), np.where(has_any, skip_stop, start)
    return CandidateIndex(order=order, start=start, stop=stop, skip_start=skip_start, skip_stop=skip_stop)
