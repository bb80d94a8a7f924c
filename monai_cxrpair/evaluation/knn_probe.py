"""The kNN probe of the training: every few epochs, how well do nearest neighbours find a finding?

The paper chooses its checkpoints by it. References are labelled radiographs of the pre-training side, queries those of
the validation side, which pre-training does not see; nobody of the test side takes part.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from monai_cxrpair.cohort import Cohort, Split
from monai_cxrpair.contrast.distributed import gather_rows, rank
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.embed import embed
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.evaluation.knn import check_settings, knn_scores
from monai_cxrpair.evaluation.statistics.auc import auc
from monai_cxrpair.imaging import RadiographCacheDataset, as_tensors

logger = logging.getLogger(__name__)

KNN_AUC = "knn_auc"
LEAST = 5  # radiographs of a class: an AUC of fewer changes by a tenth and more with a single one of them


def knn_cohort(cohort: Cohort, split: Split, *, finding: str, at_most: int, seed: int) -> Cohort:
    """The radiographs of the probe: labelled ones of the pre-training and of the validation side.

    Where a side has more than `at_most`, patients are drawn at random, each with all their labelled radiographs, the
    last one perhaps with a part.

    Args:
        cohort: the radiographs of the run.
        split: its split.
        finding: the label column; only certain labels (0 and 1) are used.
        at_most: radiographs of each side.
        seed: of the draw.

    Raises:
        CxrPairError: no such finding, nobody to validate with, or fewer than `LEAST` of a class on a side.
    """
    if isinstance(at_most, bool) or not isinstance(at_most, int) or at_most < 2 * LEAST:
        raise CxrPairError(f"knn_radiographs is {at_most!r}: use a whole number of at least {2 * LEAST}")
    try:
        labels = cohort.labels(finding)
    except CxrPairError as error:
        raise CxrPairError(f"knn_{error}") from error
    patients = cohort.codes("patient_id")
    if not len(split.validation_rows):
        raise CxrPairError(
            f"knn_finding is {finding}, but nobody is kept for validation: set validation_fraction above 0, or use a "
            "split_file with a validation side"
        )
    order = np.random.default_rng([seed, 0x6B6E6E]).permutation(patients.max() + 1)  # a place for each patient
    sides = []
    for rows in (split.train_rows, split.validation_rows):
        labelled = rows[np.isin(labels[rows], (0.0, 1.0))]
        sides.append(np.sort(labelled[np.argsort(order[patients[labelled]], kind="stable")][:at_most]))
    _check_classes(labels[sides[0]], labels[sides[1]], finding)
    return cohort.take(np.concatenate(sides))


class KnnProbe:
    """Handler: every few epochs and after the last, `engine.state.metrics["knn_auc"]`: the kNN classifier's AUC.

    A copy of the encoder is asked, in eval mode, without any random number: the training goes on as if it had not been.
    In the epochs between there is no `knn_auc`. Of several ranks the first one computes, and all get its figure.

    Args:
        dataset: over `knn_cohort`.
        split: the split of the run, which says who validates.
        encoder: yields features; the query encoder that is trained.
        normalisation: (mean, standard deviation) as in training.
        finding: the label column.
        every: epochs.
        neighbours: k, see `knn_scores`.
        temperature: see `knn_scores`.
        batch_size: radiographs embedded at a time.
        device: to compute on.

    Raises:
        CxrPairError: a setting out of range, or fewer than `LEAST` readable radiographs of a class on a side.
    """

    def __init__(
        self,
        *,
        dataset: RadiographCacheDataset,
        split: Split,
        encoder: nn.Module,
        normalisation: tuple[float, float],
        finding: str,
        every: int = 1,
        neighbours: int = 20,
        temperature: float | None = 0.07,
        batch_size: int = 64,
        device: torch.device | str = "cpu",
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise CxrPairError(f"knn_every is {every!r}: use a whole number of epochs, at least 1")
        check_settings(neighbours, temperature, prefix="knn_")
        self.dataset, self.encoder, self.normalisation, self.every = dataset, encoder, normalisation, every
        self.neighbours, self.temperature = neighbours, temperature
        self.batch_size, self.device = batch_size, device
        self.labels, self.patients = dataset.cohort.labels(finding), dataset.cohort.codes("patient_id")
        validates = dataset.cohort.table["patient_id"].isin(set(split.validation_patients)).to_numpy(dtype=bool)
        self.references, self.queries = np.flatnonzero(~validates), np.flatnonzero(validates)
        # Again, since radiographs that cannot be read are gone now.
        _check_classes(self.labels[self.references], self.labels[self.queries], finding)
        logger.info(
            "kNN probe of %s every %s: %d references, %d radiographs of %d validation patients",
            finding, "epoch" if every == 1 else f"{every} epochs",
            len(self.references), len(self.queries), len(np.unique(self.patients[self.queries])),
        )  # fmt: skip

    def attach(self, engine: Engine) -> None:
        """Measure at the end of an epoch; attach it before the handlers that read the figure."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: engine.state.metrics.pop(KNN_AUC, None))
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.measure)

    def measure(self, engine: Engine) -> None:
        """Write the figure, or say why there is none."""
        if engine.state.epoch % self.every and engine.state.epoch != engine.state.max_epochs:
            return
        value = torch.full((1,), torch.nan, dtype=torch.float64, device=self.device)
        if rank() == 0:
            value[0] = self.auc()
        found = float(gather_rows(value)[0])
        if np.isfinite(found):
            engine.state.metrics[KNN_AUC] = found
        else:
            logger.warning(
                "epoch %d has no %s: the encoder yields features that are all 0 or not finite",
                engine.state.epoch,
                KNN_AUC,
            )

    def auc(self) -> float:
        """The AUC of the finding on the validation side; NaN where the encoder yields no finite embeddings."""
        mean, std = self.normalisation
        # A copy, so that nothing of the training's encoder is touched: modes, running statistics, memory order.
        frozen = FrozenEncoder(network=copy.deepcopy(self.encoder), mean=mean, std=std, card={})
        features = embed({KNN_AUC: frozen}, self._batches(), device=self.device)[KNN_AUC]
        if not np.isfinite(features).all() or not features.any(axis=1).all():
            return float("nan")
        scores = knn_scores(
            features[self.references], self.labels[self.references], features[self.queries],
            neighbours=self.neighbours, temperature=self.temperature,
            reference_patients=self.patients[self.references], query_patients=self.patients[self.queries],
        )  # fmt: skip
        return auc(self.labels[self.queries], scores)

    def _batches(self) -> Iterator[dict[str, Tensor]]:
        """The radiographs in order. No DataLoader: it would draw from torch's random numbers, which training uses."""
        rows = range(len(self.dataset))
        for start in rows[:: self.batch_size]:
            yield as_tensors(self.dataset.__getitems__(rows[start : start + self.batch_size]))


def _check_classes(references: npt.NDArray[np.float64], queries: npt.NDArray[np.float64], finding: str) -> None:
    for side, labels, more in (
        ("pre-training", references, "a smaller validation_fraction"),
        ("validation", queries, "a larger validation_fraction, or a split_file with more validation patients"),
    ):
        present, absent = int((labels == 1).sum()), int((labels == 0).sum())
        if min(present, absent) < LEAST:
            raise CxrPairError(
                f"knn_finding is {finding}: the {side} side has {present} labelled radiographs with it and {absent} "
                f"without, and needs {LEAST} of each; use {more}, or set knn_finding null"
            )
