"""The same views as `apply_views` makes, on an accelerator: the loader sends sources and what was drawn for them.

Equal to the views of the CPU within 2 of 255 grey levels, noise apart, whose random numbers differ. That needs an
OpenCV that resamples at exact positions, as 5.0 does; older ones round them to 1/32 pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.augment import Augmentation
from monai_cxrpair.imaging.augment_monai import MonaiAugmentation
from monai_cxrpair.imaging.augment_views import Image, ViewParams, blur_radius, output_to_input

ViewsOn = Literal["auto", "cpu", "device"]
PARTS = ("source", "matrix", "table", "blur", "noise", "noise_seed")


def views_on_device(
    views_on: str, *, device: torch.device | str, augmentation: Augmentation | MonaiAugmentation
) -> bool:
    """Whether views are made on the training device.

    Args:
        views_on: `cpu`, `device`, or `auto`: on the device if it is CUDA. On a CPU, OpenCV is several times faster.
        device: that trains.
        augmentation: of the views; MONAI's transforms run on the CPU only.

    Raises:
        CxrPairError: another word, or `device` for MONAI's transforms.
    """
    if views_on not in get_args(ViewsOn):
        raise CxrPairError(f"views_on is {views_on!r}: use auto, cpu or device")
    ours = isinstance(augmentation, Augmentation)
    if views_on == "device" and not ours:
        raise CxrPairError("views_on is 'device', but the transforms of augmentation run on the CPU: use auto or cpu")
    return ours and (views_on == "device" or (views_on == "auto" and torch.device(device).type == "cuda"))


def pack_sources(images: Sequence[Image], params: ViewParams, *, size: int) -> dict[str, npt.NDArray[Any]]:
    """What the device needs for N views, so that nothing is left to compute but pixels.

    Returns:
        `source` uint8 (N, 1, H, W), the part of each image that its view shows, in the upper left of black; `matrix`
        float32 (N, 2, 3), from pixel centres of the view to those of the source; where drawn: `table` uint8 (N, 256),
        `blur` float32 (N, 2R + 1), the kernels, `noise` float32 (N,) in grey levels and `noise_seed` int64 (N,).
    """
    shapes = np.array([image.shape for image in images])
    matrix = output_to_input(shapes, params, size)
    first, end = _shown(matrix, shapes, size)
    source = np.zeros((len(images), 1, *(end - first).max(axis=0)), dtype=np.uint8)
    for padded, image, (top, left), (bottom, right) in zip(source[:, 0], images, first, end, strict=True):
        padded[: bottom - top, : right - left] = image[top:bottom, left:right]
    matrix[:, :, 2] -= first[:, ::-1]
    packed = {"source": source, "matrix": matrix.astype(np.float32)}
    if params.table is not None:
        packed["table"] = params.table
    if params.blur is not None:
        packed["blur"] = _kernels(params.blur)
    if params.noise is not None and params.noise_seed is not None:
        packed["noise"], packed["noise_seed"] = params.noise.astype(np.float32), params.noise_seed
    return packed


def make_views(batch: Mapping[str, Tensor], *, size: int) -> dict[str, Tensor]:
    """Replace the sources of a batch by its views.

    Args:
        batch: of a `PairCacheDataset(views_on="device")`, on any device: the parts of `pack_sources` for the queries
            (`query_source` (B, ...) and so on) and the keys (`key_source` (B, K, ...)). A batch of views is given back.
        size: of the square views, in pixels.

    Returns:
        The batch with `query` uint8 (B, 1, S, S) and `key` uint8 (B, K, 1, S, S) in place of them.
    """
    made = dict(batch)
    if "query_source" in batch:
        packed = {part: made.pop(f"query_{part}") for part in PARTS if f"query_{part}" in batch}
        made["query"] = views_of(**packed, size=size)
        packed = {part: made.pop(f"key_{part}").flatten(0, 1) for part in PARTS if f"key_{part}" in batch}
        made["key"] = views_of(**packed, size=size).unflatten(0, batch["key_source"].shape[:2])
    return made


@torch.no_grad()
def views_of(
    source: Tensor,
    matrix: Tensor,
    table: Tensor | None = None,
    blur: Tensor | None = None,
    noise: Tensor | None = None,
    noise_seed: Tensor | None = None,
    *,
    size: int,
) -> Tensor:
    """The views uint8 (N, 1, size, size) of packed sources; the arguments are those of `pack_sources`."""
    black = source.new_zeros(len(source), 1, 1, 1, dtype=torch.float32)
    if table is not None:
        rows = torch.arange(len(source), device=source.device)[:, None, None, None]
        source, black = table[rows, source.long()], table[:, :1, None, None].float()
    views = F.grid_sample(source.float() - black, _grid(matrix, source, size), align_corners=False)  # zeros outside
    views = (views + black).round()
    if blur is not None:
        views = _blurred(views, blur).round()
    if noise is not None and noise_seed is not None:
        # One stream for the batch: it belongs to the batch's seed, as all its draws do.
        generator = torch.Generator(source.device).manual_seed(int(noise_seed[0]))
        normal = torch.randn(views.shape, generator=generator, device=source.device)
        views = (views + noise[:, None, None, None] * normal).round()
    return views.clamp(0, 255).to(torch.uint8)


def _shown(
    matrix: npt.NDArray[np.float64], shapes: npt.NDArray[np.int64], size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First row and column (N, 2) of the part of each image that its view shows, and those after its last.

    So one very long radiograph does not pad the whole batch to its length.
    """
    corners = np.array([[0, size - 1, 0, size - 1], [0, 0, size - 1, size - 1], [1, 1, 1, 1]])
    places = np.floor(matrix @ corners).astype(np.int64)[:, ::-1]  # (N, 2, 4), y before x as in shapes
    first = places.min(axis=2).clip(0, shapes - 1)
    return first, (places.max(axis=2) + 2).clip(first + 1, shapes)  # bilinear: the next pixel as well


def _grid(matrix: Tensor, source: Tensor, size: int) -> Tensor:
    """Where in the source, as grid_sample counts (the edges at -1 and 1), each pixel of the view lies: (N, S, S, 2)."""
    steps = torch.arange(size, device=source.device, dtype=torch.float32)
    # (N, 1, 1, 2) each, times (1, S) for x and (S, 1) for y
    along_x, along_y, moved = (column[:, None, None, :] for column in matrix.unbind(-1))
    places = along_x * steps[None, :, None] + along_y * steps[:, None, None] + moved
    sides = torch.tensor([source.shape[-1], source.shape[-2]], device=source.device)
    return (2 * places + 1) / sides - 1


def _kernels(sigma: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The blur's kernels, zeros to the length of the longest on both sides."""
    radius = blur_radius(sigma.max(initial=0.0))
    kernels = np.zeros((len(sigma), 2 * radius + 1), dtype=np.float32)
    kernels[:, radius] = 1.0
    for i in np.flatnonzero(sigma):
        own = blur_radius(sigma[i])
        kernels[i, radius - own : radius + own + 1] = cv2.getGaussianKernel(2 * own + 1, sigma[i])[:, 0]
    return kernels


def _blurred(views: Tensor, kernels: Tensor) -> Tensor:
    n, taps = kernels.shape
    radius, size = taps // 2, views.shape[-1]
    # Mirrored at the edge, which is not repeated; by index, for a radius may exceed a small view.
    period = 2 * (size - 1)
    index = torch.arange(-radius, size + radius, device=views.device).remainder(period)
    index = torch.minimum(index, period - index)
    padded = views[:, 0][:, index][:, :, index][None]  # (1, N, S + 2R, S + 2R)
    across = F.conv2d(padded, kernels.reshape(n, 1, 1, taps), groups=n)
    return F.conv2d(across, kernels.reshape(n, 1, taps, 1), groups=n)[0][:, None]  # (N, 1, S, S)
