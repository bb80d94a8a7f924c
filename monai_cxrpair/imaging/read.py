"""How does a file become an array? One reader, no fall-back: what cannot be read is an error that names the file."""

from __future__ import annotations

import math
import struct
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort.dicom.archives import open_file
from monai_cxrpair.cohort.dicom.rules import MAX_PIXELS
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.codestream import claimed_shape
from monai_cxrpair.imaging.dicom import PixelInfo, read_dicom, scale_by_percentiles

PICTURE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # JPEG, PNG


def read_radiograph(path: str | PathLike[str]) -> npt.NDArray[np.float32]:
    """Read a radiograph from DICOM, JPEG, PNG or 2-D NIfTI, told apart by content, not by name.

    Args:
        path: the file; a file in an archive (`export.zip/DICOM/IM1`, as the cohort has it); or a folder that holds
            exactly one file, which is how MONAI Label hands over a series.

    Returns:
        float32 (1, H, W) in [0, 1], rows first, bone bright and air dark, the same for every encoding.

    Raises:
        CxrPairError: one line naming the file and what is wrong with it.
    """
    return read_radiograph_with_info(path)[0]


def read_radiograph_with_info(path: str | PathLike[str]) -> tuple[npt.NDArray[np.float32], PixelInfo]:
    """As `read_radiograph`, with what was done to the pixels (scaling, polarity)."""
    file = _the_file(Path(path))
    try:
        with open_file(file) as stream:
            head = stream.read(8)
            stream.seek(0)
            if head.startswith(PICTURE_MAGIC):
                return _read_picture(stream.read(), file)
            if not file.name.endswith((".nii", ".nii.gz")):
                return read_dicom(stream, name=str(file))
    except OSError as error:
        raise CxrPairError(f"{file}: cannot be opened ({error.strerror or error})") from error
    return _read_nifti(file)


def _the_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(p for p in path.iterdir() if p.is_file())
    if len(files) != 1:
        raise CxrPairError(f"{path}: a folder with {len(files)} files, name one radiograph")
    return files[0]


def _read_picture(content: bytes, path: Path) -> tuple[npt.NDArray[np.float32], PixelInfo]:
    rows, columns = _claimed_shape(content)
    if rows * columns > MAX_PIXELS:  # the decoder would make room for them
        raise CxrPairError(f"{path}: the picture claims {rows} x {columns} pixels, no radiograph has so many")
    # imdecode, since imread cannot open non-ASCII names on every platform. Colour becomes luminance; 16 bits stay.
    try:
        pixels = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise CxrPairError(f"{path}: the picture cannot be decoded ({error.err})") from error
    if pixels is None:
        raise CxrPairError(f"{path}: the picture is damaged")
    return _scale_without_voi(pixels)


def _claimed_shape(content: bytes) -> tuple[int, int]:
    """Rows and columns from the head of a picture; 0 where it has none, which the decoder will not bear either."""
    if content.startswith(PICTURE_MAGIC[0]):
        return claimed_shape(content) or (0, 0)
    columns, rows = struct.unpack_from(">2I", content, 16) if len(content) >= 24 else (0, 0)
    return rows, columns


def _read_nifti(path: Path) -> tuple[npt.NDArray[np.float32], PixelInfo]:
    try:
        image = nibabel.load(path)
        if not 0 < math.prod(image.shape) <= MAX_PIXELS:
            raise CxrPairError(f"{path}: {image.shape} is no radiograph")
        pixels = np.squeeze(np.asanyarray(image.dataobj))
    except CxrPairError:
        raise
    except Exception as error:  # nibabel, fed foreign bytes, may raise anything
        raise CxrPairError(f"{path}: the NIfTI file cannot be read ({error})") from error
    if pixels.ndim != 2:
        raise CxrPairError(f"{path}: a NIfTI image of shape {image.shape}, a radiograph has two dimensions")
    if pixels.dtype.kind not in "iuf" or not np.isfinite(pixels).all():
        raise CxrPairError(f"{path}: a NIfTI image of type {pixels.dtype} that is not all finite numbers")
    # NIfTI stores x (columns) first. The affine of a projection image is invented by whoever wrote it: not used.
    return _scale_without_voi(pixels.T)


def _scale_without_voi(pixels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], PixelInfo]:
    """8 bits over 0..255, deeper data by percentiles: the same rule as for DICOM without a VOI."""
    if pixels.dtype == np.uint8:
        return (pixels[None] / np.float32(255.0)).astype(np.float32), PixelInfo(scaling="8 bit", inverted=False)
    scaled, scaling = scale_by_percentiles(pixels)
    return scaled[None].astype(np.float32), PixelInfo(scaling=scaling, inverted=False)
