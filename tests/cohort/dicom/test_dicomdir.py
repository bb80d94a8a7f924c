import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.errors import CxrPairError

MakeDicom = Callable[..., Path]


def _dicomdir(path: Path, *file_ids: list[str]) -> Path:
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    records = [Dataset()]
    records[0].DirectoryRecordType = "PATIENT"
    for file_id in file_ids:
        record = Dataset()
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", file_id
        records.append(record)
    directory.DirectoryRecordSequence = records
    directory.save_as(path, enforce_file_format=True)
    return path


def test_a_dicomdir_names_the_files_that_are_indexed(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("dicom/im1", SOPInstanceUID="1.1")
    make_dicom("dicom/unlisted", SOPInstanceUID="1.2")
    source = _dicomdir(tmp_path / "pacs" / "DICOMDIR", ["DICOM", "IM1"], ["DICOM", "GONE"], ["..", "EVIL"])
    result = index_source(source, out=tmp_path / "c.parquet", keep_identifiers=True)
    assert result.cohort.table["path"].tolist() == ["dicom/im1"], "names are compared without regard to case"
    reasons = dict(zip(result.rejects["path"], result.rejects["reason"], strict=True))
    assert reasons == {"DICOM/GONE": "missing file", "../EVIL": "unsafe path"}
    assert result.files_seen == 3


def test_a_changed_dicomdir_is_read_again(make_dicom: MakeDicom, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_dicom(name, SOPInstanceUID=f"1.{ord(name)}")
    source = _dicomdir(tmp_path / "pacs" / "DICOMDIR", ["A"])
    assert len(index_source(source, out=tmp_path / "c.parquet").cohort) == 1
    _dicomdir(source, ["A"], ["B"])
    assert len(index_source(source, out=tmp_path / "c.parquet").cohort) == 2


def test_a_file_that_was_missing_and_has_come_is_noticed(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("a", SOPInstanceUID="1.1")
    source = _dicomdir(tmp_path / "pacs" / "DICOMDIR", ["A"], ["B"])
    for path in (*source.parent.iterdir(), source.parent):
        os.utime(path, (1_600_000_000.5, 1_600_000_000.5))
    assert index_source(source, out=tmp_path / "c.parquet").summary["rejected"] == {"missing file": 1}
    assert index_source(source, out=tmp_path / "c.parquet").unchanged
    make_dicom("b", SOPInstanceUID="1.2")
    assert len(index_source(source, out=tmp_path / "c.parquet").cohort) == 2


def test_a_damaged_dicomdir_says_what_to_do(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("a")
    source = _dicomdir(tmp_path / "pacs" / "DICOMDIR", ["A"])
    source.write_bytes(source.read_bytes()[:250])
    with pytest.raises(CxrPairError, match="give its folder instead"):
        index_source(source, out=tmp_path / "c.parquet")


@pytest.mark.data
@pytest.mark.parametrize("name", ["DICOMDIR", "DICOMDIR-bigEnd", "DICOMDIR-implicit", "DICOMDIR-nopatient"])
def test_the_real_dicomdirs_name_31_files_of_which_three_are_there(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    """The three show the neck, so nothing is kept."""
    with pytest.raises(CxrPairError, match=r"31 files were left out \(missing file 28, other body part 3\)"):
        index_source(shared_data / "dicom" / "dicomdir_tree" / name, out=tmp_path / "c.parquet")
