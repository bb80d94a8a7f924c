"""Can the pixels be decoded, and what do they show? The check of one file that `index --check-pixels` makes.

Needs neither torch nor MONAI: the worker processes of the index step call it.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from os import PathLike

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort.dicom.guard import quiet_pydicom
from monai_cxrpair.imaging.collimation import find_exposed_field
from monai_cxrpair.imaging.perceptual import perceptual_hash
from monai_cxrpair.imaging.read import read_radiograph_with_info


@dataclass(frozen=True, kw_only=True)
class PixelCheck:
    """What the pixels of one file say; the fields are columns of the cohort.

    Attributes:
        pixel_hash: The same for the same image in another lossless encoding or polarity (`pixel_hash`).
        perceptual_hash: Nearly the same for nearly the same image (`perceptual_hash`).
        scaling: How the values became [0, 1] (`PixelInfo.scaling`).
        exposed_fraction: The share of the image that was exposed: what is found between the borders, within what the
            header declares; 1 without borders.
    """

    pixel_hash: str
    perceptual_hash: str
    scaling: str
    exposed_fraction: float


def check_pixels(path: str | PathLike[str]) -> PixelCheck:
    """Decode one file and describe its pixels.

    Args:
        path: DICOM, JPEG, PNG or 2-D NIfTI.

    Raises:
        CxrPairError: the pixels cannot be decoded; one line naming the file and what is wrong with it. A header that
            claims more pixels than any detector has is refused before any memory is asked for.
    """
    with quiet_pydicom():
        pixels, info = read_radiograph_with_info(path)
    field = find_exposed_field(pixels)
    if info.declared_field:
        field = field.within(info.declared_field) or field
    return PixelCheck(
        pixel_hash=pixel_hash(pixels),
        perceptual_hash=perceptual_hash(pixels),
        scaling=info.scaling,
        exposed_fraction=field.fraction(pixels.shape),
    )


def pixel_columns(path: str | PathLike[str]) -> dict[str, str | float]:
    """`check_pixels` as columns of the cohort, ready to be handed to the index step's processes."""
    return asdict(check_pixels(path))


def pixel_hash(pixels: npt.NDArray[np.float32]) -> str:
    """SHA-256 of the shape and of the pixels rounded to 8 bits.

    The same image in another lossless encoding or polarity reaches [0, 1] by other sums, in float64, whose last bits
    differ. The reader rounds them to float32 once: values of up to 16 bits lie too far from the middle between two
    float32 numbers for that to come out differently (1/q is at least 2^-41 from it, float64 is wrong by 2^-53). So the
    numbers here are equal, ties of the rounding to 8 bits included.

    Args:
        pixels: float32 (1, H, W) in [0, 1].

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.rint(pixels * np.float32(255)).astype(np.uint8))
    return digest.hexdigest()
