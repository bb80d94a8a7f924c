"""Fine-tuning: the whole network learns from the answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.calibrate import fit_calibration
from monai_cxrpair.evaluation.classifier import Classifier
from monai_cxrpair.evaluation.head import operating_point
from monai_cxrpair.evaluation.protocols.fine_tune import FineTuneLearner
from monai_cxrpair.evaluation.protocols.tune_settings import PRESETS
from monai_cxrpair.imaging.cache import RadiographCacheDataset
from monai_cxrpair.label.embedder import preprocessing
from monai_cxrpair.label.judge import Fold, Labelled
from monai_cxrpair.label.learning import Candidate
from monai_cxrpair.label.loaded import Loaded
from monai_cxrpair.label.reader_model import ReaderModel

PRESET = "modern"  # of the evaluation's protocol `fine_tune`


class FineTuning:
    """The evaluation's fine-tuning protocol on the answers: once with all of them, and once for each fold.

    Args:
        model: whose studies are learned from, and whose cache keeps their pixels.
        max_epochs: of each training; the best one is kept (`TuneSettings.holdout`).
        minutes: that all of it may take. Known after the first epoch: an error then, nothing is trained in vain.
    """

    name, what, changes_encoder = "fine_tuning", "fine-tuned network", True

    def __init__(self, model: ReaderModel, *, max_epochs: int = 10, minutes: float = 60.0) -> None:
        self._model, self._minutes = model, minutes
        preset = PRESETS[PRESET]
        self._settings = replace(preset, epochs=max_epochs, warmup_epochs=min(preset.warmup_epochs, max_epochs - 1))

    def learn(self, start: Loaded, labelled: Labelled, folds: list[Fold], *, seed: int) -> Candidate:
        """See `Learning`.

        Raises:
            CxrPairError: it would take longer than allowed, or a radiograph cannot be read any more.
        """
        learner = FineTuneLearner(
            {self.name: start.encoder},
            self._pixels(start, labelled),
            labelled.labels,
            labelled.patients,
            seed=seed,
            settings=self._settings,
            name=PRESET,
            device=start.device,
        )
        everything = np.arange(len(labelled.labels))
        trainings = [*(learn for learn, _ in folds), everything]
        tick = self._clock(radiographs=sum(len(rows) for rows in trainings), first=len(trainings[0]))
        held_out = np.empty(len(everything))
        for number, (learn, hold) in enumerate(folds):
            network = learner.train(start.encoder, learn, seed=[seed, number], after_epoch=tick)[0]
            held_out[hold] = learner.predict(network, start.encoder, hold)
        network = learner.train(start.encoder, everything, seed=[seed, len(folds)], after_epoch=tick)[0]
        assert isinstance(network, Classifier)
        return Candidate(
            network=network.eval(),
            held_out=held_out,
            card={
                "operating_point": operating_point(labelled.labels, held_out),
                "calibration": fit_calibration(labelled.labels, held_out, labelled.patients),
                "probe_c": None,
            },
        )

    def _pixels(self, start: Loaded, labelled: Labelled) -> RadiographCacheDataset:
        return RadiographCacheDataset(
            self._model.studies.cohort.take(labelled.rows),
            transform=preprocessing(start.image_size),
            image_size=start.image_size,
            num_workers=1,  # beside the readers, who want answers meanwhile
            max_unreadable=0.0,  # they could all be read when they were embedded
            cache_dir=self._model.pixels_folder,
        )

    def _clock(self, *, radiographs: int, first: int) -> Callable[[], None]:
        """To be called after each epoch; the first one tells how long all of them take.

        Args:
            radiographs: of one epoch of every training, together.
            first: of one epoch of the first.
        """
        began, epochs = time.monotonic(), 0

        def tick() -> None:
            nonlocal epochs
            epochs += 1
            minutes = (time.monotonic() - began) / 60
            expected = minutes * radiographs / first * self._settings.epochs if epochs == 1 else minutes
            if expected > self._minutes:
                raise CxrPairError(
                    f"fine-tuning takes about {math.ceil(expected)} minutes here, {self._minutes:g} are allowed: send "
                    f'"minutes" with more, or fewer "max_epochs" than {self._settings.epochs}'
                )

        return tick
