"""The classifier that inference, exports and MONAI Label load: `model.pt` and its card `model.json`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_cxrpair.contrast import feature_dim
from monai_cxrpair.contrast.checkpoints.encoder_file import on_cpu
from monai_cxrpair.contrast.checkpoints.files import save_atomically
from monai_cxrpair.contrast.encoders import read_state_dict
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.cards import CLASSIFIER, read_classifier_card
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.evaluation.networks import NetworkPlan, network_plan
from monai_cxrpair.evaluation.probe import LinearProbe
from monai_cxrpair.evaluation.report.results import write_results


class Classifier(nn.Module):
    """Encoder and linear layer as one network: normalised views (B, 1, S, S) -> logits (B, 1)."""

    def __init__(self, encoder: nn.Module, *, features: int) -> None:
        super().__init__()
        self.encoder, self.fc = encoder, nn.Linear(features, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, 1)."""
        logits: Tensor = self.fc(self.encoder(image))
        return logits


def build_classifier(encoder: FrozenEncoder, probe: LinearProbe) -> nn.Module:
    """The classifier of a trained encoder and a trained probe."""
    weight, bias = probe.as_linear()
    network = Classifier(copy.deepcopy(encoder.network), features=len(weight))
    network.fc.load_state_dict({"weight": torch.as_tensor(weight)[None], "bias": torch.tensor([bias])})
    return network.eval()


def classifier_network(model_file: str | Path, *, own_encoder: str | Mapping[str, Any] | None = None) -> nn.Module:
    """The network of a classifier with random weights, as its card says.

    Args:
        model_file: `model.pt`. Where it is not there, in a bundle without weights, the network is that of the defaults
            of training, so that MONAI's own checks of the config have one; loading weights into it is an error then.
        own_encoder: definition of the encoder, where the card names one of somebody's own.

    Raises:
        CxrPairError: see `network_plan`.
    """
    plan = NetworkPlan(encoder=own_encoder or "resnet18", in_channels=1, image_size=224, kind="default")
    if Path(model_file).with_suffix(".json").is_file():
        card = read_classifier_card(model_file)
        plan = network_plan(card["encoder_card"], own_encoder, source=model_file)
    encoder = plan.build()
    return Classifier(encoder, features=feature_dim(encoder, image_size=plan.image_size))


def save_classifier(network: nn.Module, output_dir: Path, card: dict[str, Any]) -> Path:
    """Write `model.pt` (a plain state dict) and `model.json`."""
    write_results({"format": CLASSIFIER, **card}, output_dir / "model.json")
    save_atomically(on_cpu(network), output_dir / "model.pt")
    return output_dir / "model.pt"


def load_classifier(network: nn.Module, model_file: str | Path) -> nn.Module:
    """Load `model.pt`, strictly.

    Raises:
        CxrPairError: the file is missing or damaged, or holds another network's weights.
    """
    try:
        network.load_state_dict(_nested(read_state_dict(model_file)))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CxrPairError(f"{model_file}: these are not weights of this classifier ({reason})") from error
    return network.eval()


def _nested(state: dict[str, Any]) -> dict[str, Any]:
    """The first classifiers kept the encoder's weights beside `fc`, not below `encoder`."""
    if any(key.startswith("encoder.") for key in state):
        return state
    return {key if key.startswith("fc.") else f"encoder.{key}": value for key, value in state.items()}
