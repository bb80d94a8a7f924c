"""Where a classifier sees its finding: Grad-CAM, to be laid over the radiograph."""

from __future__ import annotations

import copy
import threading

import cv2
import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.class_maps import ClassMaps, enlarged, raised, scaled

OPACITY = 0.7  # of the highest value


class HeatMaps:
    """Places that raise the logit of a classifier, each radiograph's highest place as 1. Threads may ask at once.

    Args:
        network: normalised views (B, 1, S, S) -> logits (B, 1). It is copied at the first question, so its hooks, its
            gradients and its mode stay as they are.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network, self._maps = network, None  # type: nn.Module, ClassMaps | None
        self._lock = threading.Lock()  # the hooks of a copy would hear the other threads' radiographs

    def __call__(self, views: Tensor) -> NDArray[np.float32]:
        """Maps of a batch.

        Args:
            views: (B, 1, S, S) normalised, on the network's device.

        Returns:
            (B, S, S) in [0, 1]; all 0 where no place raises the logit.

        Raises:
            ClassMapError: the network has no layer that it can be made at, or gradients do not come back to it.
        """
        if hasattr(views, "as_tensor"):  # MONAI's meta data, which Grad-CAM's hooks cannot carry
            views = views.as_tensor()
        with self._lock:
            if self._maps is None:
                spare: nn.Module = copy.deepcopy(self._network).eval()
                # Grad-CAM by MONAI takes no other memory order than the usual one.
                spare.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # not in the stubs
                self._maps = ClassMaps(spare, views[:1])
            return scaled(enlarged(raised(self._maps(views)), views.shape[-1]))


def overlay(grey: NDArray[np.float32], field: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A radiograph below its heat map; the lower a value, the more shines through.

    Viridis: even in lightness, and told apart by colour-blind readers.

    Args:
        grey: (H, W) in [0, 1].
        field: (H, W) in [0, 1].

    Returns:
        (H, W, 3) RGB.
    """
    colours = matplotlib.colormaps["viridis"](field)[..., :3]  # (H, W, 3) in [0, 1]
    opacity = OPACITY * np.clip(field, 0, 1)[..., None]
    mixed = (1 - opacity) * np.clip(grey, 0, 1)[..., None] + opacity * colours
    return np.asarray(np.rint(255 * mixed), dtype=np.uint8)


def as_png(picture: NDArray[np.uint8]) -> bytes:
    """(H, W, 3) RGB as the bytes of a PNG file."""
    made, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    if not made:
        raise CxrPairError("the heat map cannot be written as PNG")
    return bytes(data.tobytes())
