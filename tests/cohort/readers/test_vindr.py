from pathlib import Path

import pandas as pd
import pytest

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.index import IndexResult, index_source
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import PairCriterion, PairSampler, build_index

KAGGLE = """image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max
50a4,No finding,14,R11,,,,
50a4,No finding,14,R15,,,,
50a4,Pleural effusion,10,R8,691,1375,1653,1831
21a1,Pleural effusion,10,R8,1,2,3,4
21a1,Pleural effusion,10,R9,1,2,3,5
21a1,Pulmonary fibrosis,13,R9,1,2,3,5
9a5b,No finding,14,R9,,,,
"""
TRAIN = """image_id,rad_id,Aortic enlargement,Pleural effusion,Pulmonary fibrosis,No finding
50a4,R11,0,0,0,1
50a4,R15,0,0,0,1
50a4,R8,0,1,0,0
9a5b,R9,0,0,0,1
9a5b,R8,1.0,0.0,0.0,0.0
9a5b,R7,0,0,0,1
"""
TEST = "image_id,Aortic enlargement,Pleural effusion,Pulmonary fibrosis,No finding\nff01,0,1,0,0\nff02,0,0,0,1\n"


def _index(tmp_path: Path, text: str, name: str = "t.csv", **options) -> IndexResult:
    (tmp_path / name).write_text(text)
    return index_source(tmp_path / name, out=tmp_path / "o.parquet", **options)


def test_kaggles_table_has_one_row_per_image_and_a_finding_that_any_radiologist_saw(tmp_path: Path) -> None:
    result = _index(tmp_path, KAGGLE)
    table = result.cohort.table.set_index("image_id")
    assert result.cohort.source == "vindr"
    assert table.index.tolist() == ["50a4", "21a1", "9a5b"]
    assert table["pleural_effusion"].tolist() == [1, 1, 0]
    assert table["fibrosis"].tolist() == [0, 1, 0]
    assert set(table["published_split"]) == {"train"}
    assert table["path"].tolist()[0] == "train/50a4.dicom"
    assert (table["laterality"] == "frontal").all()
    assert any("6 readings of 3 images" in note for note in result.notes)


def test_physionets_tables_say_the_same_and_tell_train_from_test(tmp_path: Path) -> None:
    table = _index(tmp_path, TRAIN).cohort.table.set_index("image_id")
    assert table["pleural_effusion"].tolist() == [1, 0]
    assert table["aortic_enlargement"].tolist() == [0, 1]
    test = _index(tmp_path, TEST).cohort.table
    assert test["published_split"].tolist() == ["test", "test"]
    assert test["path"].tolist() == ["test/ff01.dicom", "test/ff02.dicom"]


def test_the_folder_of_physionet_gives_both_sides_and_converted_files_are_found(tmp_path: Path) -> None:
    home = tmp_path / "vindr"
    for folder in ("annotations", "train", "test"):
        (home / folder).mkdir(parents=True)
    (home / "annotations/image_labels_train.csv").write_text(TRAIN)
    (home / "annotations/image_labels_test.csv").write_text(TEST)
    for name in ("train/50a4.png", "train/9a5b.png", "test/ff01.png", "test/ff02.png"):
        (home / name).touch()
    cohort = index_source(home, out=tmp_path / "o.parquet", check_files=True).cohort
    assert cohort.table["published_split"].tolist() == ["train", "train", "test", "test"]
    assert all(path.is_file() for path in cohort.paths())


def test_pairing_is_refused_in_one_line_and_plain_moco_and_parts_of_the_cohort_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = _index(tmp_path, KAGGLE)
    assert any("no patient ids" in note for note in result.notes)
    cohort = Cohort.read(tmp_path / "o.parquet")
    assert "no patient ids" in caplog.text
    assert cohort.summary()["patients_known"] is False
    for part in (cohort, cohort.where("pleural_effusion == 1"), cohort.take(cohort.codes("image_id")[:2])):
        assert not part.patients_known
        with pytest.raises(CxrPairError, match=r"vindr cohort has no patient ids.*`pairing: null`.*evaluation"):
            PairSampler(part, PairCriterion(study="same", laterality="any"))
        with pytest.raises(CxrPairError, match="no patient ids"):
            build_index(part, PairCriterion(study="any"))
        rows, affinity = PairSampler(part, None).draw([1, 0])
        assert rows.tolist() == [[1], [0]]
        assert (affinity == 1).all()


def test_a_cohort_with_patients_is_paired_as_before(tmp_path: Path) -> None:
    result = _index(tmp_path, "patient_id,study_id,path\np,1,a\np,1,b\n")
    assert Cohort.read(tmp_path / "o.parquet").patients_known
    assert "patients_known" not in result.cohort.summary()
    assert PairSampler(result.cohort, PairCriterion(study="same", laterality="any")).draw([0])[0].tolist() == [[1]]


def test_a_value_that_is_no_reading_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CxrPairError, match=r"'Pleural effusion', row 2 .*must be 1, 0 or blank"):
        _index(tmp_path, TRAIN.replace("50a4,R8,0,1", "50a4,R8,0,-1"))


def test_rows_without_an_image_are_rejected(tmp_path: Path) -> None:
    result = _index(tmp_path, KAGGLE + ",No finding,14,R9,,,,\n")
    assert result.as_json()["rejected"] == {"no path": 1}
    assert len(result.cohort) + len(result.rejects) == result.files_seen == 4
    assert pd.read_parquet(tmp_path / "o.parquet")["image_id"].ne("").all()
