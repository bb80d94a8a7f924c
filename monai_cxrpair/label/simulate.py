"""What a strategy is worth: a reader who knows the truth answers studies one by one, as the worklist hands them out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.probe import LinearProbe
from monai_cxrpair.evaluation.protocols.units import make_units
from monai_cxrpair.evaluation.statistics.auc import auc
from monai_cxrpair.label.strategies import STRATEGIES, choose, standardised

EVERY = 5  # answers between two refits: a head of so few answers changes with each
UNKNOWING = 0.5  # what is said of every study before both classes were answered


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Embedded radiographs with known truth.

    Attributes:
        embeddings: (n, F) of radiographs.
        labels: (n,) 1 or 0, those of the study.
        patients: (n,) codes.
        studies: (n,) codes, unique over all patients; the frontal radiograph of a study comes first.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.float64]
    patients: NDArray[np.int64]
    studies: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What became of one reading: `auc` of the test studies (None: one class only was answered), `present` answers."""

    auc: float | None
    present: int
    chosen: NDArray[np.int64]


def simulate(
    reading: Reading,
    pool: NDArray[np.int64],
    test: NDArray[np.int64],
    *,
    strategy: str,
    answers: int,
    rng: np.random.Generator,
    every: int = EVERY,
    first: LinearProbe | None = None,
) -> Simulated:
    """Answer studies of the pool one by one and test the head that learned from them.

    As in the app: the strategy sees the head of the answers so far, refitted after every few answers, and before there
    is one the head that it began with. Unlike in the app no new head is turned down.

    Args:
        reading: all radiographs.
        pool: study codes to choose from.
        test: study codes to test on, of other patients.
        strategy: one of `strategies.STRATEGIES`.
        answers: how many studies are answered.
        rng: decides between equals.
        every: answers between two refits.
        first: the head to begin with; None: nothing is known of any study, so `uncertain` begins at random.

    Returns:
        The AUC, the number of positive answers and the studies in the order in which they were answered.

    Raises:
        CxrPairError: an unknown strategy, a pool that is too small, or a patient on both sides.
    """
    if strategy not in STRATEGIES or not 0 < answers <= len(pool):
        raise CxrPairError(
            f"simulate: {answers} answers by strategy {strategy!r} of a pool of {len(pool)} studies: use at most that "
            f"many, and {', '.join(STRATEGIES)}"
        )
    rows = {int(study): np.flatnonzero(reading.studies == study) for study in np.concatenate([pool, test])}
    who = [{int(reading.patients[rows[int(study)][0]]) for study in part} for part in (pool, test)]
    if not who[0].isdisjoint(who[1]):
        raise CxrPairError("simulate: a patient is in the pool and on the test side")
    frontal = standardised(reading.embeddings[[rows[int(study)][0] for study in pool]])
    probabilities = np.full(len(pool), UNKNOWING) if first is None else _scores(first, reading, rows, pool)
    threshold = UNKNOWING
    taken: list[int] = []
    probe = None
    for number in range(answers):
        found = choose(
            strategy,
            candidates=np.setdiff1d(np.arange(len(pool)), taken),
            taken=np.array(taken, dtype=np.int64),
            probabilities=probabilities,
            embeddings=frontal,
            threshold=threshold,
            rng=rng,
        )
        assert found is not None
        taken.append(found)
        if (number + 1) % every == 0 or number + 1 == answers:
            own = np.concatenate([rows[int(pool[position])] for position in taken])
            if len(np.unique(reading.labels[own])) == 2:
                probe = LinearProbe().fit(reading.embeddings[own], reading.labels[own], reading.patients[own])
                probabilities = _scores(probe, reading, rows, pool)
    truth = np.array([reading.labels[rows[int(study)][0]] for study in test])
    chosen = pool[taken]
    return Simulated(
        auc=None if probe is None else auc(truth, _scores(probe, reading, rows, test)),
        present=int(sum(reading.labels[rows[int(study)][0]] for study in chosen)),
        chosen=chosen,
    )


def _scores(
    probe: LinearProbe, reading: Reading, rows: dict[int, NDArray[np.int64]], studies: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Of studies, the maximum over their radiographs, in the order asked for."""
    own = np.concatenate([rows[int(study)] for study in studies])
    position = np.repeat(np.arange(len(studies)), [len(rows[int(study)]) for study in studies])
    nobody = np.zeros(len(own), dtype=np.int64)
    units = make_units(np.arange(len(own)), nobody.astype(np.float64), nobody, position, aggregate="study_max")
    return units.pool(probe.predict_proba(reading.embeddings[own])[units.rows])
