import gzip
from pathlib import Path

import pandas as pd
import pytest

from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.errors import CxrPairError

METADATA = """dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,\
StudyTime,AcquisitionDeviceProcessingDescription,ViewCodeSequence_CodeMeaning
02aa804e-bde0afdd,10000032,50414267,CHEST (PA AND LAT),PA,3056,2544,21800506,213014.531,,postero-anterior
174413ec-4ec4c1f7,10000032,50414267,CHEST (PA AND LAT),LATERAL,3056,2544,21800506,213014.531,,lateral
2a2277a9-b0ded155,10000032,53189527,CHEST (PORTABLE AP),,3056,2544,21800626,84501.5,"CHEST, PORTABLE",
e084de3b-be89b11e,10000764,57375967,CHEST (PA AND LAT),LAO,3056,2544,21321015,500,CHEST LAT,
68b5c4b1-227d0485,10000764,57375967,CHEST (PA AND LAT),,3056,2544,21321015,500,,left lateral
f0a1b2c3-00000000,10000898,50771383,CHEST (PA AND LAT),,3056,2544,21321016,,ABDOMEN,
"""
SPLIT = """dicom_id,study_id,subject_id,split
02aa804e-bde0afdd,50414267,10000032,train
174413ec-4ec4c1f7,50414267,10000032,validate
2a2277a9-b0ded155,53189527,10000032,test
"""
CHEXPERT = """subject_id,study_id,Atelectasis,Pleural Effusion,No Finding
10000032,50414267,,-1.0,
10000032,53189527,0.0,1.0,
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mimic-cxr-jpg"
    folder.mkdir()
    for name, text in (("metadata", METADATA), ("split", SPLIT), ("chexpert", CHEXPERT)):
        (folder / f"mimic-cxr-2.0.0-{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def test_the_folder_is_recognised_and_metadata_split_and_labels_come_together(folder: Path, tmp_path: Path) -> None:
    result = index_source(folder, out=tmp_path / "o.parquet")
    table = result.cohort.table.set_index("image_id")
    assert result.cohort.source == "mimic-cxr"
    assert table["patient_id"].tolist()[:2] == ["10000032", "10000032"]
    assert table["path"].iloc[0] == "p10/p10000032/s50414267/02aa804e-bde0afdd.jpg"
    assert table["published_split"].tolist() == ["train", "validation", "test", "", "", ""]
    effusion = table["pleural_effusion"]
    assert effusion.iloc[:3].tolist() == [-1, -1, 1]
    assert effusion.iloc[3:].isna().all()
    assert any("studies that are not in it: 2" in note for note in result.notes)


def test_the_official_view_map_and_what_decides_where_the_view_position_is_missing(
    folder: Path, tmp_path: Path
) -> None:
    table = index_source(folder / "mimic-cxr-2.0.0-metadata.csv.gz", out=tmp_path / "o.parquet").cohort.table
    assert table["laterality"].tolist() == ["frontal", "lateral", "frontal", "unknown", "lateral", "unknown"]
    assert table["view_position"].tolist() == ["PA", "LATERAL", "", "LAO", "", ""]
    assert table["laterality_evidence"].tolist() == [
        *("ViewPosition", "ViewPosition", "AcquisitionDeviceProcessingDescription", "ViewPosition"),
        *("ViewCodeSequence", ""),
    ]


def test_times_without_leading_zeros_are_read_and_rank_the_studies(folder: Path, tmp_path: Path) -> None:
    table = index_source(folder, out=tmp_path / "o.parquet").cohort.table
    assert table["study_datetime"].astype("str").tolist() == [
        *("2180-05-06 21:30:14", "2180-05-06 21:30:14", "2180-06-26 08:45:01"),
        *("2132-10-15 00:05:00", "2132-10-15 00:05:00", "2132-10-16 00:00:00"),
    ]
    assert table["study_order"].tolist() == [0, 0, 1, 0, 0, 0]


def test_the_folder_files_of_physionet_is_part_of_the_paths(folder: Path, tmp_path: Path) -> None:
    (folder / "files").mkdir()
    table = index_source(folder, out=tmp_path / "o.parquet").cohort.table
    assert table["path"].str.startswith("files/p10/").all()


def test_negbio_stands_in_and_without_labels_and_split_a_note_says_so(folder: Path, tmp_path: Path) -> None:
    (folder / "mimic-cxr-2.0.0-chexpert.csv.gz").rename(folder / "mimic-cxr-2.0.0-negbio.csv.gz")
    (folder / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    result = index_source(folder, out=tmp_path / "o.parquet")
    assert "published_split" not in result.cohort.table
    assert any("findings from mimic-cxr-2.0.0-negbio.csv.gz" in note for note in result.notes)
    (folder / "mimic-cxr-2.0.0-negbio.csv.gz").unlink()
    result = index_source(folder, out=tmp_path / "o.parquet")
    assert result.cohort.findings == []
    assert any("no chexpert or negbio file beside" in note for note in result.notes)


def test_a_folder_without_the_metadata_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CxrPairError, match=r"holds no mimic-cxr-\*-metadata.csv"):
        index_source(tmp_path / "empty", out=tmp_path / "o.parquet", file_format="mimic-cxr")


def test_an_observation_that_is_no_label_is_an_error_that_names_the_file(folder: Path, tmp_path: Path) -> None:
    pd.DataFrame({"study_id": ["50414267"], "Edema": ["2"]}).to_csv(
        folder / "mimic-cxr-2.0.0-chexpert.csv.gz", index=False
    )
    with pytest.raises(CxrPairError, match=r"'Edema', row 0 .*chexpert.csv.gz must be 1, 0, -1"):
        index_source(folder, out=tmp_path / "o.parquet")
