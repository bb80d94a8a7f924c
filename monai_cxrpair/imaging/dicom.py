r"""A DICOM chest radiograph as an array: modality LUT -> VOI LUT -> presentation (PS3.4 N.2) -> standard display.

The stages, and what takes precedence in each:

    stored pixels   decoded by pydicom and its plug-ins
    modality        Modality LUT Sequence, else Rescale Slope and Intercept, else nothing
    VOI             VOI LUT Sequence, else Window Center and Width (item 0 of each), else none:
                    8 bits stored are scaled by 0..255, deeper data by the 1st to 99th percentile
    presentation    inverted if Presentation LUT Shape is INVERSE, or if it is absent and the
                    Photometric Interpretation is MONOCHROME1
    orientation     flips that Patient Orientation declares are undone
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut, get_decoder
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSTransferSyntaxes

from monai_cxrpair.cohort.dicom.file import MAX_SECONDS
from monai_cxrpair.cohort.dicom.guard import time_limit
from monai_cxrpair.cohort.dicom.rules import MAX_PIXELS
from monai_cxrpair.cohort.dicom.whole import whole_file
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.codestream import claimed_shape, has_end, is_jpeg_ls
from monai_cxrpair.imaging.collimation import Field, declared_field
from monai_cxrpair.imaging.orientation import AS_STORED, apply_turn, turn_for
from monai_cxrpair.imaging.voi import apply_voi_lut, apply_window

Scaling = Literal["voi lut", "window", "8 bit", "percentile", "range", "constant"]
RUST_PANIC = "PanicException"  # what a decoder written in Rust raises for its own mistakes; no Exception
_BLOCK = 64  # rows: numpy makes 8-byte indices of what it looks up, for a block instead of the image


@dataclass(frozen=True, kw_only=True)
class PixelInfo:
    r"""What the chain did.

    Attributes:
        scaling: How values were scaled to [0, 1].
        inverted: Was the polarity turned?
        orientation: `as stored`, or from which declared orientation to which: `R\F to L\F`.
        declared_field: What the collimator left open as the header says, in pixels of the array; None if it does not.
    """

    scaling: Scaling
    inverted: bool
    orientation: str = AS_STORED
    declared_field: Field | None = None


def read_dicom(source: Path | BinaryIO, *, name: str = "") -> tuple[npt.NDArray[np.float32], PixelInfo]:
    """Read one DICOM radiograph.

    Args:
        source: any DICOM file, with or without preamble and file meta information: its path, or the file open for
            reading bytes (a member of an archive) at its start.
        name: what errors call it; the path if empty.

    Returns:
        float32 (1, H, W) in [0, 1], rows first, bone bright and air dark; and what was done.

    Raises:
        CxrPairError: one line naming the file and what is wrong with it.
    """
    name = name or str(source if isinstance(source, Path) else getattr(source, "name", "DICOM stream"))
    try:
        with time_limit(MAX_SECONDS):  # a few kilobytes may inflate to millions of elements
            dataset = _read_dataset(source)
        _check_header(dataset)
        _check_codestream(dataset)
        stored = _decoded(dataset)
        if stored.ndim != 2:
            raise CxrPairError(f"pixels of shape {stored.shape}, a radiograph has rows and columns only")
        return to_radiograph(stored, dataset)
    except CxrPairError as error:
        raise CxrPairError(f"{name}: {error}") from error
    except BaseException as error:  # a parser and decoders that are fed foreign bytes may raise anything
        if not isinstance(error, Exception) and type(error).__name__ != RUST_PANIC:
            raise
        reason = " ".join(str(error).split())[:200]
        raise CxrPairError(f"{name}: the pixels cannot be read ({type(error).__name__}: {reason})") from error


def to_radiograph(stored: npt.NDArray[Any], dataset: Any) -> tuple[npt.NDArray[np.float32], PixelInfo]:
    """The chain on decoded pixels; pure, the stages are in the module docstring.

    A stage maps a value wherever it stands, so the chain runs over the values that occur (at most 65,536 in 16 bits)
    and the pixels are looked up: the same numbers, several times faster.

    Args:
        stored: decoded pixels (H, W), integers.
        dataset: the pydicom Dataset they belong to.

    Returns:
        float32 (1, H, W) in [0, 1], and what was done.
    """
    levels, index = _levels(stored)
    values = np.asarray(apply_modality_lut(levels, dataset), dtype=np.float64)
    scaled, scaling = _apply_voi(values, index, dataset)
    if not np.isfinite(scaled).all():
        raise CxrPairError("its rescaling or window leaves values that are no numbers")
    shape = str(dataset.get("PresentationLUTShape", "") or "")
    inverted = shape == "INVERSE" if shape else dataset.PhotometricInterpretation == "MONOCHROME1"
    if inverted:
        scaled = 1.0 - scaled
    orientation = dataset.get("PatientOrientation") or ""
    turn = turn_for(orientation.split("\\") if isinstance(orientation, str) else orientation)
    field = declared_field(dataset, stored.shape)
    info = PixelInfo(
        scaling=scaling,
        inverted=inverted,
        orientation=turn.name,
        declared_field=field and field.turned(turn, stored.shape),
    )
    pixels = apply_turn(_look_up(scaled.astype(np.float32), index), turn)
    return np.ascontiguousarray(pixels)[None], info


def _levels(stored: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The stored values, ascending, and for each pixel the position of its value among them."""
    low, high = int(stored.min()), int(stored.max())
    if high - low > 0xFFFF:  # more than 16 bits
        levels, index = np.unique(stored, return_inverse=True)
        return levels.astype(np.int64), index.reshape(stored.shape)
    # Not in the pixels' own width: pydicom subtracts the first value mapped by a modality LUT, which would wrap around.
    levels = np.arange(low, high + 1, dtype=np.int64)
    # Wraps around in the pixels' own width, and comes out right as an unsigned number.
    index = stored if low == 0 else (stored - np.array(low, stored.dtype)).view(f"u{stored.dtype.itemsize}")
    return levels, index


def _look_up(table: npt.NDArray[Any], index: npt.NDArray[Any]) -> npt.NDArray[Any]:
    out = np.empty(index.shape, table.dtype)
    for row in range(0, len(index), _BLOCK):
        # No index is out of range; "clip" keeps numpy from buffering in order to look for one.
        np.take(table, index[row : row + _BLOCK], out=out[row : row + _BLOCK], mode="clip")
    return out


def _apply_voi(
    values: npt.NDArray[np.float64], index: npt.NDArray[Any], dataset: Any
) -> tuple[npt.NDArray[np.float64], Scaling]:
    if dataset.get("VOILUTSequence"):
        return apply_voi_lut(values, dataset.VOILUTSequence[0]), "voi lut"
    center, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if center is not None and width is not None:
        function = str(dataset.get("VOILUTFunction") or "LINEAR")
        return apply_window(values, center=center, width=width, function=function), "window"
    if int(dataset.get("BitsStored", 16)) == 8:
        return np.clip(values / 255.0, 0.0, 1.0), "8 bit"
    return scale_by_percentiles(values, occurring=_look_up(values, index))


def scale_by_percentiles(
    values: npt.NDArray[Any], *, occurring: npt.NDArray[Any] | None = None
) -> tuple[npt.NDArray[np.float64], Scaling]:
    """Scale the 1st to 99th percentile to [0, 1], for deeper data without a VOI.

    Where the two percentiles are equal the whole range is taken; a constant image becomes 0.

    Args:
        values: what to scale, any shape.
        occurring: all pixels, where `values` has each value only once; None for `values` themselves.
    """
    occurring = values if occurring is None else occurring
    scaling: Scaling = "percentile"
    low, high = np.percentile(occurring, [1, 99])
    if high <= low:
        scaling, low, high = "range", float(occurring.min()), float(occurring.max())
    if high <= low:
        return np.zeros(values.shape, dtype=np.float64), "constant"
    return np.clip((values.astype(np.float64) - low) / (high - low), 0.0, 1.0), scaling


def _read_dataset(source: Path | BinaryIO) -> Any:
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return _read_dataset(stream)
    file = whole_file(source)
    try:
        dataset = dcmread(file)
    except InvalidDicomError:
        # ACR-NEMA style files have neither preamble nor file meta; `_check_header` refuses what is no radiograph.
        file.seek(0)
        dataset = dcmread(file, force=True)
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def _check_header(dataset: Any) -> None:
    """Refuse what is no radiograph before its pixels are decoded: decoders ask for the memory the header claims."""
    for name in ("SOPClassUID", "Rows", "Columns", "PixelData", "PhotometricInterpretation"):
        if name not in dataset:
            raise CxrPairError(f"not a DICOM radiograph, {name} is missing")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if not 0 < rows * columns <= MAX_PIXELS:
        raise CxrPairError(f"the header claims {rows} x {columns} pixels, more than any chest detector has")
    if not str(dataset.PhotometricInterpretation).startswith("MONOCHROME"):
        raise CxrPairError(f"{dataset.PhotometricInterpretation} is not a grey-scale image")
    samples, frames = int(dataset.get("SamplesPerPixel") or 1), int(dataset.get("NumberOfFrames") or 1)
    if samples != 1 or frames != 1:
        raise CxrPairError(f"the header claims {frames} frames of {samples} samples, a radiograph has one of one")


def _check_codestream(dataset: Any) -> None:
    """Refuse compressed pixels of another size than the header's before a decoder makes room for them."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    stream = get_frame(dataset.PixelData, 0, number_of_frames=1)
    expected = dataset.file_meta.TransferSyntaxUID in JPEGLSTransferSyntaxes
    if expected or is_jpeg_ls(stream):
        # Decoders read on behind the end of one that is cut off, for seconds (CharLS) or a minute (libjpeg).
        if not has_end(stream):
            raise CxrPairError("the compressed picture is cut off, its end is missing")
        if not expected:
            raise CxrPairError("the header names another compression than the picture's, which is JPEG-LS")
    claimed = claimed_shape(stream)
    if claimed is not None and claimed != (dataset.Rows, dataset.Columns):
        raise CxrPairError(
            f"the header says {dataset.Rows} x {dataset.Columns} pixels, the compressed picture "
            f"{claimed[0]} x {claimed[1]}"
        )


def _decoded(dataset: Any) -> npt.NDArray[Any]:
    """Decode with pydicom's decoders, but never with gdcm: a damaged JPEG makes it abort the process.

    Where gdcm is installed pydicom prefers it; Pillow, asked first then, gives the same values (both are libjpeg).
    JPEG-LS is decoded by CharLS alone: pylibjpeg's libjpeg takes up to a minute for a damaged one of 6 kB.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    plugins = get_decoder(syntax).available_plugins
    others = [name for name in plugins if name != "gdcm"]
    if syntax in JPEGLSTransferSyntaxes:
        others = ["pyjpegls"]
    if others in ([], list(plugins)):
        return np.asarray(dataset.pixel_array)
    for name in others:
        dataset.pixel_array_options(decoding_plugin=name)
        try:
            return np.asarray(dataset.pixel_array)
        except Exception:  # the next one may bear what this one does not
            if name == others[-1]:
                raise
    raise AssertionError("the last decoder has returned or raised")


def _first(value: Any) -> float | None:
    """The first of one or several numbers; None where there is none."""
    if value is None or value == "":
        return None
    if isinstance(value, (list, tuple)) or hasattr(value, "__iter__"):
        values = list(value)
        return float(values[0]) if values else None
    return float(value)
