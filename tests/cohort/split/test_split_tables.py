from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.split.tables import draws_of_tables, published_sides, put_rest, sides_of_tables
from monai_cxrpair.errors import CxrPairError

PATHS = [
    "train/patient00001/study1/view1_frontal.jpg",
    "train/patient00002/study2/view1_frontal.jpg",
    "train/patient00002/study1/view2_lateral.jpg",
    "valid/patient64541/study1/view1_frontal.jpg",
]


@pytest.fixture
def chexpert() -> Cohort:
    table = pd.DataFrame({"path": pd.Series(PATHS, dtype="str")})
    parts = table["path"].str.split("/", expand=True)
    table["patient_id"] = parts[1]
    table["study_id"] = parts[1] + "/" + parts[2]
    table["image_id"] = table["study_id"] + "/" + parts[3].str.removesuffix(".jpg")
    table["pleural_effusion"] = [1.0, 0.0, 0.0, 1.0]
    return Cohort(table, root=Path(), findings=["pleural_effusion"], source="chexpert")


def _csv(path: Path, **columns: list[str]) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_the_tables_of_another_machine_are_matched_by_the_end_of_their_paths(tmp_path: Path, chexpert: Cohort) -> None:
    elsewhere = "/deep/group/CheXpert/CheXpert-v1.0-small/"
    train = _csv(tmp_path / "train.csv", Path=[elsewhere + PATHS[1], elsewhere + PATHS[0], elsewhere + "train/x/y/z"])
    valid = _csv(tmp_path / "valid.csv", Path=[f"CheXpert-v1.0\\{PATHS[3]}".replace("/", "\\")])
    named = sides_of_tables(chexpert, {"train": [train], "test": [valid]}, None)
    assert named.sides.tolist() == [0, 0, -1, 2]
    assert named.notes == [
        "train.csv: 2 radiographs found by path; 1 of its 3 rows fit none, 2 radiographs are not in it",
        "valid.csv: 1 radiographs found by path; 0 of its 1 rows fit none, 3 radiographs are not in it",
    ]


def test_the_name_of_a_file_alone_is_no_match_where_several_have_it(tmp_path: Path, chexpert: Cohort) -> None:
    table = _csv(tmp_path / "train.csv", Path=["other/patient00009/study9/view1_frontal.jpg"])
    with pytest.raises(CxrPairError, match="none of its 1 rows fits a radiograph of the cohort by path"):
        sides_of_tables(chexpert, {"train": [table]}, None)


@pytest.mark.parametrize(
    ("columns", "sides"),
    [
        ({"subject_id": ["patient00002", "patient64541"], "split": ["Train", "test"]}, [-1, 0, 0, 2]),
        ({"patient_id": ["patient00002"], "study_id": ["study1"], "split": ["validate"]}, [-1, -1, 1, -1]),
        ({"study_id": ["patient00002/study1", "patient00001/study1"], "split": ["val", ""]}, [-1, -1, 1, -1]),
    ],
)
def test_a_column_names_the_side(
    tmp_path: Path, chexpert: Cohort, columns: dict[str, list[str]], sides: list[int]
) -> None:
    assert sides_of_tables(chexpert, {}, _csv(tmp_path / "split.csv", **columns)).sides.tolist() == sides


def test_a_list_of_image_names_without_a_header_is_read_from_its_first_line(tmp_path: Path) -> None:
    table = pd.DataFrame({"image_id": ["00000001_000.png", "00000001_001.png", "00000002_000.png"]}, dtype="str")
    table["patient_id"] = table["image_id"].str.slice(0, 8)
    table["study_id"] = table["path"] = table["image_id"]
    cohort = Cohort(table, root=Path(), findings=[], source="nih")
    (tmp_path / "test_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    assert sides_of_tables(cohort, {"test": [tmp_path / "test_list.txt"]}, None).sides.tolist() == [2, 2, -1]


def test_what_is_wrong_with_a_table_is_one_line(tmp_path: Path, chexpert: Cohort) -> None:
    first, same = (_csv(tmp_path / name, Path=[PATHS[0]]) for name in ("a.csv", "b.csv"))
    with pytest.raises(CxrPairError, match=r"b\.csv: 1 radiographs are on two sides"):
        sides_of_tables(chexpert, {"train": [first], "test": [same]}, None)
    torn = _csv(tmp_path / "c.csv", Path=[PATHS[0]] * 2, split=["train", "test"])
    with pytest.raises(CxrPairError, match="on two sides"):
        sides_of_tables(chexpert, {}, torn)
    with pytest.raises(CxrPairError, match="holds 'holdout'"):
        sides_of_tables(chexpert, {}, _csv(tmp_path / "d.csv", Path=PATHS[:1], split=["holdout"]))
    with pytest.raises(CxrPairError, match="no column 'split'"):
        sides_of_tables(chexpert, {}, first)
    with pytest.raises(CxrPairError, match="none of the columns image_id"):
        sides_of_tables(chexpert, {"train": [_csv(tmp_path / "e.csv", a=["1"], b=["2"])]}, None)


def test_the_rest_goes_to_a_side_unless_somebody_of_the_group_is_named_on_another(chexpert: Cohort) -> None:
    groups = np.array([0, 1, 1, 2])
    assert put_rest(np.array([-1, -1, 2, -1]), groups, "train").tolist() == [0, -1, 2, 0]
    assert put_rest(np.array([-1, -1, 0, -1]), groups, "train").tolist() == [0, 0, 0, 0]


def test_the_split_that_a_dataset_came_with(chexpert: Cohort) -> None:
    with pytest.raises(CxrPairError, match="no column 'published_split'"):
        published_sides(chexpert)
    table = chexpert.table.assign(published_split=pd.Series(["train", None, "", "validation"], dtype="str"))
    with_split = Cohort(table, root=Path(), findings=[], source="mimic-cxr")
    assert published_sides(with_split).sides.tolist() == [0, -1, -1, 1]


@pytest.mark.data
def test_medaugs_own_files_on_chexpert(shared_data: Path, tmp_path: Path) -> None:
    from monai_cxrpair.cohort.index import index_source

    folder = shared_data / "metadata/medaug_splits"
    cohort = index_source(shared_data / "metadata/chexpert_train.csv.gz", out=tmp_path / "c.parquet").cohort
    notes: list[str] = []
    files = sorted(folder.glob("train_semi_0.01-it*.csv"))[:3]
    draws = draws_of_tables(cohort, files, finding="pleural_effusion", fraction=0.01, notes=notes)
    assert [len(images) for images in draws.image_ids] == [len(pd.read_csv(file)) for file in files]
    paths = pd.read_csv(files[2])["Path"].str.extract(r"(patient\d+/study\d+/view\d+_\w+)\.jpg")[0]
    assert set(draws.image_ids[2]) == set(paths)
    assert all("0 of its" in note for note in notes)
    with pytest.raises(CxrPairError, match="none of its 234 rows"):  # they are not in train.csv
        sides_of_tables(cohort, {"test": [folder / "valid.csv"]}, None)
