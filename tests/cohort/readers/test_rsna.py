from pathlib import Path

import pytest

from monai_cxrpair.cohort.index import IndexResult, index_source
from monai_cxrpair.errors import CxrPairError

LABELS = """patientId,x,y,width,height,Target
0004cfab,,,,,0
00313ee0,,,,,0
00322d4d,,,,,0
00436515,264.0,152.0,213.0,379.0,1
00436515,562.0,152.0,256.0,453.0,1
"""
CLASSES = """patientId,class
0004cfab,No Lung Opacity / Not Normal
00313ee0,No Lung Opacity / Not Normal
00322d4d,Normal
00436515,Lung Opacity
00436515,Lung Opacity
"""
HEADERS = """,BodyPartExamined,ConversionType,Filename,Modality,PatientAge,PatientID,PatientSex,ViewPosition
0,CHEST,WSD,00436515.dcm,CR,43,00436515,F,AP
1,CHEST,WSD,0004cfab.dcm,CR,148,0004cfab,M,PA
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "rsna"
    folder.mkdir()
    (folder / "stage_2_train_labels.csv").write_text(LABELS)
    (folder / "stage_2_detailed_class_info.csv").write_text(CLASSES)
    (folder / "kaggle_stage_2_train_images_dicom_headers.csv").write_text(HEADERS)
    return folder


def _index(source: Path, tmp_path: Path) -> IndexResult:
    return index_source(source, out=tmp_path / "o.parquet")


def test_boxes_become_one_row_per_image_with_findings_and_headers(folder: Path, tmp_path: Path) -> None:
    result = _index(folder, tmp_path)
    table = result.cohort.table
    assert result.cohort.source == "rsna"
    assert not result.cohort.patients_known
    assert table["image_id"].tolist() == ["0004cfab", "00313ee0", "00322d4d", "00436515"]
    assert table["pneumonia"].tolist() == [0, 0, 0, 1]
    assert table["lung_opacity"].tolist() == [0, 0, 0, 1]
    assert table["no_finding"].tolist() == [0, 0, 1, 0]
    assert table["view_position"].tolist() == ["PA", "", "", "AP"]
    assert table["laterality_evidence"].tolist() == ["ViewPosition", "data set", "data set", "ViewPosition"]
    assert table["age"].tolist()[0] == 148
    assert table["path"].tolist()[3] == "stage_2_train_images/00436515.dcm"
    assert set(table["published_split"]) == {"train"}
    assert len(result.notes) == 1


@pytest.mark.parametrize("name", ["stage_2_detailed_class_info.csv", "kaggle_stage_2_train_images_dicom_headers.csv"])
def test_any_of_the_three_tables_leads_to_the_others(folder: Path, tmp_path: Path, name: str) -> None:
    result = _index(folder / name, tmp_path)
    table = result.cohort.table.set_index("image_id")
    assert table.loc["00436515", ["pneumonia", "lung_opacity", "no_finding"]].tolist() == [1, 1, 0]
    assert table.loc["00436515", "view_position"] == "AP"


def test_what_is_not_beside_the_table_is_noted(folder: Path, tmp_path: Path) -> None:
    (folder / "stage_2_detailed_class_info.csv").unlink()
    (folder / "kaggle_stage_2_train_images_dicom_headers.csv").unlink()
    result = _index(folder / "stage_2_train_labels.csv", tmp_path)
    assert result.cohort.findings == ["pneumonia"]
    assert (result.cohort.table["laterality"] == "frontal").all()
    assert any("not found beside stage_2_train_labels.csv: detailed_class_info.csv" in note for note in result.notes)


def test_a_class_or_target_that_does_not_exist_is_an_error(folder: Path, tmp_path: Path) -> None:
    (folder / "stage_2_detailed_class_info.csv").write_text("patientId,class\n0004cfab,Healthy\n")
    with pytest.raises(CxrPairError, match=r"'class', row 0 .*must be one of Lung Opacity"):
        _index(folder, tmp_path)
    (folder / "stage_2_detailed_class_info.csv").unlink()
    (folder / "stage_2_train_labels.csv").write_text("patientId,Target\n0004cfab,7\n")
    with pytest.raises(CxrPairError, match="'Target', row 0 "):
        _index(folder, tmp_path)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CxrPairError, match="no table of RSNA"):
        index_source(tmp_path / "x.csv", out=tmp_path / "o.parquet", file_format="rsna")


@pytest.mark.data
def test_the_real_headers_of_rsna(shared_data: Path, tmp_path: Path) -> None:
    name = "metadata/kaggle_stage_2_train_images_dicom_headers.csv.gz"
    cohort = _index(shared_data / name, tmp_path).cohort
    assert len(cohort) == 26_684
    assert cohort.table["view_position"].value_counts().to_dict() == {"PA": 14_511, "AP": 12_173}
    assert cohort.table["sex"].isin(["F", "M"]).all()
