"""One view of each radiograph, from parameters drawn beforehand: on a CPU, by OpenCV.

In this order: grey values through one table, one resampling (flip, rotation, crop), blur, noise. Everything is 8-bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from monai_cxrpair.errors import CxrPairError

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ViewParams:
    """What was drawn for N views; arrays of shape (N,) unless said otherwise. None: not for any view.

    `angle` in degrees, `flip` yes or no, `shift_x` and `shift_y` in [0, 1] of the crop's free play, `area` in (0, 1],
    `aspect` width by height of the crop, `table` (N, 256) the new grey value of each, `blur` the Gaussian's standard
    deviation in pixels, `noise` the noise's in grey levels, `noise_seed` of its random numbers.
    """

    angle: Floats
    flip: npt.NDArray[np.bool_]
    shift_x: Floats
    shift_y: Floats
    area: Floats
    aspect: Floats | None = None
    table: Image | None = None
    blur: Floats | None = None
    noise: Floats | None = None
    noise_seed: npt.NDArray[np.int64] | None = None


def apply_views(images: Sequence[Image], params: ViewParams, *, size: int) -> Image:
    """Make one view of each image; `augment_device.make_views` does the same on an accelerator.

    Args:
        images: N arrays uint8 (h, w), the shorter side no longer than `size`; sizes may differ.
        params: of the N views.
        size: of the square view, in pixels.

    Returns:
        uint8 (N, 1, size, size); what lies outside the radiograph is as black as black has become.

    Raises:
        CxrPairError: an image that would have to be shrunk, which this resampling would alias.
    """
    out = np.empty((len(images), 1, size, size), dtype=np.uint8)
    matrices = output_to_input(np.array([image.shape for image in images]).reshape(-1, 2), params, size)
    for i, image in enumerate(images):
        view, black = out[i, 0], 0
        if params.table is not None:
            image, black = cv2.LUT(image, params.table[i]), int(params.table[i, 0])
        cv2.warpAffine(
            image, matrices[i], (size, size), dst=view, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT, borderValue=black,
        )  # fmt: skip
        if params.blur is not None and params.blur[i] > 0:
            sigma, taps = params.blur[i], 2 * blur_radius(params.blur[i]) + 1
            # In floating point: in 8 bits OpenCV rounds the kernel, is less exact and no faster.
            view[:] = np.rint(cv2.GaussianBlur(view.astype(np.float32), (taps, taps), sigma))
        if params.noise is not None and params.noise_seed is not None and params.noise[i] > 0:
            normal = np.random.default_rng(params.noise_seed[i]).standard_normal(view.shape, dtype=np.float32)
            view[:] = np.rint(view + float(params.noise[i]) * normal).clip(0, 255)
    return out


def output_to_input(shapes: npt.NDArray[np.int64], params: ViewParams, size: int) -> Floats:
    """The matrices (N, 2, 3) from a view's pixel centres (x, y, 1) to those of its image; shapes (N, 2) are (h, w).

    Raises:
        CxrPairError: an image whose shorter side is longer than `size`.
    """
    height, width = shapes.T.astype(np.float64)  # (N,) each, as all that follows
    shorter = np.minimum(height, width)
    if len(shapes) and shorter.max() > size:
        raise CxrPairError(
            f"a radiograph of {shorter.max():.0f} pixels at the shorter side does not suit views of {size}: "
            f"end train#preprocessing with ResizeShorterSided of size {size}"
        )
    crop_width = crop_height = shorter * np.sqrt(params.area)
    if params.aspect is not None:
        crop_width, crop_height = crop_width * np.sqrt(params.aspect), crop_height / np.sqrt(params.aspect)
        fitting = np.minimum(1.0, np.minimum(width / crop_width, height / crop_height))
        crop_width, crop_height = crop_width * fitting, crop_height * fitting
    zoom_x, zoom_y = crop_width / size, crop_height / size
    # From the crop's first pixel centre to the image's centre, before the rotation about the latter.
    middle = (size - 1) / 2
    offset_x = (params.shift_x - 0.5) * (width - crop_width) - zoom_x * middle
    offset_y = (params.shift_y - 0.5) * (height - crop_height) - zoom_y * middle
    cos, sin = np.cos(np.deg2rad(params.angle)), np.sin(np.deg2rad(params.angle))
    mirror = np.where(params.flip, -1.0, 1.0)  # rotate, then flip
    x_from_x, x_from_y, y_from_x, y_from_y = cos * mirror, -sin * mirror, sin, cos
    move_x = x_from_x * offset_x + x_from_y * offset_y + (width - 1) / 2
    move_y = y_from_x * offset_x + y_from_y * offset_y + (height - 1) / 2
    rows = [[x_from_x * zoom_x, x_from_y * zoom_y, move_x], [y_from_x * zoom_x, y_from_y * zoom_y, move_y]]
    return np.ascontiguousarray(np.array(rows).transpose(2, 0, 1))


def blur_radius(sigma: float) -> int:
    """Of the blur's kernel in pixels: three standard deviations hold 99.7 %."""
    return math.ceil(3 * sigma)
