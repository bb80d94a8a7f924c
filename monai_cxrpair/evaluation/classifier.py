"""The classifier that inference, exports and MONAI Label load: `model.pt` and its card `model.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from monai_cxrpair.contrast import build_encoder
from monai_cxrpair.contrast.checkpoints import save_atomically
from monai_cxrpair.contrast.encoders import read_state_dict
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.cards import CLASSIFIER
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.evaluation.probe import LinearProbe
from monai_cxrpair.evaluation.results import write_results


def build_classifier(encoder: FrozenEncoder, probe: LinearProbe) -> nn.Module:
    """Encoder and probe as one network: normalised views (B, 1, S, S) -> logits (B, 1)."""
    network = build_encoder(str(encoder.card["encoder"]), num_classes=1)
    network.load_state_dict(encoder.network.state_dict(), strict=False)  # all but `fc`, which follows
    weight, bias = probe.as_linear()
    head = network.get_submodule("fc")
    head.load_state_dict({"weight": torch.as_tensor(weight)[None], "bias": torch.tensor([bias])})
    return network.eval()


def save_classifier(network: nn.Module, output_dir: Path, card: dict[str, Any]) -> Path:
    """Write `model.pt` (a plain state dict) and `model.json`."""
    write_results({"format": CLASSIFIER, **card}, output_dir / "model.json")
    save_atomically(network.state_dict(), output_dir / "model.pt")
    return output_dir / "model.pt"


def load_classifier(network: nn.Module, model_file: str | Path) -> nn.Module:
    """Load `model.pt`, strictly.

    Raises:
        CxrPairError: the file is missing or damaged, or holds another network's weights.
    """
    try:
        network.load_state_dict(read_state_dict(model_file))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CxrPairError(f"{model_file}: these are not weights of this classifier ({reason})") from error
    return network.eval()


def fit_head(
    embeddings: npt.NDArray[np.float32], labels: npt.NDArray[np.float64], patients: npt.NDArray[np.int64], *, seed: int
) -> tuple[LinearProbe, dict[str, Any] | None]:
    """The probe on all labelled radiographs of the training side, and its operating point."""
    probe = LinearProbe(seed=seed).fit(embeddings, labels, patients)
    return probe, probe.operating_point(embeddings, labels, patients)
