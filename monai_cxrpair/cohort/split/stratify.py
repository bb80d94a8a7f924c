"""A random split in which both sides have the same share of every finding, as far as whole patients allow.

Patients are drawn at random; then random pairs of patients change sides as long as that brings the sides closer. So
the size is exact, every patient has about the same chance of either side (filling the sides greedily, the largest
patient first as in iterative stratification, would put the patients with the most radiographs always on the same
side), and what remains is far below the chance differences of a plain random split.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.errors import CxrPairError

_TRIED = 64  # groups of either side that are looked at for one exchange: 4,096 pairs
_PATIENCE = 20  # exchanges that bring nothing, one after the other, before it is given up
_MOST = 2000  # exchanges; a split of CheXpert by 14 findings needs about 100
_SIZE_WEIGHT = 100.0  # the number of patients was asked for and comes before any balance


def stratified_sides(
    cohort: Cohort,
    groups: npt.NDArray[np.int64],
    *,
    validation: float,
    test: float,
    stratify: Sequence[str],
    seed: int,
) -> npt.NDArray[np.int64]:
    """Draw the sides of a split.

    Args:
        cohort: The radiographs.
        groups: int64 (radiographs,), patients of one group stay together, see `find_links`.
        validation: How much is wanted: below 1 a fraction of the patients, else a number of patients; 0 for none.
        test: As for `validation`.
        stratify: Findings whose present and absent radiographs are shared out evenly; radiographs always are.
        seed: The same seed gives the same split.

    Returns:
        int64 (radiographs,), 0 train, 1 validation, 2 test.

    Raises:
        CxrPairError: A finding does not exist, or a side would have no patient.
    """
    for name in stratify:
        if name not in cohort.findings:
            raise CxrPairError(f"stratify: the cohort has no finding {name!r}; there are: {', '.join(cohort.findings)}")
    _, codes = np.unique(groups, return_inverse=True)
    patients = cohort.codes("patient_id")
    owner = np.empty(patients.max() + 1, dtype=np.int64)
    owner[patients] = codes
    weights = [np.bincount(owner), np.bincount(codes)]  # patients and radiographs of each group
    for name in stratify:
        values = cohort.labels(name)
        weights += [np.bincount(codes, weights=values == value) for value in (1, 0)]
    vectors = np.stack(weights, axis=1).astype(np.float64)  # (groups, 2 + 2 findings)
    total = len(owner)
    wanted = {2: _count(test, total, "test"), 1: _count(validation, total, "validation")}
    if sum(wanted.values()) >= total:
        raise CxrPairError(f"no patient is left for the train side: the cohort has {total}, {sum(wanted.values())} go")
    rng = np.random.default_rng([seed, 0x73706C])
    side = np.zeros(len(vectors), dtype=np.int64)
    for number, count in wanted.items():
        if count:
            free = np.flatnonzero(side == 0)
            chosen = _choose(vectors[free], count, rng)
            if not chosen.any() or chosen.all():
                name = "train" if chosen.any() else {1: "validation", 2: "test"}[number]
                raise CxrPairError(
                    f"the {name} side would have no patient: patients who share pictures stay together, and there "
                    f"are {len(vectors)} such groups; ask for another number of patients"
                )
            side[free[chosen]] = number
    return side[codes]


def _count(wanted: float, total: int, name: str) -> int:
    if wanted < 0 or (wanted >= 1 and wanted != int(wanted)):
        raise CxrPairError(f"{name} is {wanted:g}: give a fraction below 1, or a whole number of patients")
    if wanted >= 1 or wanted == 0:
        return int(wanted)
    return max(1, round(wanted * total))


def _choose(vectors: npt.NDArray[np.float64], count: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Choose groups with `count` patients (column 0) whose other columns are as near as can be to their share."""
    totals = vectors.sum(axis=0)
    share = count / totals[0]
    chosen = np.zeros(len(vectors), dtype=bool)
    room = count
    for group in rng.permutation(len(vectors)):
        if vectors[group, 0] <= room:
            chosen[group] = True
            room -= int(vectors[group, 0])
        if not room:
            break
    if not chosen.any():  # all groups are larger than what was asked for
        chosen[int(np.argmin(vectors[:, 0]))] = True
    # In units of what chance alone would do, so that a rare finding counts as much as a common one.
    spread = np.sqrt(share * (1 - share) * (vectors**2).sum(axis=0))
    scaled = vectors[:, spread > 0] / spread[spread > 0]
    scaled[:, 0] *= _SIZE_WEIGHT
    off = scaled[chosen].sum(axis=0) - share * scaled.sum(axis=0)
    vain = 0
    for _ in range(_MOST):
        inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        if vain == _PATIENCE or not len(inside) or not len(outside):
            break
        leave = rng.choice(inside, min(_TRIED, len(inside)), replace=False)
        enter = rng.choice(outside, min(_TRIED, len(outside)), replace=False)
        change = scaled[enter][None] - scaled[leave][:, None]  # (leave, enter, columns)
        gain = ((off + change) ** 2).sum(axis=2)
        best = np.unravel_index(int(np.argmin(gain)), gain.shape)
        if gain[best] < (off**2).sum() * (1 - 1e-9):
            chosen[leave[best[0]]], chosen[enter[best[1]]] = False, True
            off, vain = off + change[best], 0
        else:
            vain += 1
    return chosen
