from pathlib import Path

import pytest

from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.errors import CxrPairError

HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Pleural Effusion\n"
TEST = "{key},No Finding,Enlarged Cardiomediastinum,Pleural Effusion,Support Devices\n"


def test_train_and_valid_of_the_full_set_come_from_the_folder_with_their_published_split(tmp_path: Path) -> None:
    home = tmp_path / "CheXpert-v1.0"
    home.mkdir()
    (home / "train.csv").write_text(
        f"{HEADER}CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,0.0\n"
    )
    (home / "valid.csv").write_text(
        f"{HEADER}CheXpert-v1.0/valid/patient64541/study1/view2_lateral.jpg,Male,73,Lateral,,0.0,1.0\n"
    )
    cohort = index_source(home, out=tmp_path / "o.parquet", file_format="chexpert").cohort
    assert cohort.table["published_split"].tolist() == ["train", "validation"]
    assert cohort.table["path"].tolist()[0] == "train/patient00001/study1/view1_frontal.jpg"
    assert cohort.table["laterality_evidence"].tolist() == ["Frontal/Lateral"] * 2


def test_the_labels_of_the_test_set_by_path_take_the_laterality_from_the_file_name(tmp_path: Path) -> None:
    (tmp_path / "test_labels.csv").write_text(
        TEST.format(key="Path")
        + "test/patient64741/study1/view1_frontal.jpg,0,0,1,0\ntest/patient64741/study1/view2_lateral.jpg,0,0,1,0\n"
    )
    cohort = index_source(tmp_path / "test_labels.csv", out=tmp_path / "o.parquet").cohort
    assert cohort.source == "chexpert"
    assert cohort.table["laterality"].tolist() == ["frontal", "lateral"]
    assert cohort.table["laterality_evidence"].tolist() == ["file name"] * 2
    assert cohort.table["published_split"].tolist() == ["test", "test"]
    assert cohort.table["pleural_effusion"].tolist() == [1, 1]


@pytest.mark.parametrize("inside", [False, True])
def test_the_labels_of_the_test_set_by_study_find_the_images_of_the_study(tmp_path: Path, inside: bool) -> None:
    home = tmp_path / "CheXpert-v1.0"
    (home / "test/patient64741/study1").mkdir(parents=True)
    for name in ("view2_lateral.jpg", "view1_frontal.jpg"):
        (home / "test/patient64741/study1" / name).touch()
    table = (home if inside else tmp_path) / "groundtruth.csv"
    table.write_text(
        TEST.format(key="Study")
        + "CheXpert-v1.0/test/patient64741/study1,0,0,1,0\nCheXpert-v1.0/test/patient64742/study1,1,0,0,0\n"
    )
    cohort = index_source(table, out=tmp_path / "o.parquet").cohort
    assert cohort.table["image_id"].tolist() == [f"patient64741/study1/view{v}" for v in ("1_frontal", "2_lateral")]
    assert all(path.is_file() for path in cohort.paths())
    assert cohort.table["pleural_effusion"].tolist() == [1, 1]


def test_a_table_by_study_without_images_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text(TEST.format(key="Study") + "CheXpert-v1.0/test/patient64741/study1,0,0,1,0\n")
    with pytest.raises(CxrPairError, match=r"no images of them.*--root.*--labels"):
        index_source(tmp_path / "g.csv", out=tmp_path / "o.parquet")


@pytest.mark.parametrize(
    "labels",
    [
        "Study,Pleural Effusion\nCheXpert-v1.0/test/patient64741/study1,1\n",
        "Path,Pleural Effusion\n/other/machine/test/patient64741/study1/view1_frontal.jpg,1\n",
    ],
)
def test_labels_by_path_or_study_join_whatever_folder_stands_in_front(tmp_path: Path, labels: str) -> None:
    (tmp_path / "t.csv").write_text(
        f"{HEADER}CheXpert-v1.0-small/test/patient64741/study1/view1_frontal.jpg,Female,68,Frontal,AP,,\n"
    )
    (tmp_path / "l.csv").write_text(labels)
    cohort = index_source(tmp_path / "t.csv", out=tmp_path / "o.parquet", labels=tmp_path / "l.csv").cohort
    assert cohort.table["pleural_effusion"].tolist() == [1]


def test_a_hospitals_own_table_with_chexperts_finding_names_stays_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "Path,patient_id,study_id,Enlarged Cardiomediastinum,Pleural Effusion,Support Devices\na.png,p,s,0,1,0\n"
    )
    assert index_source(tmp_path / "t.csv", out=tmp_path / "o.parquet").cohort.source == "table"
