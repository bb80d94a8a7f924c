"""Where a network looks: Grad-CAM (Selvaraju et al. 2017) by MONAI, and the same network with random weights."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import torch
from monai.visualize import GradCAM
from monai.visualize.visualizer import default_upsampler
from numpy.typing import NDArray
from torch import Tensor, nn

from monai_cxrpair.errors import CxrPairError


class ClassMapError(CxrPairError):
    """Grad-CAM cannot be made of this network."""


class _SignedGradCAM(GradCAM):
    """Grad-CAM before its ReLU."""

    def compute_map(
        self, x: Tensor, class_idx: int = 0, retain_graph: bool = False, layer_idx: int = -1, **kwargs: Any
    ) -> Tensor:
        """(B, 1, h, w): the features, each by what the logit gains from it."""
        _, features, gradients = self.nn_module(x, class_idx=class_idx, retain_graph=retain_graph, **kwargs)
        weights = gradients[layer_idx].mean(dim=(2, 3), keepdim=True)
        signed: Tensor = (weights * features[layer_idx]).sum(1, keepdim=True)
        return signed


class ClassMaps:
    """Grad-CAM of a classifier with one logit, at the last layer that still knows where things are.

    Args:
        network: in eval mode and the caller's to spare: its hooks and its `requires_grad` are changed.
        view: (1, 1, S, S) a normalised view, to find the layer with.

    Attributes:
        layer: its name.
        size: height and width of its maps.

    Raises:
        ClassMapError: the network has no such layer.
    """

    def __init__(self, network: nn.Module, view: Tensor) -> None:
        self._network = network
        started, finished = _trace(network, view)
        self.layer, self.size = _last_map(finished)
        self._from_picture = not _let_gradients_reach(network, self.layer, started)
        self._cam = _SignedGradCAM(network, self.layer)

    def __call__(self, views: Tensor) -> NDArray[np.float32]:
        """Places that raise the logit, above 0, and that lower it, below.

        Grad-CAM shows the former only (its ReLU). To compare maps all are needed: of random weights, often no place
        raises the logit.

        Args:
            views: (B, 1, S, S) normalised.

        Returns:
            (B, h, w) in the logit's own unit.

        Raises:
            ClassMapError: gradients do not come through the network.
        """
        try:
            # An evaluation may run under no_grad; here, and only here, gradients are wanted.
            with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on hooks whose inputs need no gradient: so it is meant
                given = views.detach().clone(memory_format=torch.contiguous_format).requires_grad_(self._from_picture)
                maps: Tensor = self._cam.compute_map(given, class_idx=0)
        except (RuntimeError, IndexError) as error:
            raise ClassMapError(f"Grad-CAM: gradients do not come back to {self.layer}") from error
        self._network.zero_grad(set_to_none=True)
        return maps[:, 0].detach().float().cpu().numpy()


def enlarged(maps: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(B, h, w) -> (B, size, size), as MONAI shows them."""
    large: Tensor = default_upsampler((size, size))(torch.from_numpy(maps)[:, None])
    return large[:, 0].numpy()


def scaled(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps (B, h, w), each to its own highest value, 1; an empty map stays 0."""
    highest = maps.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0))


def raised(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """What Grad-CAM shows: the places that raise the logit."""
    return np.maximum(maps, 0)


def randomise(module: nn.Module, *, seed: int) -> None:
    """Give a module on the CPU new weights in place, leaving the process's own random numbers alone.

    Each part gets what it begins with; parameters of parts that cannot be begun anew are shuffled.

    Args:
        module: an encoder or a layer of it.
        seed: another one, other weights.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for part in module.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
                continue
            for parameter in part.parameters(recurse=False):
                shuffled = parameter.flatten()[torch.randperm(parameter.numel())]
                parameter.copy_(shuffled.view_as(parameter))


def _trace(network: nn.Module, view: Tensor) -> tuple[list[str], list[tuple[str, tuple[int, ...]]]]:
    """The modules in the order in which they start, and in which they end, with the shapes of what they give."""
    started: list[str] = []
    finished: list[tuple[str, tuple[int, ...]]] = []
    handles = []
    for name, module in network.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: started.append(name)))
            handles.append(
                module.register_forward_hook(
                    lambda _, __, output, name=name: (
                        finished.append((name, tuple(output.shape))) if isinstance(output, Tensor) else None
                    )
                )
            )
    try:
        with torch.no_grad():
            network(view)
    finally:
        for handle in handles:
            handle.remove()
    return started, finished


def _last_map(finished: list[tuple[str, tuple[int, ...]]]) -> tuple[str, tuple[int, int]]:
    """The last layer whose output is a picture of features, (B, C, h, h), unless tokens are made of it afterwards."""
    times = Counter(name for name, _ in finished)
    for place in reversed(range(len(finished))):
        name, shape = finished[place]
        if len(shape) == 3:
            raise ClassMapError(
                "the encoder is a transformer or the like: it makes tokens (B, N, C) of the picture, and Grad-CAM "
                "needs a convolutional layer close to the features (resnet, densenet, convnext)"
            )
        # A layer that is called twice, such as a ReLU that a block shares, has two outputs under one name.
        if len(shape) == 4 and shape[2] == shape[3] > 1 and times[name] == 1:
            return name, (shape[2], shape[3])
    raise ClassMapError(
        "the encoder has no layer whose output is a picture of features: Grad-CAM needs a convolutional network"
    )


def _let_gradients_reach(network: nn.Module, layer: str, started: list[str]) -> bool:
    """Gradients no further back than needed: they cost two thirds of the time of a pass through the whole network.

    Returns:
        Whether weights before the layer want gradients; else the picture itself must.
    """
    place = started.index(layer)
    before = [name for name in started[:place] if _own_parameters(network, name)]
    network.requires_grad_(False)
    for name in {*before[-1:], *started[place:]}:
        for parameter in _own_parameters(network, name):
            parameter.requires_grad_(True)
    return bool(before)


def _own_parameters(network: nn.Module, name: str) -> list[nn.Parameter]:
    return list(network.get_submodule(name).parameters(recurse=False))
