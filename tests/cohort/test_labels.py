from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from monai_cxrpair.cohort.index import IndexResult, index_source
from monai_cxrpair.errors import CxrPairError

TABLE = "image_id,patient_id,study_id,path,edema\ni1,p,s1,a.png,1\ni2,p,s1,b.png,0\ni3,q,s2,c.png,\n"


@pytest.fixture
def join(tmp_path: Path) -> Callable[..., IndexResult]:
    def index(labels: str, table: str = TABLE, **options) -> IndexResult:
        (tmp_path / "t.csv").write_text(table)
        (tmp_path / "l.csv").write_text(labels)
        return index_source(tmp_path / "t.csv", out=tmp_path / "o.parquet", labels=tmp_path / "l.csv", **options)

    return index


def _values(result: IndexResult, finding: str) -> list[float | None]:
    return [None if pd.isna(value) else value for value in result.cohort.table[finding]]


def test_findings_join_by_study_and_reach_all_of_its_images(join) -> None:
    result = join("study_id,Effusion\ns1,1\ns9,0\n")
    assert _values(result, "pleural_effusion") == [1, 1, None]
    assert any("1 of 3 radiographs are not in the labels file" in note for note in result.notes)
    assert any("1 of 2 keys of the labels file fit no radiograph" in note for note in result.notes)


def test_the_image_decides_over_the_study_and_numbers_that_are_no_labels_are_left(join) -> None:
    result = join("study_id,SOPInstanceUID,volume_ml,tip,mass\ns2,i1,12.5,0.1,1\ns2,i2,3,0.2,-1\n")
    assert _values(result, "mass") == [1, -1, None]
    assert result.cohort.findings == ["edema", "mass"]
    assert any("not used: volume_ml, tip" in note for note in result.notes)


def test_paths_are_keys_too(join) -> None:
    assert _values(join("path,laterality,mass\n./a.png,frontal,1\n"), "mass") == [1, None, None]


def test_names_separated_by_bars_become_findings(join) -> None:
    result = join("path,what\na.png,Effusion|Mass\nb.png,No Finding\nc.png,\n")
    assert _values(result, "pleural_effusion") == [1, 0, None]
    assert _values(result, "no_finding") == [0, 1, None]


def test_free_text_with_a_bar_is_no_list_of_names(join) -> None:
    result = join(f"path,mass,note\na.png,1,{'Mrs Smith came in with a cough and was seen by ' * 3}|x\n")
    assert result.cohort.findings == ["edema", "mass"]


def test_the_labels_file_wins_where_it_says_something_and_changes_are_counted(join) -> None:
    result = join("image_id,edema\ni1,0\ni2,\ni3,1\n")
    assert _values(result, "edema") == [0, 0, 1]
    assert any("'edema': the labels file changed 1 values" in note for note in result.notes)


def test_shared_study_ids_are_matched_with_their_patient(join) -> None:
    table = "patient_id,study_id,path\np,1,a\nq,1,b\n"
    assert _values(join("patient_id,study_id,mass\nq,1,1\n", table), "mass") == [None, 1]


def test_a_column_can_be_named(join) -> None:
    assert _values(join("image_id,erguss\ni1,1\n", finding={"pleural_effusion": "erguss"}), "pleural_effusion") == [
        1,
        None,
        None,
    ]
    with pytest.raises(CxrPairError, match="no column 'nope'"):
        join("image_id,erguss\ni1,1\n", finding={"pleural_effusion": "nope"})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("image_id,mass\nx,1\n", "no 'image_id' of the labels file is the image_id"),
        ("name,mass\ni1,1\n", "no image id, study id or path; it has: name, mass"),
        ("image_id,size\ni1,7\n", "has no finding"),
        ("image_id,mass\ni1,1\ni1,0\n", "1 keys with contradicting rows, the first in data row 1"),
    ],
)
def test_a_labels_file_that_cannot_be_joined_is_an_error(join, labels: str, message: str) -> None:
    with pytest.raises(CxrPairError, match=message):
        join(labels)


def test_equal_rows_of_a_key_do_no_harm(join) -> None:
    assert _values(join("image_id,mass\ni1,1\ni1,1\n"), "mass") == [1, None, None]


def test_dicom_labels_join_before_the_ids_are_hashed(make_dicom: Callable[..., Path], tmp_path: Path) -> None:
    make_dicom("1", StudyInstanceUID="1.5", SOPInstanceUID="1.6")
    make_dicom("2", StudyInstanceUID="1.5", SOPInstanceUID="1.7", PatientID="other")
    (tmp_path / "l.csv").write_text("StudyInstanceUID,pleural_effusion\n1.5,1\n")
    result = index_source(tmp_path / "pacs", out=tmp_path / "o.parquet", labels=tmp_path / "l.csv")
    assert _values(result, "pleural_effusion") == [1, 1]
    assert result.cohort.table["study_id"].nunique() == 2


def test_lists_as_padchest_writes_them_become_findings(join) -> None:
    result = join("image_id,Labels\ni1,\"['pleural effusion', 'mass']\"\ni2,['pericardial effusion']\ni3,\n")
    assert _values(result, "pleural_effusion") == [1, 0, None]
    assert _values(result, "pericardial_effusion") == [0, 1, None]


EXCEL = "image_id,patient_id,study_id,path\n00012,p,0007,a.png\n00013,p,0008,b.png\n20,q,0009,c.png\n"


def _excel(tmp_path: Path, cells: dict[str, list], table: str = EXCEL) -> IndexResult:
    (tmp_path / "t.csv").write_text(table)
    pd.DataFrame(cells).to_excel(tmp_path / "l.xlsx", index=False)  # numbers become number cells
    return index_source(tmp_path / "t.csv", out=tmp_path / "o.parquet", labels=tmp_path / "l.xlsx")


def test_ids_that_a_spreadsheet_turned_into_numbers_are_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(CxrPairError, match=r"2 would without leading zeros .*export them as text"):
        _excel(tmp_path, {"study_id": [7, 8], "mass": [1, 0]})


def test_some_ids_without_their_zeros_are_noted_and_whole_number_cells_match(tmp_path: Path) -> None:
    result = _excel(tmp_path, {"image_id": [12, 20], "mass": [1, 0]})
    assert _values(result, "mass") == [None, None, 0]
    assert any("1 of 2 keys" in note and "1 would without leading zeros" in note for note in result.notes)


def test_labels_in_number_cells_with_gaps_are_read(tmp_path: Path) -> None:
    result = _excel(tmp_path, {"image_id": ["00012", "00013"], "mass": [1.0, None]})
    assert _values(result, "mass") == [1, None, None]


def test_long_ids_that_a_spreadsheet_rounded_are_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image_id,patient_id,study_id,path\n216840111366964012,p,s,a.png\n")
    (tmp_path / "l.csv").write_text("image_id,mass\n2.16840111366964E+17,1\n")
    with pytest.raises(CxrPairError, match=r"1 look like 2.16E\+17: a spreadsheet rounded"):
        index_source(tmp_path / "t.csv", out=tmp_path / "o.parquet", labels=tmp_path / "l.csv")


def test_strangers_are_not_blamed_on_a_spreadsheet(join) -> None:
    result = join("image_id,mass\ni1,1\nzz9,0\n")
    assert not any("spreadsheet" in note for note in result.notes)
