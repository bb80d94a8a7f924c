"""Settings of a training config that depend on something else."""

from __future__ import annotations

from torch import nn

from monai_cxrpair.contrast.encoders import build_encoder, load_weights
from monai_cxrpair.pairing.queue_size import queue_size

__all__ = ["make_encoder", "queue_size"]


def make_encoder(name: str, *, imagenet_weights: str | None = None) -> nn.Module:
    """An encoder by name, with ImageNet weights where a file is given."""
    network = build_encoder(name)
    if imagenet_weights:
        load_weights(network, imagenet_weights)
    return network
