"""The kNN protocol: the drawn radiographs as references, nothing is trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.evaluation.knn import knn_scores
from monai_cxrpair.evaluation.probe import MIN_PER_CLASS
from monai_cxrpair.evaluation.protocols.learned import Learned, too_few


class KnnLearner:
    """The weighted share of the nearest drawn radiographs that have the finding.

    Args:
        embeddings: name -> (N, F).
        labels: (N,).
        patients: (N,).
        neighbours: see `knn_scores`.
        temperature: see `knn_scores`.
    """

    def __init__(
        self,
        embeddings: Mapping[str, NDArray[np.float32]],
        labels: NDArray[np.float64],
        patients: NDArray[np.int64],
        *,
        neighbours: int = 20,
        temperature: float | None = 0.07,
    ) -> None:
        self._tables, self._labels, self._patients = embeddings, labels, patients
        self._settings: dict[str, Any] = {"neighbours": neighbours, "temperature": temperature}

    def learn(self, encoder: str, draws: Sequence[NDArray[np.int64]], rows: NDArray[np.int64]) -> Learned:
        """See `Learner`; held out: each drawn radiograph by those of the other patients of the draw."""
        table = self._tables[encoder]
        scores = [knn_scores(table[own], self._labels[own], table[rows], **self._settings) for own in draws]
        return Learned(scores=np.stack(scores), held_out=[self._held_out(table, own) for own in draws])

    def describe(self) -> dict[str, Any]:
        """See `Learner`."""
        return dict(self._settings)

    def _held_out(
        self, table: NDArray[np.float32], own: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        who = self._patients[own]
        if too_few(self._labels[own], MIN_PER_CLASS) or len(np.unique(who)) < 2:
            return None
        people: dict[str, Any] = {"reference_patients": who, "query_patients": who}
        return own, knn_scores(table[own], self._labels[own], table[own], **people, **self._settings)
