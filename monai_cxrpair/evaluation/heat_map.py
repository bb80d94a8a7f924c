"""Where a classifier looks: Grad-CAM (Selvaraju et al. 2017) by MONAI, scaled to be laid over the radiograph."""

from __future__ import annotations

import copy
import warnings
from collections import Counter

import cv2
import matplotlib
import numpy as np
import torch
from monai.visualize import GradCAM
from monai.visualize.visualizer import default_upsampler
from numpy.typing import NDArray
from torch import Tensor, nn

from monai_cxrpair.errors import CxrPairError

OPACITY = 0.7  # of the highest value


def heat_map(network: nn.Module, batch: Tensor, layer: str | None = None) -> NDArray[np.float32]:
    """Places that raise the logit of a classifier, each radiograph's highest place as 1.

    Args:
        network: normalised views (B, 1, S, S) -> logits (B, 1). It is copied, so its hooks, its gradients and its
            mode stay as they are.
        batch: (B, 1, S, S) normalised, on the network's device.
        layer: name of the layer whose features are weighed; None: `last_picture_layer`.

    Returns:
        (B, S, S) in [0, 1]; all 0 where no place raises the logit.

    Raises:
        CxrPairError: the network has no such layer, or gradients do not come back to it.
    """
    if layer is None:
        layer = last_picture_layer(network, batch[:1])
    elif layer not in dict(network.named_modules()):
        raise CxrPairError(f"Grad-CAM: the network has no layer {layer!r}")
    # The hooks of MONAI's Grad-CAM stay for ever, and it takes no other memory order than the usual one.
    spare: nn.Module = copy.deepcopy(network).eval()
    spare.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # not in the stubs
    try:
        # Inference runs under no_grad; here, and only here, gradients are wanted.
        with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the kind of its hooks
            given = _plain(batch).detach().clone(memory_format=torch.contiguous_format).requires_grad_()
            maps: Tensor = GradCAM(spare, layer).compute_map(given, class_idx=0)  # (B, 1, h, w) at least 0
    except (RuntimeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CxrPairError(f"Grad-CAM: gradients do not come back to {layer} ({reason})") from error
    large = default_upsampler(batch.shape[-2:])(maps.detach().float())[:, 0].cpu().numpy()
    highest = large.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(large, highest, out=np.zeros_like(large), where=highest > 0), dtype=np.float32)


def last_picture_layer(network: nn.Module, view: Tensor) -> str:
    """The last layer that still knows where things are: its output is (B, C, h, h), and no tokens are made of it.

    Args:
        network: in eval mode.
        view: (1, 1, S, S).

    Raises:
        CxrPairError: there is none.
    """
    finished: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor):
            finished.append((name, tuple(output.shape)))

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, module in network.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            network(_plain(view))
    finally:
        for handle in handles:
            handle.remove()
    times = Counter(name for name, _ in finished)
    for name, shape in reversed(finished):
        if len(shape) == 3:  # a transformer's tokens (B, N, C)
            break
        # A layer that is called twice, such as a ReLU that a block shares, has two outputs under one name.
        if len(shape) == 4 and shape[2] == shape[3] > 1 and times[name] == 1:
            return name
    raise CxrPairError(
        "Grad-CAM: the encoder has no layer close to its features whose output is a picture of features; it needs a "
        "convolutional network (resnet, densenet, convnext)"
    )


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


def _plain(batch: Tensor) -> Tensor:
    """Without MONAI's meta data, which Grad-CAM's hooks cannot carry."""
    return batch.as_tensor() if hasattr(batch, "as_tensor") else batch
