"""A radiograph beside itself below a map, and what the colours mean."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.evaluation.class_maps import scaled
from monai_cxrpair.evaluation.heat_map import overlay
from monai_cxrpair.evaluation.panels.thumbnails import thumbnail, write_picture

SIDE = 224


def side_by_side(radiograph: NDArray[np.float32], field: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(SIDE, 2 SIDE + 4, 3): the radiograph, and beside it the same below its map."""
    grey = thumbnail(radiograph, SIDE)
    large = cv2.resize(scaled(field[None])[0], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    plain = np.repeat(grey[..., None], 3, axis=2)
    gap = np.full((SIDE, 4, 3), 255, dtype=np.uint8)
    return np.concatenate([plain, gap, overlay((grey / 255).astype(np.float32), large)], axis=1)


def write_scale(path: Path) -> Path:
    """What the colours mean, on middle grey, from 0 to the highest value."""
    ramp = np.tile(np.linspace(0, 1, 240, dtype=np.float32), (12, 1))
    picture = overlay(np.full_like(ramp, 110 / 255), ramp)
    return write_picture(picture, path)
