"""A radiograph beside itself below a map, and what the colours mean."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.evaluation.panels.thumbnails import thumbnail, write_picture

SIDE = 224


def scaled(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps (B, h, w), each to its own highest value, 1; an empty map stays 0."""
    highest = maps.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0))


def side_by_side(radiograph: NDArray[np.float32], field: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(SIDE, 2 SIDE + 4, 3): the radiograph, and beside it the same below its map."""
    grey = thumbnail(radiograph, SIDE)
    large = cv2.resize(scaled(field[None])[0], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    plain = np.repeat(grey[..., None], 3, axis=2)
    gap = np.full((SIDE, 4, 3), 255, dtype=np.uint8)
    return np.concatenate([plain, gap, _overlay(grey, large)], axis=1)


def _overlay(grey: NDArray[np.uint8], field: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Viridis, even in lightness and told apart by colour-blind readers; the lower a value, the more shines through."""
    colours = matplotlib.colormaps["viridis"](field)[..., :3]  # (h, w, 3) in [0, 1]
    opacity = 0.7 * np.clip(field, 0, 1)[..., None]
    mixed = (1 - opacity) * (grey[..., None] / 255.0) + opacity * colours
    return np.asarray(np.rint(255 * mixed), dtype=np.uint8)


def write_scale(path: Path) -> Path:
    """What the colours mean, on middle grey, from 0 to the highest value."""
    ramp = np.tile(np.linspace(0, 1, 240, dtype=np.float32), (12, 1))
    picture = _overlay(np.full(ramp.shape, 110, dtype=np.uint8), ramp)
    return write_picture(picture, path)
