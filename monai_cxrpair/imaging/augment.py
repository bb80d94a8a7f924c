"""The random geometry T of a view, as one resampling: draw the parameters, then apply them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from monai_cxrpair.errors import CxrPairError

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class ViewParams:
    """What was drawn for N views; arrays of shape (N,).

    `angle` in degrees, `flip` yes or no, `shift_x` and `shift_y` in [0, 1] of the crop's free play, `area` in (0, 1].
    """

    angle: npt.NDArray[np.float64]
    flip: npt.NDArray[np.bool_]
    shift_x: npt.NDArray[np.float64]
    shift_y: npt.NDArray[np.float64]
    area: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Rotation, horizontal flip and a random square crop (paper section 3.1: +-10 degrees, p = 0.5).

    Args:
        rotate_degrees: the angle is uniform in +- this.
        flip_probability: of a left-right flip.
        crop_area: the crop's share of the largest square that fits, drawn uniformly from this range; the paper's
            "random crop" rows use [0.95, 1.0] (section 4.1).

    Raises:
        CxrPairError: a setting outside its range, by name.
    """

    rotate_degrees: float = 10.0
    flip_probability: float = 0.5
    crop_area: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if not 0 <= self.rotate_degrees <= 180:
            raise CxrPairError(f"augmentation#rotate_degrees is {self.rotate_degrees}: use 0 to 180")
        if not 0 <= self.flip_probability <= 1:
            raise CxrPairError(f"augmentation#flip_probability is {self.flip_probability}: use 0 to 1")
        if len(self.crop_area) != 2 or not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise CxrPairError(f"augmentation#crop_area is {list(self.crop_area)}: use [low, high] within 0 to 1")

    @classmethod
    def from_config(cls, settings: Mapping[str, Any]) -> Augmentation:
        """The `augmentation` section of a config; an unknown setting is an error by name."""
        known = [f.name for f in fields(cls)]
        for name in settings:
            if name not in known:
                raise CxrPairError(f"augmentation#{name} is unknown: there are {', '.join(known)}")
        values = dict(settings)
        if "crop_area" in values:
            values["crop_area"] = tuple(values["crop_area"])
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """The settings, for a card."""
        return asdict(self)

    def draw(self, n: int, rng: np.random.Generator) -> ViewParams:
        """Draw the parameters of n views, each independent of the others."""
        return ViewParams(
            angle=rng.uniform(-self.rotate_degrees, self.rotate_degrees, n),
            flip=rng.random(n) < self.flip_probability,
            shift_x=rng.random(n),
            shift_y=rng.random(n),
            area=rng.uniform(*self.crop_area, n),
        )


def apply_views(images: Sequence[Image], params: ViewParams, *, size: int) -> Image:
    """Resample each image once: flip, rotate about the centre, crop a square, all in one affine map.

    Args:
        images: N arrays uint8 (h, w) with shorter side at least 1; sizes may differ.
        params: of the N views.
        size: of the square view, in pixels.

    Returns:
        uint8 (N, 1, size, size); what lies outside the radiograph is black.
    """
    out = np.empty((len(images), 1, size, size), dtype=np.uint8)
    for i, image in enumerate(images):
        matrix = _output_to_input(image.shape, params, i, size)
        cv2.warpAffine(
            image, matrix, (size, size), dst=out[i, 0], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT, borderValue=0,
        )  # fmt: skip
    return out


def _output_to_input(shape: tuple[int, ...], params: ViewParams, i: int, size: int) -> npt.NDArray[np.float64]:
    """The 2 x 3 matrix from output pixel centres to input pixel centres."""
    height, width = shape
    side = min(height, width) * np.sqrt(params.area[i])
    zoom = side / size
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    # Centre of the crop, relative to the centre of the image.
    crop_x, crop_y = (params.shift_x[i] - 0.5) * (width - side), (params.shift_y[i] - 0.5) * (height - side)
    cos, sin = np.cos(np.deg2rad(params.angle[i])), np.sin(np.deg2rad(params.angle[i]))
    mirror = -1.0 if params.flip[i] else 1.0
    rotation = np.array([[cos * mirror, -sin * mirror], [sin, cos]])  # rotate, then flip
    middle = (size - 1) / 2
    offset = np.array([crop_x, crop_y]) - zoom * middle
    translation = rotation @ offset + np.array([center_x, center_y])
    return np.column_stack([rotation * zoom, translation])
