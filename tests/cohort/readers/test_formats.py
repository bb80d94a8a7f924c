from pathlib import Path

import pytest

from monai_cxrpair.cohort.readers.formats import recognise
from monai_cxrpair.errors import CxrPairError

NIH = "Image Index,Finding Labels,Follow-up #,Patient ID\n1_0.png,Mass,0,1\n"
TRAIN = "image_id,Aortic enlargement,Pleural effusion,No finding\na,0,0,1\n"


@pytest.mark.parametrize(
    ("columns", "file_format"),
    [
        ("Path,Sex,Age,Frontal/Lateral,AP/PA", "chexpert"),
        ("Study,Enlarged Cardiomediastinum,Pleural Effusion,Support Devices", "chexpert"),
        ("dicom_id,subject_id,study_id,ViewPosition,Rows", "mimic-cxr"),
        ("Image Index,Finding Labels,Follow-up #", "nih"),
        ("ImageID,ImageDir,PatientID,Labels,Projection", "padchest"),
        ("image_id,class_name,class_id,rad_id", "vindr"),
        ("image_id,Aortic enlargement,Pleural effusion,No finding", "vindr"),
        ("imageid,filename,Patient ID,View Position,Patient Orientation", "openi"),
        ("patientId,x,y,width,height,Target", "rsna"),
        ("patientId,class", "rsna"),
        (",ConversionType,Filename,PatientID,ViewPosition", "rsna"),
        ("patient_id,study_id,path", "table"),
    ],
)
def test_a_table_is_recognised_by_its_columns(tmp_path: Path, columns: str, file_format: str) -> None:
    (tmp_path / "t.csv").write_text(f"{columns}\n{',' * columns.count(',')}x\n")
    assert recognise(tmp_path / "t.csv", None)[0] == file_format


def test_a_folder_is_taken_for_dicom_unless_it_holds_the_table_of_one_data_set(tmp_path: Path) -> None:
    assert recognise(tmp_path, None)[0] == "dicom"
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(NIH)
    assert recognise(tmp_path, None)[0] == "nih"
    assert recognise(tmp_path, "dicom") == ("dicom", tmp_path, None)
    (tmp_path / "image_labels_train.csv").write_text(TRAIN)
    assert recognise(tmp_path, None)[0] == "dicom"  # nobody can say which is meant
    assert recognise(tmp_path, "vindr")[0] == "vindr"


def test_all_tables_of_a_folder_are_read_and_none_twice(tmp_path: Path) -> None:
    import gzip

    for name in ("image_labels_train.csv", "image_labels_test.csv"):
        (tmp_path / name).write_text(TRAIN)
    (tmp_path / "image_labels_train.csv.gz").write_bytes(gzip.compress(TRAIN.encode()))
    _, file, raw = recognise(tmp_path, "vindr")
    assert file.name == "image_labels_train.csv"
    assert raw is not None
    assert len(raw) == 2


def test_a_folder_that_does_not_hold_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CxrPairError, match=r"holds no Data_Entry_2017\*\.csv \(or \.gz\)"):
        recognise(tmp_path, "nih")
    with pytest.raises(CxrPairError, match="format table reads a table"):
        recognise(tmp_path, "table")
    with pytest.raises(CxrPairError, match="no such format"):
        recognise(tmp_path, "tiff")
