"""Settings of a training config that depend on something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from monai_cxrpair.contrast.encoders import build_encoder, load_weights
from monai_cxrpair.errors import CxrPairError

# Beyond this, more negatives bought MoCo almost nothing on ImageNet (EqCo), and same-patient keys pile up.
LARGEST_AUTO_QUEUE = 16_384


def queue_size(setting: int | str, *, radiographs: int, batch_size: int) -> int:
    """K: a number as it is, or `auto`, a quarter of the radiographs in whole batches.

    A longer queue would hold the same radiograph from an earlier epoch as its own negative too often.

    Raises:
        CxrPairError: neither a positive number nor `auto`.
    """
    if setting == "auto":
        batches = min(radiographs // 4, LARGEST_AUTO_QUEUE) // batch_size
        return max(1, batches) * batch_size
    if isinstance(setting, bool) or not isinstance(setting, int) or setting < 1:
        raise CxrPairError(f"queue_size is {setting!r}: use a number of keys, or auto")
    return setting


def make_encoder(name: str, *, imagenet_weights: str | None = None) -> nn.Module:
    """An encoder by name, with ImageNet weights where a file is given."""
    network = build_encoder(name)
    if imagenet_weights:
        load_weights(network, imagenet_weights)
    return network


def ignored_keys(negatives: Mapping[str, Any]) -> Any:
    """The `negatives` section of a config: which keys of the queue are neither attracted nor repelled.

    Raises:
        CxrPairError: an unknown setting, by name.
    """
    unknown = set(negatives) - {"ignore"}
    if unknown:
        raise CxrPairError(f"negatives#{unknown.pop()} is unknown: there is ignore")
    return negatives.get("ignore", "patient")
