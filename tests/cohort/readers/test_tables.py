import gzip
from pathlib import Path

import pandas as pd
import pytest

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.index import FORMATS, IndexResult, index_source
from monai_cxrpair.cohort.readers.columns import parse_age
from monai_cxrpair.cohort.readers.findings import finding_name, finding_values, indicators
from monai_cxrpair.cohort.readers.textfile import read_text_table
from monai_cxrpair.errors import CxrPairError


def _index(tmp_path: Path, text: str, name: str = "table.csv", **options) -> IndexResult:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return index_source(tmp_path / name, out=tmp_path / "out.parquet", **options)


def test_a_table_needs_only_patient_study_and_path(tmp_path: Path) -> None:
    result = _index(tmp_path, "patient_id,study_id,path\n007,0001,x/ä.png\n007,0002,b.png\n")
    table = result.cohort.table
    assert table["patient_id"].tolist() == ["007", "007"]
    assert table["study_id"].tolist() == ["0001", "0002"]
    assert table["laterality"].tolist() == ["unknown", "unknown"]
    assert table["image_id"].str.contains("png").sum() == 0
    assert Cohort.read(tmp_path / "out.parquet").paths()[0] == tmp_path / "x/ä.png"
    assert (tmp_path / "out.rejects.csv").read_text() == "path,reason\n"


def test_columns_can_be_named_and_synonyms_are_found(tmp_path: Path) -> None:
    text = "who,StudyInstanceUID;,file,AP/PA,Gender,Patient Age,Effusion\np,1.2,a.png,AP,Female,081Y,-1.0\n"
    result = _index(tmp_path, text, column={"patient_id": "who", "study_id": "StudyInstanceUID;"})
    row = result.cohort.table.iloc[0]
    assert (row["laterality"], row["view_position"], row["sex"], row["age"]) == ("frontal", "AP", "F", 81)
    assert result.cohort.findings == ["pleural_effusion"]
    assert row["pleural_effusion"] == -1


def test_an_empty_laterality_is_unknown_even_beside_a_view_position(tmp_path: Path) -> None:
    text = "patient_id,study_id,path,view,view_position\np,s,a,frontal,PA\np,s,b,,PA\np,s,c,lateral,\n"
    assert _index(tmp_path, text).cohort.table["laterality"].tolist() == ["frontal", "unknown", "lateral"]


def test_without_a_laterality_column_the_view_decides(tmp_path: Path) -> None:
    text = "patient_id,study_id,path,view\np,s,a,PA\np,s,b,LL\np,s,c,\n"
    table = _index(tmp_path, text).cohort.table
    assert table["laterality"].tolist() == ["frontal", "lateral", "unknown"]
    assert table["view_position"].tolist() == ["PA", "LL", ""]


def test_shared_study_ids_get_the_patient_in_front(tmp_path: Path) -> None:
    result = _index(tmp_path, "patient_id,study_id,path\np,1,a\nq,1,b\nq,2,c\n")
    assert result.cohort.table["study_id"].tolist() == ["p/1", "q/1", "q/2"]
    assert any("study ids of several patients" in note for note in result.notes)


def test_rows_that_cannot_be_used_are_rejected_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    rows = ("p,s,a.png", ",s,b.png", "p,,c.png", "p,s,", "p,s,/etc/d.png", "p,s,../e.png", "p,s,a.png", "p,s,f.png")
    text = "\n".join(["patient_id,study_id,path", *rows])
    result = _index(tmp_path, text, check_files=True)
    assert result.as_json()["rejected"] == {
        "duplicate": 1,
        "missing file": 1,
        "no path": 3,
        "no patient id": 1,
        "no study id": 1,
    }
    assert len(result.cohort) + len(result.rejects) == result.files_seen == 8


def test_absolute_paths_beneath_the_root_become_relative_and_others_ask_for_a_root(tmp_path: Path) -> None:
    result = _index(tmp_path, f"patient_id,study_id,path\np,s,{tmp_path}/x/a.png\np,s,.\\y\\b.png\n")
    assert result.cohort.table["path"].tolist() == ["x/a.png", "y/b.png"]
    with pytest.raises(CxrPairError, match="--root"):
        _index(tmp_path, "patient_id,study_id,path\np,s,/nowhere/a.png\n")


def test_mistakes_in_a_table_are_one_line_errors(tmp_path: Path) -> None:
    text = "patient_id,study_id,path,edema\np,s,a,1\np,s,b,maybe\n"
    with pytest.raises(CxrPairError, match=r"'edema', row 1 .*1, 0, -1 or blank"):
        _index(tmp_path, text)
    with pytest.raises(CxrPairError, match=r"no column for 'patient_id'.*there are: a, b"):
        _index(tmp_path, "a,b\n1,2\n")
    with pytest.raises(CxrPairError, match="cohort has no such column"):
        _index(tmp_path, text, column={"colour": "edema"})
    with pytest.raises(CxrPairError, match="no column 'nope'; there are: patient_id"):
        _index(tmp_path, text, column={"age": "nope"})
    with pytest.raises(CxrPairError, match="--finding x=nope"):
        _index(tmp_path, text, finding={"x": "nope"})
    with pytest.raises(CxrPairError, match=r"'image_id', row 1 .*unique"):
        _index(tmp_path, "patient_id,study_id,path,image_id\np,s,a,i\np,s,b,i\n")
    with pytest.raises(CxrPairError, match=r"ends with \.parquet"):
        index_source(tmp_path / "table.csv", out=tmp_path / "out.csv")
    with pytest.raises(CxrPairError, match="there is no"):
        index_source(tmp_path / "nothing", out=tmp_path / "out.parquet")
    with pytest.raises(CxrPairError, match="no rows"):
        _index(tmp_path, "patient_id,study_id,path\n")
    (tmp_path / "d.parquet").mkdir()
    with pytest.raises(CxrPairError, match="is a folder"):
        index_source(tmp_path / "table.csv", out=tmp_path / "d.parquet")
    with pytest.raises(CxrPairError, match="cannot write"):
        index_source(tmp_path / "table.csv", out=tmp_path / "table.csv" / "out.parquet")


def test_values_that_are_not_understood_are_counted(tmp_path: Path) -> None:
    result = _index(tmp_path, "patient_id,study_id,path,age,laterality\np,s,a,old,left\np,s,b,412,\np,s,c,,frontal\n")
    assert result.cohort.table["age"].isna().all()
    assert any("'age': 2 values" in note for note in result.notes)
    assert any("'laterality': 1 values" in note for note in result.notes)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".xlsx", ".parquet"])
def test_every_kind_of_table_is_read_as_text(tmp_path: Path, suffix: str) -> None:
    table = pd.DataFrame({"id": ["007", "8"], "ö": ["", "1"]})
    path = tmp_path / f"t{suffix}"
    if suffix == ".xlsx":
        table.to_excel(path, index=False)
    elif suffix == ".parquet":
        table.to_parquet(path)
    elif suffix == ".csv.gz":
        path.write_bytes(gzip.compress(table.to_csv(index=False, sep=";").encode("utf-8-sig")))
    else:
        table.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    assert read_text_table(path).to_dict("list") == {"id": ["007", "8"], "ö": ["", "1"]}


def test_a_table_that_is_not_text_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("patient_id,näme\n1,x\n".encode("latin-1"))
    with pytest.raises(CxrPairError, match="not UTF-8"):
        read_text_table(tmp_path / "latin.csv")
    (tmp_path / "bad.xlsx").write_bytes(b"PK nonsense")
    (tmp_path / "bad.csv.gz").write_bytes(b"nonsense")
    (tmp_path / "empty.csv").touch()
    for name in ("bad.xlsx", "bad.csv.gz", "empty.csv"):
        with pytest.raises(CxrPairError, match=r"cannot be read as a table|no rows"):
            read_text_table(tmp_path / name)
    with pytest.raises(CxrPairError, match="no table"):
        read_text_table(tmp_path / "none.csv")


@pytest.mark.parametrize(("text", "age"), [("081Y", 81), ("006M", 0.5), ("18M", 1.5), ("042", 42), ("36.0", 36)])
def test_ages_are_read_in_years(text: str, age: float) -> None:
    assert parse_age(text) == pytest.approx(age)
    assert pd.isna(parse_age("abc"))
    assert pd.isna(parse_age("-1"))
    assert pd.isna(parse_age(""))


def test_findings_have_names_for_filters_and_values_of_four_kinds() -> None:
    assert [finding_name(text) for text in ("Pleural Effusion", "Effusion", "COVID-19", "2nd look")] == [
        "pleural_effusion",
        "pleural_effusion",
        "covid_19",
        "finding_2nd_look",
    ]
    values, wrong = finding_values(pd.Series(["1.0", "0", "-1", "", "nan", "2", "x"], dtype="str"))
    assert values[:3].tolist() == [1, 0, -1]
    assert values[3:5].isna().all()
    assert wrong.tolist() == [False] * 5 + [True] * 2


def test_names_in_one_column_become_one_column_each() -> None:
    table = indicators(pd.Series(["Effusion|Mass", "No Finding", "", " Mass "], dtype="str"))
    assert table.columns.tolist() == ["mass", "no_finding", "pleural_effusion"]
    assert table["mass"].fillna(-9).tolist() == [1, 0, -9, 1]


CHEXPERT = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Pleural Effusion\n"


def test_chexpert_ids_follow_from_the_path(tmp_path: Path) -> None:
    text = (
        f"{CHEXPERT}CheXpert-v1.0-small/train/patient00002/study10/view1_frontal.jpg,Male,60,Frontal,AP,,1.0\n"
        "CheXpert-v1.0-small/train/patient00002/study2/view2_lateral.jpg,Unknown,60,Lateral,,1.0,-1.0\nx/y.jpg,,,,,,\n"
    )
    result = _index(tmp_path, text)
    table = result.cohort.table
    assert result.cohort.source == "chexpert"
    assert table["image_id"].tolist() == ["patient00002/study10/view1_frontal", "patient00002/study2/view2_lateral"]
    assert table["study_order"].tolist() == [1, 0]
    assert table["sex"].tolist() == ["M", ""]
    assert result.as_json()["rejected"] == {"no patient id": 1}


@pytest.mark.parametrize("given_root", [False, True])
def test_the_folder_in_chexperts_paths_is_dropped_where_the_table_lies_inside(tmp_path: Path, given_root: bool) -> None:
    home = tmp_path / ("images" if given_root else "CheXpert-v1.0-small")
    (home / "train/patient00001/study1").mkdir(parents=True)
    (home / "train/patient00001/study1/view1_frontal.jpg").touch()
    table = home / "train.csv"
    table.write_text(
        f"{CHEXPERT}/deep/group/CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Male,60,Frontal,AP,,\n"
    )
    result = index_source(table, out=tmp_path / "o.parquet", root=home if given_root else None)
    assert result.cohort.paths()[0].exists()


def test_nih_labels_and_ids(tmp_path: Path) -> None:
    (tmp_path / "images_002" / "images").mkdir(parents=True)
    (tmp_path / "images_002" / "images" / "00000003_001.png").touch()
    result = _index(
        tmp_path,
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
        "00000003_001.png,Hernia|Effusion,1,00000003,412,F,PA\n00000003_000.png,No Finding,0,00000003,074Y,F,AP\n",
    )
    table = result.cohort.table
    assert result.cohort.source == "nih"
    assert table["study_id"].tolist() == ["00000003_1", "00000003_0"]
    assert table["path"].tolist() == ["images_002/images/00000003_001.png", "00000003_000.png"]
    assert table["pleural_effusion"].tolist() == [1, 0]
    assert pd.isna(table["age"][0])
    assert any("Patient Age" in note for note in result.notes)


def test_the_command_line_knows_the_same_formats() -> None:
    from monai_cxrpair.commands.index import SourceFormat

    assert tuple(SourceFormat) == FORMATS


@pytest.mark.data
def test_the_real_nih_sample_and_its_labels(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "nih_1000"
    result = index_source(folder / "index.csv", out=tmp_path / "n.parquet", labels=folder / "extra.csv")
    summary = result.as_json()
    assert (summary["radiographs"], summary["patients"], summary["laterality"]["frontal"]) == (1000, 682, 1000)
    assert summary["findings"]["pleural_effusion"] == {"present": 90, "absent": 910, "uncertain": 0, "missing": 0}
    assert summary["findings"]["pneumonia"]["present"] == 500
    assert result.cohort.where("pneumonia == 1").summary()["findings"]["pleural_effusion"]["present"] == 90
    assert all(path.exists() for path in result.cohort.paths())


@pytest.mark.data
def test_the_real_covid_sample(shared_data: Path, tmp_path: Path) -> None:
    summary = index_source(shared_data / "covid_cxr/index.csv", out=tmp_path / "c.parquet").as_json()
    assert (summary["radiographs"], summary["patients"]) == (548, 306)
    assert summary["laterality"] == {"frontal": 505, "lateral": 43, "unknown": 0}


@pytest.mark.data
def test_the_published_counts_of_chexpert(shared_data: Path, tmp_path: Path) -> None:
    summary = index_source(shared_data / "metadata/chexpert_train.csv.gz", out=tmp_path / "c.parquet").as_json()
    assert (summary["radiographs"], summary["patients"], summary["studies"]) == (223_414, 64_540, 187_641)
    assert summary["laterality"] == {"frontal": 191_027, "lateral": 32_387, "unknown": 0}
    assert list(summary["findings"]["pleural_effusion"].values()) == [86_187, 35_396, 11_628, 90_203]
    assert len(summary["findings"]) == 14


@pytest.mark.data
def test_medaugs_own_split_files(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "metadata/medaug_splits"
    summary = index_source(folder / "valid.csv", out=tmp_path / "v.parquet").as_json()
    assert (summary["radiographs"], summary["patients"]) == (234, 200)
    assert list(summary["findings"]["pleural_effusion"].values()) == [67, 167, 0, 0]
    cohort = index_source(folder / "train_semi_0.01-it0.csv", out=tmp_path / "t.parquet").cohort
    assert len(cohort) == 2259
    assert cohort.table["path"].str.startswith("CheXpert-v1.0-small/train/patient").all()
