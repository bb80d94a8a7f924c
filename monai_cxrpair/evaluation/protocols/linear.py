"""The linear protocol: a probe on frozen embeddings, by convergence or as long as the paper trains it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.evaluation.probe import DEFAULT_C, LinearProbe
from monai_cxrpair.evaluation.protocols.learned import Learned


class LinearLearner:
    """Converged logistic regression with an L2 penalty.

    Args:
        embeddings: name -> (N, F).
        labels: (N,).
        patients: (N,).
        seed: of the folds.
        c: inverse penalty; None: chosen inside each draw by patient-grouped cross-validation, see `LinearProbe`.
    """

    def __init__(
        self,
        embeddings: Mapping[str, NDArray[np.float32]],
        labels: NDArray[np.float64],
        patients: NDArray[np.int64],
        *,
        seed: int,
        c: float | None = DEFAULT_C,
    ) -> None:
        self._tables, self._labels, self._patients, self._seed, self._c = embeddings, labels, patients, seed, c

    def learn(self, encoder: str, draws: Sequence[NDArray[np.int64]], rows: NDArray[np.int64]) -> Learned:
        """See `Learner`; what is held out comes from cross-validation inside the draw."""
        table, y, who = self._tables[encoder], self._labels, self._patients
        probes = [LinearProbe(c=self._c, seed=self._seed).fit(table[own], y[own], who[own]) for own in draws]
        held = [probe.out_of_fold(table[own], y[own], who[own]) for probe, own in zip(probes, draws, strict=True)]
        return Learned(
            scores=np.stack([probe.predict_proba(table[rows]) for probe in probes]),
            held_out=[None if s is None else (own, s) for own, s in zip(draws, held, strict=True)],
            details={"c": [probe.c for probe in probes], "c_source": [probe.c_source for probe in probes]},
        )

    def describe(self) -> dict[str, Any]:
        """See `Learner`."""
        return {"optimiser": "converged"}
