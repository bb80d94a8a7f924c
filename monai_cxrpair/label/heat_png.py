"""A heat map as a picture that a page lays over the radiograph."""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt

from monai_cxrpair.evaluation.heat_map import OPACITY


def heat_png(heat: npt.NDArray[np.float32], *, height: int, width: int) -> bytes:
    """The heat map of the centred square, in the place where it is in the whole radiograph.

    Args:
        heat: (S, S) in [0, 1].
        height: of the radiograph at that scale, at least S.
        width: of the same, at least S.

    Returns:
        PNG, RGBA (height, width): clear where the classifier sees nothing, and outside of the square.
    """
    size = len(heat)
    top, left = height // 2 - size // 2, width // 2 - size // 2
    picture = np.zeros((height, width, 4), dtype=np.uint8)
    square = picture[top : top + size, left : left + size]
    square[..., :3] = np.rint(255 * matplotlib.colormaps["viridis"](heat)[..., 2::-1])  # BGR, as OpenCV writes
    square[..., 3] = np.rint(255 * OPACITY * heat)
    done, png = cv2.imencode(".png", picture)
    assert done
    return bytes(png.tobytes())
