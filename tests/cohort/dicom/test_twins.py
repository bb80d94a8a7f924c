from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from monai_cxrpair.cohort.index import index_source

MakeDicom = Callable[..., Path]
RAW = {"PresentationIntentType": "FOR PROCESSING"}
RAW_CLASS = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}
SHOWN = {"PresentationIntentType": "FOR PRESENTATION"}


def _source(uid: str) -> list[Dataset]:
    item = Dataset()
    item.ReferencedSOPInstanceUID = uid
    return [item]


@pytest.mark.parametrize(
    ("raw", "shown", "left_out"),
    [
        (RAW, SHOWN, True),
        (RAW, {}, True),
        (RAW_CLASS, SHOWN, True),
        (RAW | {"AcquisitionTime": "101530.2"}, SHOWN | {"AcquisitionTime": "101530.9"}, True),
        (RAW | {"AcquisitionTime": "101530"}, SHOWN | {"AcquisitionTime": "101745"}, False),
        (RAW | {"ViewPosition": "LL"}, SHOWN, False),
        (RAW, SHOWN | {"StudyInstanceUID": "1.9"}, False),
        (RAW | {"ViewPosition": ""}, SHOWN | {"SourceImageSequence": _source("1.1")}, True),
        (RAW, RAW, False),
    ],
)
def test_a_raw_image_is_left_out_where_there_is_one_for_presentation(
    make_dicom: MakeDicom, tmp_path: Path, raw: dict[str, Any], shown: dict[str, Any], left_out: bool
) -> None:
    make_dicom("raw", SOPInstanceUID="1.1", **raw)
    make_dicom("shown", SOPInstanceUID="1.2", **shown)
    result = index_source(tmp_path / "pacs", out=tmp_path / "c.parquet")
    assert result.summary["rejected"] == ({"for processing": 1} if left_out else {})
    noted = any("FOR PROCESSING that have no twin" in note for note in result.notes)
    assert noted == (not left_out)


def test_text_that_is_burned_in_is_left_out_unless_allowed(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("1", SOPInstanceUID="1.1", BurnedInAnnotation="YES")
    make_dicom("2", SOPInstanceUID="1.2", BurnedInAnnotation="NO")
    result = index_source(tmp_path / "pacs", out=tmp_path / "c.parquet")
    assert result.summary["rejected"] == {"burned-in annotation": 1}
    allowed = index_source(tmp_path / "pacs", out=tmp_path / "c.parquet", allow_burned_in=True)
    assert len(allowed.cohort) == 2
