"""Ways of learning from the answers. The quick one is here; `fine_tuning.py` has the one that takes an hour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from monai_cxrpair.evaluation.classifier import Classifier, build_classifier
from monai_cxrpair.evaluation.head import fit_head
from monai_cxrpair.label.judge import Fold, Labelled, out_of_fold
from monai_cxrpair.label.loaded import Loaded


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a way of learning made of the answers.

    Attributes:
        network: the classifier that learned from all answers.
        held_out: (n,) probabilities of the radiographs, by networks that saw no answer of their patients.
        card: what its card says beside what the present one's says.
    """

    network: Classifier
    held_out: npt.NDArray[np.float64]
    card: Mapping[str, Any]


class Learning(Protocol):
    """A way of learning from the answers. It is measured, compared and swapped in by `refit`.

    Attributes:
        name: in the history and the card.
        what: it makes, for the reader.
        changes_encoder: what is learned goes into the embeddings, too. They then cannot be used to learn from the same
            answers again: the next refit starts from the classifier as it came.
    """

    name: str
    what: str
    changes_encoder: bool

    def learn(self, start: Loaded, labelled: Labelled, folds: list[Fold], *, seed: int) -> Candidate:
        """Learn from all answers, and fold by fold; the encoder of `start` saw none of them."""


class NewHead:
    """The linear head of the evaluation (`LinearProbe`) on the frozen embeddings."""

    name, what, changes_encoder = "head", "new head", False

    def learn(self, start: Loaded, labelled: Labelled, folds: list[Fold], *, seed: int) -> Candidate:
        """See `Learning`."""
        head = fit_head(labelled.embeddings, labelled.labels, labelled.patients, seed=seed)
        held_out = out_of_fold(labelled, folds, seed=seed)
        assert held_out is not None  # the folds have both classes
        network = build_classifier(start.encoder, head.probe)
        assert isinstance(network, Classifier)
        return Candidate(
            network=network,
            held_out=held_out,
            card={
                "operating_point": head.operating_point,
                "calibration": head.calibration,
                "probe_c": head.probe.c,
            },
        )
