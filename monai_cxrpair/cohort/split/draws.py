"""Random draws of a label fraction: which radiographs may the probe learn from?

A draw takes a fraction of the labelled *studies*, patient by patient, the way a hospital would label: patients come
in a seeded random order and bring all their labelled studies, until the number of studies is reached. The last
patient brings a random part of theirs, so that every draw has the same size. The paper draws single rows instead
(section 4, "1 % splits"); whole patients make a draw of the same size poorer in different chests, hence harder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_cxrpair.errors import CxrPairError

# Fewer studies of a class than this cannot tell a class from a single chest.
MIN_STUDIES_PER_CLASS = 2
# A draw without both classes is drawn again so often; at 4 studies and 1 % prevalence that still fails, with an error.
MAX_REDRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class LabelDraws(Sequence[NDArray[np.int64]]):
    """The draws, as a list of row positions, and how they came about.

    Attributes:
        rows: one sorted int64 array of row positions for each draw.
        labelled_studies: studies with at least one certain label (0 or 1); None, as are the next two, for draws that
            somebody else made.
        studies_per_draw: how many of them each draw takes.
        redrawn: how many draws were thrown away because a class was missing. Many of them mean that the draws have
            more of the rarer class than the cohort.
        uncertain: rows with label -1, not used.
        missing: rows with label NaN, not used.
        source: `drawn`, or `split file` where they were read from one.
    """

    rows: list[NDArray[np.int64]]
    labelled_studies: int | None
    studies_per_draw: int | None
    redrawn: int | None
    uncertain: int
    missing: int
    source: str = "drawn"

    @overload
    def __getitem__(self, index: int) -> NDArray[np.int64]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[np.int64]]: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.int64] | list[NDArray[np.int64]]:
        return self.rows[index]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, kw_only=True)
class SavedDraws:
    """Draws as a split file keeps them: by image id, so that they mean the same in a part of the cohort.

    Attributes:
        finding: the label column they were drawn for.
        fraction: share of the labelled studies of the training side in each draw.
        seed: that they were drawn with; None where somebody else drew them.
        labelled_studies: see `LabelDraws`; None where somebody else drew them.
        studies_per_draw: as above.
        redrawn: as above.
        image_ids: for each draw the ids of its radiographs.
    """

    finding: str
    fraction: float
    seed: int | None = None
    labelled_studies: int | None = None
    studies_per_draw: int | None = None
    redrawn: int | None = None
    image_ids: tuple[tuple[str, ...], ...] = field(repr=False)


def label_draws(
    labels: ArrayLike, patients: ArrayLike, studies: ArrayLike, *, fraction: float, draws: int, seed: int
) -> LabelDraws:
    """Draw label fractions, patient by patient.

    Args:
        labels: (N,) 1 present, 0 absent, -1 uncertain, NaN not mentioned; only 1 and 0 are used (policy `ignore`).
        patients: (N,) patient codes.
        studies: (N,) study codes; they need to be unique only within a patient.
        fraction: share of the labelled studies in each draw, in (0, 1].
        draws: number of draws, at least 1.
        seed: the same seed gives the same draws.

    Returns:
        A sequence of row positions, one array for each draw, with the counts of what was left out.

    Raises:
        CxrPairError: where the fraction cannot hold two studies of each class.
    """
    if not 0 < fraction <= 1:
        raise CxrPairError(f"label_fraction must be above 0 and at most 1, got {fraction}")
    if draws < 1:
        raise CxrPairError(f"draws must be at least 1, got {draws}")
    values = np.asarray(labels, dtype=np.float64)
    who, which = np.asarray(patients), np.asarray(studies)
    if not values.ndim == 1 or values.shape != who.shape or values.shape != which.shape:
        raise CxrPairError(
            f"labels, patients and studies must be (N,): got {values.shape}, {who.shape} and {which.shape}"
        )
    wrong = values[~np.isnan(values) & ~np.isin(values, (-1, 0, 1))]
    if len(wrong):
        raise CxrPairError(f"labels must be 1, 0, -1 (uncertain) or missing, got {wrong[0]}")

    usable = np.flatnonzero((values == 0) | (values == 1))
    keys, study = np.unique(np.stack([who[usable], which[usable]]), axis=1, return_inverse=True)
    study = study.reshape(-1)
    owner = keys[0]  # (S,) the patient of each study
    total = len(owner)
    has_present, has_absent = np.zeros(total, dtype=bool), np.zeros(total, dtype=bool)
    has_present[study[values[usable] == 1]] = True
    has_absent[study[values[usable] == 0]] = True

    def holds_both(chosen: NDArray[np.int64]) -> bool:
        return min(int(has_present[chosen].sum()), int(has_absent[chosen].sum())) >= MIN_STUDIES_PER_CLASS

    if not holds_both(np.arange(total)):
        raise CxrPairError(
            f"the training side has {total} labelled studies, {has_present.sum()} with the finding and "
            f"{has_absent.sum()} without: at least {MIN_STUDIES_PER_CLASS} of each are needed; choose another `finding`"
        )
    size = min(total, max(1, round(fraction * total)))
    rng = np.random.default_rng([seed, 0x6472])  # a stream of its own, beside the bootstrap of the same seed
    rows: list[NDArray[np.int64]] = []
    redrawn = 0
    for _ in range(draws):
        for _attempt in range(MAX_REDRAWS if size >= 2 else 0):
            chosen = _studies_by_patient(owner, size=size, rng=rng)
            if holds_both(chosen):
                break
            redrawn += 1
        else:
            rarer = min(has_present.sum(), has_absent.sum()) / total
            # Two of each class, and two of the rarer one expected in a draw.
            enough = min(total, max(2 * MIN_STUDIES_PER_CLASS, int(np.ceil(MIN_STUDIES_PER_CLASS / rarer))))
            raise CxrPairError(
                f"label_fraction {fraction:g} of {total} labelled studies is {size}, too few for "
                f"{MIN_STUDIES_PER_CLASS} studies of each class; use label_fraction {_round_up(enough / total)} or more"
            )
        rows.append(usable[np.isin(study, chosen)].astype(np.int64))
    return LabelDraws(
        rows=rows,
        labelled_studies=total,
        studies_per_draw=size,
        redrawn=redrawn,
        uncertain=int((values == -1).sum()),
        missing=int(np.isnan(values).sum()),
    )


def saved_label_draws(
    saved: Sequence[SavedDraws],
    labels: ArrayLike,
    images: NDArray[np.object_],
    *,
    finding: str,
    fraction: float,
    draws: int,
) -> LabelDraws | None:
    """The draws of a split file as row positions.

    Args:
        saved: the draws of a split file.
        labels: (N,) as for `label_draws`.
        images: (N,) image ids of the training side, perhaps of a part of it.
        finding: the label column asked for.
        fraction: the label fraction asked for.
        draws: how many; the first of the file are taken.

    Returns:
        The draws; None where the file has none of this finding and fraction.

    Raises:
        CxrPairError: the file has fewer, or a draw has lost a class because this is a part of the cohort.
    """
    match = next((s for s in saved if s.finding == finding and np.isclose(s.fraction, fraction, rtol=1e-6)), None)
    if match is None:
        return None
    if draws > len(match.image_ids):
        raise CxrPairError(
            f"draws is {draws}: the split file has {len(match.image_ids)} of label_fraction {fraction:g}"
        )
    values = np.asarray(labels, dtype=np.float64)
    usable = (values == 0) | (values == 1)
    rows = [np.flatnonzero(usable & np.isin(images, ids)).astype(np.int64) for ids in match.image_ids[:draws]]
    for number, chosen in enumerate(rows):
        present = int((values[chosen] == 1).sum())
        if min(present, len(chosen) - present) < MIN_STUDIES_PER_CLASS:
            raise CxrPairError(
                f"draw {number} of the split file has {present} radiographs with the finding and "
                f"{len(chosen) - present} without: at least {MIN_STUDIES_PER_CLASS} of each are needed; evaluate "
                "without `subset`, or with another label_fraction"
            )
    return LabelDraws(
        rows=rows,
        labelled_studies=match.labelled_studies,
        studies_per_draw=match.studies_per_draw,
        redrawn=match.redrawn,
        uncertain=int((values == -1).sum()),
        missing=int(np.isnan(values).sum()),
        source="split file",
    )


def _studies_by_patient(owner: NDArray[np.int64], *, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`size` studies: patients in random order, each with all studies, the last with a random part."""
    order = rng.permutation(len(owner))  # within a patient the studies are in random order too
    patients, codes = np.unique(owner, return_inverse=True)
    rank = rng.permutation(len(patients))
    chosen: NDArray[np.int64] = order[np.argsort(rank[codes.reshape(-1)[order]], kind="stable")][:size]
    return chosen


def _round_up(fraction: float) -> str:
    """The fraction with two significant digits, rounded up so that following the advice works."""
    digits = 1 - int(np.floor(np.log10(fraction)))
    return f"{min(1.0, np.ceil(fraction * 10**digits - 1e-9) / 10**digits):g}"
