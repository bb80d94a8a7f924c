"""A classifier as it was at one moment: `model.pt` and its card, loaded strictly."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.cards import read_classifier_card
from monai_cxrpair.evaluation.classifier import Classifier, classifier_network, load_classifier
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.label.lock import locked

WEIGHTS = ("*.pt", "*.pth")
MODEL_LOCK = ".model.lock"  # held while model.pt and its card are read or replaced, so that they belong together
Signature = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """One that is replaced on disk meanwhile does not change it."""

    signature: Signature
    card: dict[str, Any]
    network: Classifier
    encoder: FrozenEncoder
    device: torch.device | str

    @property
    def threshold(self) -> float | None:
        """The probability from which on a study is called positive; None: the card has no operating point."""
        point = self.card.get("operating_point")
        return None if point is None else float(point["threshold"])

    @property
    def image_size(self) -> int:
        """Of the square views."""
        return int(self.encoder.card["preprocessing"]["image_size"])

    def probabilities(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The head's, (n,) for (n, F); NaN stays."""
        layer = self.network.fc
        weight, bias = (value.detach().cpu().double().numpy() for value in (layer.weight[0], layer.bias))
        logits = embeddings.astype(np.float64) @ weight + bias
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))  # no overflow, as exp would

    def views(self, squares: npt.NDArray[np.uint8]) -> Tensor:
        """What the network sees of uint8 (n, 1, S, S), normalised as in `evaluation/embed.py`."""
        pixels = torch.from_numpy(np.ascontiguousarray(squares)).to(self.device).float() / 255.0
        return (pixels - self.encoder.mean) / self.encoder.std


def find_model(place: str | Path) -> Path:
    """The classifier's `model.pt` in a folder; a file is taken as it is.

    MONAI Label would load the file with the shortest name.

    Raises:
        CxrPairError: there is none, or more than one.
    """
    place = Path(place)
    if not place.is_dir():
        if not place.is_file():
            raise CxrPairError(f"{place}: no classifier there; name the model.pt that `evaluating` wrote")
        return place
    found = sorted(path for pattern in WEIGHTS for path in place.glob(pattern))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "no .pt file"
        raise CxrPairError(f"{place}: one classifier is expected, there is: {names}; name the file itself")
    return found[0]


def signature(model_file: Path) -> Signature:
    """What changes when the classifier or its card is replaced.

    Raises:
        CxrPairError: one of them is gone.
    """
    try:
        said = [os.stat(path) for path in (model_file, model_file.with_suffix(".json"))]
    except OSError as error:
        raise CxrPairError(f"{model_file}: the classifier or its card is gone ({error.strerror})") from error
    return tuple(number for each in said for number in (each.st_mtime_ns, each.st_size, each.st_ino))


def head_hash(network: Classifier) -> str:
    """A hash of the head, by which a card knows its weights."""
    state = network.fc.state_dict()
    return hashlib.sha256(b"".join(state[name].detach().cpu().numpy().tobytes() for name in sorted(state))).hexdigest()


def load(model_file: Path, *, device: torch.device | str, own_encoder: str | Mapping[str, Any] | None = None) -> Loaded:
    """Load a classifier while nobody replaces it.

    Raises:
        CxrPairError: the card or the weights are missing or damaged, or do not belong together.
    """
    with locked(model_file.with_name(MODEL_LOCK), reading=True):
        now, card = signature(model_file), read_classifier_card(model_file)
        network = load_classifier(classifier_network(model_file, own_encoder=own_encoder), model_file)
    assert isinstance(network, Classifier)
    if not isinstance(card.get("finding"), str):
        raise CxrPairError(f"{model_file.with_suffix('.json')}: the card does not say which finding it is for")
    if card.get("refit") and card["refit"].get("head") != head_hash(network):
        raise CxrPairError(
            f"{model_file}: weights and card are not of the same refit (one was interrupted): copy model.pt and "
            "model.json of previous/ back"
        )
    network.to(device).requires_grad_(False)
    said = card["encoder_card"]
    pixels = said["preprocessing"]
    encoder = FrozenEncoder(network=network.encoder, mean=pixels["mean"], std=pixels["std"], card=said)
    return Loaded(signature=now, card=card, network=network, encoder=encoder, device=device)
