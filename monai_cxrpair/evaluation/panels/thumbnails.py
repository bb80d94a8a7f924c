"""Radiographs as the small square pictures that a page can hold."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.errors import CxrPairError

JPEG_QUALITY = 85  # below it, ringing around ribs and letters is seen


def thumbnail(radiograph: NDArray[np.floating], size: int) -> NDArray[np.uint8]:
    """The whole radiograph in a square, black beside it where it is none.

    Args:
        radiograph: (1, H, W) in [0, 1].
        size: side of the square in pixels.

    Returns:
        uint8 (size, size).
    """
    image = np.asarray(radiograph, dtype=np.float32)[0]
    scale = size / max(image.shape)
    height, width = (max(1, round(length * scale)) for length in image.shape)
    # Averaging does not alias where the radiograph shrinks; where it grows, it would leave blocks.
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shrunk = cv2.resize(image, (width, height), interpolation=method)
    square = np.zeros((size, size), dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = np.rint(np.clip(shrunk, 0, 1) * 255)
    return square


def write_picture(picture: NDArray[np.uint8], path: Path) -> Path:
    """Write a grey (h, w) or a coloured (h, w, 3) picture, red first; the same pixels give the same bytes.

    Args:
        picture: of the pixels.
        path: its ending, `.jpg` or `.png`, says in which format.

    Raises:
        CxrPairError: it cannot be written.
    """
    ordered = picture if picture.ndim == 2 else np.ascontiguousarray(picture[..., ::-1])
    made, data = cv2.imencode(path.suffix, ordered, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not made:
        raise CxrPairError(f"{path}: a picture of shape {picture.shape} cannot be written")
    with atomic_path(path, mode=None) as temporary:
        temporary.write_bytes(data.tobytes())
    return path
