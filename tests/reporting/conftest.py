"""A radiograph of a hospital that keeps few of DICOM's rules, and answers about it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from monai_cxrpair.reporting import Algorithm, Answer, read_source

ROWS, COLUMNS = 96, 160


@pytest.fixture
def radiograph(tmp_path: Path) -> Callable[..., Path]:
    """Write a radiograph, 8 bits; None as a value leaves an attribute out."""

    def write(uid: str = "1.2.3.4", **attributes: Any) -> Path:
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        values = {
            "SOPClassUID": DigitalXRayImageStorageForPresentation,
            "SOPInstanceUID": uid,
            "SeriesInstanceUID": "1.2.3",
            "StudyInstanceUID": "1.2",
            "PatientName": "Fairholm^Dorothea",
            "PatientID": "0042",
            "PatientBirthDate": "19520603",
            "PatientSex": "F",
            "AccessionNumber": "A7",
            "StudyID": "S1",
            "StudyDate": "20240105",
            "StudyTime": "101500",
            "StudyDescription": "XR CHEST",
            "Modality": "DX",
            "PatientOrientation": ["L", "F"],
            "Rows": ROWS,
            "Columns": COLUMNS,
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 8,
            "BitsStored": 8,
            "HighBit": 7,
            "PixelRepresentation": 0,
            "PixelData": np.tile(np.arange(COLUMNS, dtype=np.uint8), (ROWS, 1)).tobytes(),
        }
        for keyword, value in (values | attributes).items():
            if value is not None:
                setattr(image, keyword, value)
        path = tmp_path / "export" / f"{uid}.dcm"
        path.parent.mkdir(exist_ok=True)
        image.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def answer(radiograph: Callable[..., Path]) -> Callable[..., Answer]:
    """An answer about a radiograph."""

    def make(uid: str = "1.2.3.4", *, probability: float = 0.73, remark: str = "", **attributes: Any) -> Answer:
        source = read_source(radiograph(uid, **attributes))
        assert source is not None
        return Answer(source=source, probability=probability, remark=remark)

    return make


@pytest.fixture
def algorithm() -> Algorithm:
    return Algorithm(finding="pleural_effusion", model_hash="ab" * 32, threshold=0.54, rule="youden")
