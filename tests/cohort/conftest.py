"""Small DICOM files and cohorts to test on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from monai_cxrpair.cohort import Cohort

DX = "1.2.840.10008.5.1.4.1.1.1.1"


def radiograph(**changes: Any) -> Dataset:
    """A data set of a small chest radiograph; a change to None removes the element."""
    dataset = Dataset()
    values: dict[str, Any] = {
        "SOPClassUID": DX,
        "SOPInstanceUID": pydicom.uid.generate_uid(),
        "Modality": "DX",
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "PatientSex": "F",
        "PatientAge": "045Y",
        "StudyInstanceUID": "1.2.3",
        "StudyDate": "20200131",
        "StudyTime": "101530",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "Rows": 8,
        "Columns": 6,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": np.zeros((8, 6), dtype=np.uint8).tobytes(),
        **changes,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def save(dataset: Dataset, path: Path, *, jpeg: bytes | None = None) -> Path:
    """Write a data set as a DICOM file; with `jpeg` as one fragment of its pixels."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"  # pydicom demands one, also where the test has none
    if jpeg is not None:
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([jpeg])
        dataset["PixelData"].VR = "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def make_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Write a radiograph into the folder `tmp_path/pacs`."""

    def make(name: str, *, jpeg: bytes | None = None, **changes: Any) -> Path:
        return save(radiograph(**changes), tmp_path / "pacs" / name, jpeg=jpeg)

    return make


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two patients, three studies, four radiographs."""
    return pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "d"],
            "patient_id": ["007", "007", "007", "8"],
            "study_id": ["s10", "s10", "s2", "t"],
            "laterality": ["frontal", "lateral", "frontal", "unknown"],
            "path": ["a.png", "b.png", "c.png", "d.png"],
            "pleural_effusion": [1, 0, -1, None],
        }
    )


@pytest.fixture
def cohort(rows: pd.DataFrame, tmp_path: Path) -> Cohort:
    """The cohort of `rows`."""
    return Cohort(rows, root=tmp_path, findings=["pleural_effusion"], source="table")
