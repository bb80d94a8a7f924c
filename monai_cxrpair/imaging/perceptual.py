"""A perceptual hash: the same for one picture in several sizes, encodings and contrasts, another for another chest.

All frontal chest radiographs look alike, so the usual 64 bits (signs of the 8 x 8 lowest DCT coefficients) are as near
for strangers as for copies. Here are 24 x 24: what a copy keeps and a stranger does not are ribs, markers and lines.
`cohort.split.near_duplicates` says how many bits may differ and what that was measured on.
"""

import cv2
import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort.split.near_duplicates import WORDS
from monai_cxrpair.errors import CxrPairError

_SIZE = 64  # pixels a side: the smallest pictures in use (NIH at 64 px) still hold 24 cosines
_KEPT = int(np.sqrt(64 * WORDS))  # 24 coefficients a side
_COARSE = 8  # a side: the first 64 bits
_FLAT = 2.0 / 255  # a picture with less contrast at 64 px shows nothing that could be compared


def perceptual_hash(pixels: npt.NDArray[np.float32]) -> str:
    """Hash a radiograph by what it shows.

    Args:
        pixels: float32 (1, H, W) in [0, 1] as `read_radiograph` gives them, so bone is bright in all encodings.

    Returns:
        144 hexadecimal digits: the signs of the DCT coefficients of the picture at 64 x 64, the 8 x 8 lowest
        frequencies first, then the others of the 24 x 24 lowest row by row. Empty for a blank picture: all blank
        pictures would be the same.

    Raises:
        CxrPairError: The array has another shape.
    """
    if pixels.ndim != 3 or pixels.shape[0] != 1 or not pixels.size:
        raise CxrPairError(f"a radiograph to hash must be (1, H, W), got {pixels.shape}")
    small = cv2.resize(np.asarray(pixels[0], dtype=np.float32), (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
    if np.ptp(small) < _FLAT:
        return ""
    positive = cv2.dct(small - small.mean())[:_KEPT, :_KEPT] > 0
    positive[0, 0] = False  # the mean, which is 0 but for rounding
    is_coarse = np.zeros_like(positive)
    is_coarse[:_COARSE, :_COARSE] = True
    return np.packbits(np.concatenate([positive[is_coarse], positive[~is_coarse]])).tobytes().hex()
