"""A DICOM chest radiograph as an array: modality LUT -> VOI LUT -> presentation (PS3.4 N.2).

The stages, and what takes precedence in each:

    stored pixels   decoded by pydicom and its plug-ins
    modality        Modality LUT Sequence, else Rescale Slope and Intercept, else nothing
    VOI             VOI LUT Sequence, else Window Center and Width (item 0 of each), else none:
                    8 bits stored are scaled by 0..255, deeper data by the 1st to 99th percentile
    presentation    inverted if Presentation LUT Shape is INVERSE, or if it is absent and the
                    Photometric Interpretation is MONOCHROME1
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut
from pydicom.uid import ImplicitVRLittleEndian

from monai_cxrpair.cohort.dicom_rules import MAX_PIXELS
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.voi import apply_voi_lut, apply_window

Scaling = Literal["voi lut", "window", "8 bit", "percentile", "range", "constant"]


@dataclass(frozen=True, kw_only=True)
class PixelInfo:
    """What the chain did: how values were scaled to [0, 1], and whether the polarity was turned."""

    scaling: Scaling
    inverted: bool


def read_dicom(path: Path) -> tuple[npt.NDArray[np.float32], PixelInfo]:
    """Read one DICOM radiograph.

    Args:
        path: any DICOM file, with or without preamble and file meta information.

    Returns:
        float32 (1, H, W) in [0, 1], rows first, bone bright and air dark; and what was done.

    Raises:
        CxrPairError: one line naming the file and what is wrong with it.
    """
    try:
        dataset = _read_dataset(path)
        _check_header(dataset, path)
        stored = dataset.pixel_array
        if stored.ndim != 2:
            raise CxrPairError(f"{path}: pixels of shape {stored.shape}, a radiograph has rows and columns only")
        return to_radiograph(stored, dataset)
    except CxrPairError as error:
        raise error if str(path) in str(error) else CxrPairError(f"{path}: {error}") from error
    # What pydicom and its decoders are known to raise on damaged files, and on encodings nobody can decode.
    except (InvalidDicomError, OSError, RecursionError, ValueError, AttributeError, RuntimeError, TypeError, KeyError,
            NotImplementedError, EOFError, MemoryError) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200]
        raise CxrPairError(f"{path}: the pixels cannot be read ({type(error).__name__}: {reason})") from error


def to_radiograph(stored: npt.NDArray[Any], dataset: Any) -> tuple[npt.NDArray[np.float32], PixelInfo]:
    """The chain on decoded pixels; pure, the stages are in the module docstring.

    Args:
        stored: decoded pixels (H, W).
        dataset: the pydicom Dataset they belong to.

    Returns:
        float32 (1, H, W) in [0, 1], and what was done.
    """
    values = np.asarray(apply_modality_lut(stored, dataset), dtype=np.float64)
    scaled, scaling = _apply_voi(values, dataset)
    shape = str(dataset.get("PresentationLUTShape", "") or "")
    inverted = shape == "INVERSE" if shape else dataset.PhotometricInterpretation == "MONOCHROME1"
    if inverted:
        scaled = 1.0 - scaled
    return scaled[None].astype(np.float32), PixelInfo(scaling=scaling, inverted=inverted)


def _apply_voi(values: npt.NDArray[np.float64], dataset: Any) -> tuple[npt.NDArray[np.float64], Scaling]:
    if dataset.get("VOILUTSequence"):
        return apply_voi_lut(values, dataset.VOILUTSequence[0]), "voi lut"
    center, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if center is not None and width is not None:
        function = str(dataset.get("VOILUTFunction") or "LINEAR")
        return apply_window(values, center=center, width=width, function=function), "window"
    if int(dataset.get("BitsStored", 16)) == 8:
        return np.clip(values / 255.0, 0.0, 1.0), "8 bit"
    return scale_by_percentiles(values)


def scale_by_percentiles(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], Scaling]:
    """Scale the 1st to 99th percentile to [0, 1], for deeper data without a VOI.

    Where the two percentiles are equal the whole range is taken; a constant image becomes 0.
    """
    scaling: Scaling = "percentile"
    low, high = np.percentile(values, [1, 99])
    if high <= low:
        scaling, low, high = "range", float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape, dtype=np.float64), "constant"
    return np.clip((values.astype(np.float64) - low) / (high - low), 0.0, 1.0), scaling


def _read_dataset(path: Path) -> Any:
    try:
        dataset = dcmread(path)
    except InvalidDicomError:
        # ACR-NEMA style files have neither preamble nor file meta; `_check_header` refuses what is no radiograph.
        dataset = dcmread(path, force=True)
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def _check_header(dataset: Any, path: Path) -> None:
    for name in ("SOPClassUID", "Rows", "Columns", "PixelData", "PhotometricInterpretation"):
        if name not in dataset:
            raise CxrPairError(f"{path}: not a DICOM radiograph, {name} is missing")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if not 0 < rows * columns <= MAX_PIXELS:
        raise CxrPairError(f"{path}: the header claims {rows} x {columns} pixels, more than any chest detector has")
    if not str(dataset.PhotometricInterpretation).startswith("MONOCHROME"):
        raise CxrPairError(f"{path}: {dataset.PhotometricInterpretation} is not a grey-scale image")


def _first(value: Any) -> float | None:
    """The first of one or several numbers; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, (list, tuple)) or hasattr(value, "__iter__"):
        values = list(value)
        return float(values[0]) if values else None
    return float(value)
