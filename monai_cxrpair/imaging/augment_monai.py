"""MONAI's random dictionary transforms as augmentation: any of them, one view at a time, and slow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, Randomizable

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.augment import Augmentation
from monai_cxrpair.imaging.augment_views import Image

logger = logging.getLogger(__name__)

MAX_OUTSIDE = 0.1  # noise on black leaves [0, 1] by less on average (an SD of 0.1: by 0.04); normalised views by more


def make_augmentation(settings: Mapping[str, Any] | Callable[..., Any]) -> Augmentation | MonaiAugmentation:
    """What the `augmentation` section of a config stands for: our settings, or a transform made by `_target_`.

    Raises:
        CxrPairError: neither, or a setting out of range.
    """
    if isinstance(settings, Mapping):
        return Augmentation.from_config(settings)
    return MonaiAugmentation(settings)


class MonaiAugmentation:
    """Makes views as `Augmentation` does, by transforms of `{"image": float (1, h, w) in [0, 1]}`.

    Every view has a seed from the batch's generator, and the transforms are seeded with it, so that views depend
    neither on the process that makes them nor on the views before.

    Args:
        transform: a MONAI `Compose`, or another randomizable transform.

    Raises:
        CxrPairError: something else.
    """

    def __init__(self, transform: Any) -> None:
        if not callable(transform) or not isinstance(transform, Randomizable):
            raise CxrPairError(
                f"augmentation is {transform!r}: use settings such as rotate_degrees, or _target_: Compose with "
                "random transforms of MONAI"
            )
        parts = transform.flatten().transforms if isinstance(transform, Compose) else (transform,)
        if not any(isinstance(part, Randomizable) for part in parts):
            logger.warning("augmentation has no random transform: all views of a radiograph are the same")
        self.transform = transform

    def views(self, images: Sequence[Image], rng: np.random.Generator, *, size: int) -> Image:
        """One view of each image (h, w), rounded to 8 bits: uint8 (N, 1, size, size).

        Raises:
            CxrPairError: a view of another shape, with values that are not finite, or far outside [0, 1].
        """
        seeds = rng.integers(0, 2**32, len(images), dtype=np.uint32)
        return np.stack([self._view(image, int(seed), size) for image, seed in zip(images, seeds, strict=True)])

    def _view(self, image: Image, seed: int, size: int) -> Image:
        self.transform.set_random_state(seed=seed)
        pixels = torch.from_numpy(image.astype(np.float32)[None] / 255.0)
        view = np.asarray(self.transform({"image": pixels})["image"], dtype=np.float32)
        if view.shape != (1, size, size):
            raise CxrPairError(
                f"augmentation gives views of shape {view.shape}, not (1, {size}, {size}): end it with "
                f"RandSpatialCropd of roi_size [{size}, {size}]"
            )
        inside = view.clip(0.0, 1.0)
        if not np.abs(view - inside).mean() <= MAX_OUTSIDE:  # not finite is not less either
            raise CxrPairError(
                f"augmentation gives values from {view.min():.3g} to {view.max():.3g}: views of image_size {size} must "
                "be finite and in [0, 1], normalising comes later"
            )
        return np.rint(255.0 * inside).astype(np.uint8)
