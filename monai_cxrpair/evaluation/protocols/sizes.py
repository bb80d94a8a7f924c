"""How many labels: fractions or numbers of studies, drawn by patient or row by row, or the draws of files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.cohort.split.draws import MAX_REDRAWS, MIN_STUDIES_PER_CLASS, LabelDraws, label_draws
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.protocols.labels import certain

DRAW_BY = ("patient", "radiograph")


@dataclass(frozen=True, kw_only=True)
class LabelSize:
    """One size of draws: a share of the labelled training studies, a number of them, or what files say.

    Attributes:
        key: its name in `by_fraction` of `results.json`: `0.01`, `100 studies` or `files`.
        fraction: the share, where asked for as one.
        studies: the number, where asked for as one.
    """

    key: str
    fraction: float | None = None
    studies: int | None = None

    def share(self, total: int) -> float:
        """The share of `total` labelled studies.

        Raises:
            CxrPairError: more studies than there are.
        """
        if self.studies is None:
            return float(self.fraction or 0)
        if self.studies > total:
            raise CxrPairError(f"label_studies is {self.studies}: the training side has {total} labelled studies")
        return self.studies / total


def label_sizes(label_fraction: Any, label_studies: Any = None, *, files: bool = False) -> list[LabelSize]:
    """The sizes asked for.

    Args:
        label_fraction: a number in (0, 1] or a list of them.
        label_studies: a whole number or a list of them, in place of the fractions; None: the fractions hold.
        files: the draws come from files instead.

    Returns:
        In the order given; the first is the one that `encoders.NAME.linear` shows.

    Raises:
        CxrPairError: none, one twice, or a value that is no such number.
    """
    if files:
        return [LabelSize(key="files")]
    name, given = ("label_fraction", label_fraction) if label_studies is None else ("label_studies", label_studies)
    values = list(given) if isinstance(given, list | tuple) else [given]
    kinds = (int, float) if name == "label_fraction" else (int,)
    for value in values:
        high = 1 if name == "label_fraction" else np.inf
        if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value <= high:
            what = "a number above 0 and at most 1" if name == "label_fraction" else "a whole number of at least 1"
            raise CxrPairError(f"{name} must be {what}, or a list of them: got {value!r}")
    if not values or len(set(values)) < len(values):
        raise CxrPairError(f"{name} is {given!r}: name each size once")
    if name == "label_fraction":
        return [LabelSize(key=f"{value:g}", fraction=float(value)) for value in values]
    return [LabelSize(key=f"{value} studies", studies=value) for value in values]


def make_draws(
    size: LabelSize,
    labels: NDArray[np.float64],
    patients: NDArray[np.int64],
    studies: NDArray[np.int64],
    *,
    by: str,
    draws: int,
    seed: int,
) -> LabelDraws:
    """Draw labels of the training side.

    Args:
        size: how many.
        labels: (N,) of the training side, after `apply_policy`.
        patients: (N,).
        studies: (N,).
        by: `patient`: whole patients, see `label_draws`. `radiograph`: each labelled radiograph by itself with the
            probability of the share, as the paper's splits were made (section 4), so that sizes differ a little.
        draws: how many.
        seed: of the draws.

    Raises:
        CxrPairError: too few labels, or another word.
    """
    if by not in DRAW_BY:
        raise CxrPairError(f"draw_by is {by!r}: use {' or '.join(DRAW_BY)}")
    usable = np.flatnonzero(certain(labels))
    total = int(np.unique(np.stack([patients[usable], studies[usable]]), axis=1).shape[1])
    share = size.share(total)
    if by == "patient":
        return label_draws(labels, patients, studies, fraction=share, draws=draws, seed=seed)
    if draws < 1:
        raise CxrPairError(f"draws must be at least 1, got {draws}")
    rng = np.random.default_rng([seed, 0x726F77])
    rows: list[NDArray[np.int64]] = []
    redrawn = 0
    for _ in range(draws):
        for _attempt in range(MAX_REDRAWS):
            chosen = usable[rng.random(len(usable)) < share]
            present = int((labels[chosen] == 1).sum())
            if min(present, len(chosen) - present) >= MIN_STUDIES_PER_CLASS:
                break
            redrawn += 1
        else:
            raise CxrPairError(
                f"label_fraction {share:g} of {len(usable)} labelled radiographs is too small for "
                f"{MIN_STUDIES_PER_CLASS} radiographs of each class; use a larger one"
            )
        rows.append(chosen.astype(np.int64))
    return LabelDraws(
        rows=rows,
        labelled_studies=total,
        studies_per_draw=None,
        redrawn=redrawn,
        uncertain=int((labels == -1).sum()),
        missing=int(np.isnan(labels).sum()),
        source="drawn row by row",
    )


def studies_in(draws: Sequence[NDArray[np.int64]], patients: NDArray[np.int64], studies: NDArray[np.int64]) -> int:
    """Mean number of labelled studies in a draw, for the learning curve, however the draws came about."""
    counts = [np.unique(np.stack([patients[rows], studies[rows]]), axis=1).shape[1] for rows in draws]
    return round(float(np.mean(counts)))
