"""Encoders: a radiograph (B, C, H, W) becomes a feature vector (B, F)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.networks import nets
from torch import Tensor, nn

from monai_cxrpair.errors import CxrPairError

FEATURES = {"resnet18": 512, "resnet34": 512, "resnet50": 2048}


def build_encoder(name: str = "resnet18", *, in_channels: int = 1, num_classes: int | None = None) -> nn.Module:
    """A randomly initialised encoder with torchvision's layout, so that its weights fit bit for bit.

    Args:
        name: `resnet18`, `resnet34` or `resnet50` (paper: ResNet-18).
        in_channels: 1 for radiographs.
        num_classes: None for features (B, F); else a linear layer `fc` on top of them, for a classifier.

    Raises:
        CxrPairError: an unknown name.
    """
    if name not in FEATURES:
        raise CxrPairError(f"encoder is {name!r}: there are {', '.join(FEATURES)}")
    # MONAI's defaults (stride 1, biases in the shortcuts) are not the ResNet of the papers and cost four times as much.
    network: nn.Module = getattr(nets, name)(
        spatial_dims=2,
        n_input_channels=in_channels,
        conv1_t_stride=2,
        bias_downsample=False,
        num_classes=num_classes or 1,
        feed_forward=num_classes is not None,
    )
    return network


def feature_dim(encoder: nn.Module, *, in_channels: int = 1) -> int:
    """F of an encoder, asked with one small black radiograph.

    Raises:
        CxrPairError: the network yields something else than a vector per radiograph.
    """
    training = encoder.training
    with torch.no_grad():
        features = encoder.eval()(torch.zeros(1, in_channels, 64, 64))
    encoder.train(training)
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise CxrPairError("encoder: the network must yield features of shape (B, F)")
    return int(features.shape[1])


def channels_last(network: nn.Module) -> nn.Module:
    """Put the weights into the memory order in which convolutions are fastest, in place."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # not in the stubs


def load_weights(encoder: nn.Module, path: str | Path) -> None:
    """Load a plain state dict, key by key: one of ours, or torchvision's ImageNet weights.

    The classification layer `fc` is left out. Weights of a first convolution for three colour channels are summed
    for a one-channel encoder, since a grey image has three equal channels.

    Args:
        encoder: takes the weights.
        path: a local file, as written by `torch.save(state_dict)`.

    Raises:
        CxrPairError: the file is missing, is no state dict, or its keys or shapes do not match (the first of each
            side are shown).
    """
    state = read_state_dict(path)
    state = {k: v for k, v in state.items() if not k.startswith("fc.")}
    own = {k: v for k, v in encoder.state_dict().items() if not k.startswith("fc.")}
    first = state.get("conv1.weight")
    if first is not None and first.shape[1] == 3 and own.get("conv1.weight", first).shape[1] == 1:
        state["conv1.weight"] = first.sum(dim=1, keepdim=True)
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        raise CxrPairError(
            f"{path}: these are not weights of this encoder; missing {len(missing)} ({', '.join(missing[:3])}), "
            f"not wanted {len(extra)} ({', '.join(extra[:3])})"
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise CxrPairError(f"{path}: {key} is {tuple(value.shape)}, the encoder needs {tuple(own[key].shape)}")
    encoder.load_state_dict(state, strict=False)  # strict but for `fc`, checked above


def read_state_dict(path: str | Path) -> dict[str, Any]:
    """A state dict from a file, nothing unpickled but tensors.

    Raises:
        CxrPairError: the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CxrPairError(f"{path}: there is no such weights file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for damaged or hostile files
        raise CxrPairError(f"{path}: not a weights file ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CxrPairError(f"{path}: not a plain state dict of tensors")
    return state
