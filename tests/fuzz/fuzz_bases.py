"""The files that are mutated: made here, and beside them the real ones where the machine has them."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pydicom
from bases_tables import tables
from fuzz_base import SHARED, Base
from mutate_archives import pack_tar, pack_zip
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from monai_cxrpair.phantom import write_phantom

_LARGEST = 1 << 21  # bytes; of what is larger only the file of nested sequences is taken
_OFTEN = 200_000  # bytes; larger ones are taken ten times as rarely


def all_bases(*, shared: bool) -> list[Base]:
    """The files, in the same order every time.

    Args:
        shared: also the real ones, if there are any.
    """
    with tempfile.TemporaryDirectory() as folder:
        made = list(_made(Path(folder)))
    return made + (list(_real()) if shared and SHARED.is_dir() else [])


def _made(folder: Path) -> Iterator[Base]:
    write_phantom(folder / "phantom", patients=2, seed=5, file_format="dicom")
    phantoms = sorted((folder / "phantom").rglob("*.dcm"))[:3]
    dicoms = {path.name: path.read_bytes() for path in phantoms}
    dicoms |= {
        f"{name}.dcm": _encoded(phantoms[0], name) for name in ("implicit", "big", "deflated", "rle", "j2k", "jpeg")
    }
    dicoms["lut.dcm"] = _with_tables(phantoms[0])
    for name, data in dicoms.items():
        yield Base("dicom", name, data)
    ramp = (np.add.outer(np.arange(48), np.arange(40)) * 2).astype(np.uint8)
    for name, pixels in (
        ("grey.png", ramp),
        ("deep.png", ramp.astype(np.uint16) * 300),
        ("colour.png", np.dstack([ramp] * 3)),
    ):
        yield Base("picture", name, cv2.imencode(".png", pixels)[1].tobytes())
    for name, options in (("grey.jpg", []), ("progressive.jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])):
        yield Base("picture", name, cv2.imencode(".jpg", ramp, options)[1].tobytes())
    plain = nibabel.Nifti1Image(ramp.astype(np.int16), np.eye(4)).to_bytes()
    yield Base("nifti", "plain.nii", plain)
    yield Base("nifti", "float.nii", nibabel.Nifti1Image(ramp.astype(np.float32), np.eye(4)).to_bytes())
    yield Base("nifti.gz", "packed.nii.gz", gzip.compress(plain, mtime=0))
    files = [(f"DICOM/{name}", data) for name, data in list(dicoms.items())[2:6]]
    files.append(("DICOM/readme.txt", b"an export"))
    yield Base("zip", "export.zip", pack_zip(files))
    yield Base("tar", "export.tar", pack_tar(files))
    yield Base("tar.gz", "export.tar.gz", gzip.compress(pack_tar(files), mtime=0))
    yield from tables(folder)


def _encoded(path: Path, form: str) -> bytes:
    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array[::2, ::2].copy()
    dataset.Rows, dataset.Columns = pixels.shape
    options: dict[str, Any] = {}
    if form == "jpeg":
        eight = (pixels >> 4).astype(np.uint8)
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelData = pydicom.encaps.encapsulate([cv2.imencode(".jpg", eight)[1].tobytes()])
        dataset["PixelData"].VR, dataset.file_meta.TransferSyntaxUID = "OB", JPEGBaseline8Bit
    elif form in ("rle", "j2k"):
        dataset.PixelData = pixels.tobytes()
        dataset.compress(
            {"rle": RLELossless, "j2k": JPEG2000Lossless}[form],
            encoding_plugin="pylibjpeg",
            generate_instance_uid=False,
        )
    else:
        dataset.PixelData = (pixels.byteswap() if form == "big" else pixels).tobytes()
        syntaxes = {
            "implicit": ImplicitVRLittleEndian,
            "big": ExplicitVRBigEndian,
            "deflated": DeflatedExplicitVRLittleEndian,
        }
        dataset.file_meta.TransferSyntaxUID = syntaxes[form]
        options = {"implicit_vr": form == "implicit", "little_endian": form != "big"}
    out = io.BytesIO()
    if options:
        pydicom.dcmwrite(out, dataset, enforce_file_format=True, force_encoding=False, **options)
    else:
        pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def _with_tables(path: Path) -> bytes:
    """With look-up tables, a collimator and codes."""
    dataset = pydicom.dcmread(path)
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        item = Dataset()
        item.LUTDescriptor, item.ModalityLUTType = [4096, 0, 16], "US"
        item.LUTData = np.arange(0, 65536, 16, dtype="<u2").tobytes()
        item["LUTData"].VR = "OW"
        setattr(dataset, keyword, pydicom.Sequence([item]))
        for name in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
            dataset.pop(name, None)
    dataset.CollimatorShape = "RECTANGULAR"
    dataset.CollimatorLeftVerticalEdge, dataset.CollimatorRightVerticalEdge = 5, 130
    dataset.CollimatorUpperHorizontalEdge, dataset.CollimatorLowerHorizontalEdge = 5, 150
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _real() -> Iterator[Base]:
    """The real files; they are read where they lie and never kept."""
    for path in sorted((SHARED / "dicom").rglob("*")):
        if not path.is_file() or path.suffix in (".csv", ".zip"):
            continue
        size, deep = path.stat().st_size, "Deeply-Nested" in path.name
        if size <= _LARGEST or deep:
            weight = 0.02 if deep else 1.0 if size <= _OFTEN else 0.1
            yield Base("dicom", path.name, path.read_bytes(), weight)
    for name in ("nih_64px_1000", "covid_cxr"):
        for path in sorted((SHARED / name / "images").iterdir())[:8]:
            yield Base("picture", path.name, path.read_bytes())
    yield Base("table", "real_nih_64.csv", _first_lines(SHARED / "nih_64px_1000" / "index.csv"))
    yield Base("table", "real_covid.csv", _first_lines(SHARED / "covid_cxr" / "index.csv"))
    yield Base("table", "real_splits.csv", _first_lines(SHARED / "metadata" / "medaug_splits" / "valid.csv"))


def _first_lines(path: Path) -> bytes:
    with path.open("rb") as file:
        return b"".join(file.readline() for _ in range(40))
