"""Settings of a training config that depend on something else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import nn

from monai_cxrpair.contrast.encoders import build_encoder, feature_dim, load_weights
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.queue_size import queue_size

__all__ = ["input_statistics", "make_encoder", "queue_size"]


def make_encoder(
    encoder: str | Mapping[str, Any],
    *,
    in_channels: int = 1,
    image_size: int = 224,
    imagenet_weights: str | None = None,
) -> nn.Module:
    """An encoder by name or definition (see `build_encoder`), with the weights of a file where one is given.

    Raises:
        CxrPairError: it cannot be made, the weights do not fit, or it takes no radiographs of this size.
    """
    network = build_encoder(encoder, in_channels=in_channels, image_size=image_size)
    feature_dim(network, image_size=image_size)
    if imagenet_weights:
        load_weights(network, imagenet_weights)
    return network


class _HasPixels(Protocol):
    def pixel_statistics(self) -> tuple[float, float]: ...


def input_statistics(normalisation: str | Sequence[float], dataset: _HasPixels) -> tuple[float, float]:
    """Mean and standard deviation that views in [0, 1] are normalised with.

    Args:
        normalisation: `auto`, or the two numbers.
        dataset: whose pixels are measured for `auto`.

    Raises:
        CxrPairError: neither, or numbers that pixels in [0, 1] cannot have.
    """
    if normalisation == "auto":
        return dataset.pixel_statistics()
    numbers = list(normalisation) if isinstance(normalisation, (list, tuple)) else []
    if any(isinstance(n, bool) or not isinstance(n, (int, float)) or not math.isfinite(n) for n in numbers):
        numbers = []
    if len(numbers) != 2 or not (0 <= numbers[0] <= 1 and 0 < numbers[1] <= 1):
        raise CxrPairError(
            f"normalisation is {normalisation!r}: use auto, or [mean, standard deviation] of pixels in [0, 1], the "
            "second above 0"
        )
    return float(numbers[0]), float(numbers[1])
