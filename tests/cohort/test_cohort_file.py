from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.ordering import natural_keys, study_order
from monai_cxrpair.errors import CxrPairError


def test_a_cohort_survives_the_round_trip_through_its_file(cohort: Cohort, tmp_path: Path) -> None:
    cohort.write(tmp_path / "new folder" / "cohort.parquet")
    again = Cohort.read(tmp_path / "new folder" / "cohort.parquet")
    pd.testing.assert_frame_equal(again.table, cohort.table)
    assert (again.findings, again.source, again.root) == (["pleural_effusion"], "table", tmp_path)
    assert again.fingerprint() == cohort.fingerprint()


ids = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8).filter(
    lambda text: text.strip()
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(ids, ids, st.sampled_from(["frontal", "lateral", "unknown"]), st.sampled_from([1, 0, -1, None])),
        min_size=1,
        max_size=12,
    )
)
def test_any_valid_table_survives_the_round_trip(tmp_path: Path, drawn: list[tuple[str, str, str, Any]]) -> None:
    table = pd.DataFrame(
        {
            "image_id": [f"{i}" for i in range(len(drawn))],
            "patient_id": [row[0] for row in drawn],
            "study_id": [f"{row[0]}/{row[1]}" if "/" not in row[0] else row[0] for row in drawn],
            "laterality": [row[2] for row in drawn],
            "path": [f"{i}.png" for i in range(len(drawn))],
            "edema": pd.array([row[3] for row in drawn], dtype="Int8"),
        }
    )
    cohort = Cohort(table, root=tmp_path, findings=["edema"], source="table")
    cohort.write(tmp_path / "c.parquet")
    pd.testing.assert_frame_equal(Cohort.read(tmp_path / "c.parquet").table, cohort.table)


def test_the_file_is_for_its_owner_only_and_leaves_no_temporary_file(cohort: Cohort, tmp_path: Path) -> None:
    cohort.write(tmp_path / "cohort.parquet")
    assert (tmp_path / "cohort.parquet").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["cohort.parquet"]


def test_a_failed_write_leaves_the_old_file(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    cohort.write(tmp_path / "cohort.parquet")
    before = (tmp_path / "cohort.parquet").read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(CxrPairError, match="No space left"):
        cohort.write(tmp_path / "cohort.parquet")
    assert (tmp_path / "cohort.parquet").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("image_id", ["a", "b", "a", "d"], "'image_id', row 2 counted from 0: must be unique"),
        ("patient_id", ["007", " ", "007", "8"], "'patient_id', row 1 .*must not be empty"),
        ("patient_id", [7, 7, 7, 8], "'patient_id': identifiers are text"),
        ("study_id", ["s", "s", "s2", "s"], "'study_id', row 3 .*exactly one patient"),
        ("laterality", ["frontal", "left", "left", "x"], r"'laterality', row 1 .*and 2 more.*must be one of frontal"),
        ("path", ["a", "b", "/abs", "d"], "'path', row 2 .*relative"),
        ("path", ["a", "b", "c", "x/../../d"], "'path', row 3 .*relative"),
        ("pleural_effusion", [1, 0, 2, 0], "'pleural_effusion', row 2 .*must be 1, 0, -1 or missing"),
        ("pleural_effusion", ["yes", "no", "", ""], "'pleural_effusion': must be 1, 0, -1"),
        ("age", [1.0, 2.0, 3.0, 200.0], "'age', row 3 .*150"),
        ("sex", ["F", "M", "X", ""], "'sex', row 2 .*F, M, O"),
        ("study_order", [0, 1, 2, 0], "'study_order', row 1 .*same in all rows of a study"),
        ("study_order", [1, 1, 1, 0], "'study_order', row 2 .*two studies"),
    ],
)
def test_an_invalid_table_is_refused_with_column_row_and_rule(
    rows: pd.DataFrame, column: str, values: list[Any], message: str
) -> None:
    rows[column] = values
    with pytest.raises(CxrPairError, match=message):
        Cohort(rows, root=Path(), findings=["pleural_effusion"], source="table")


def test_a_missing_column_is_named(rows: pd.DataFrame) -> None:
    with pytest.raises(CxrPairError, match="'path' is missing; there are: image_id"):
        Cohort(rows.drop(columns="path"), root=Path(), findings=[], source="table")


def test_an_error_never_shows_an_identifier(rows: pd.DataFrame) -> None:
    rows["image_id"] = ["SECRET", "SECRET", "c", "d"]
    with pytest.raises(CxrPairError) as error:
        Cohort(rows, root=Path(), findings=[], source="table")
    assert "SECRET" not in str(error.value)


def test_files_that_are_no_cohort_are_refused(tmp_path: Path, rows: pd.DataFrame) -> None:
    with pytest.raises(CxrPairError, match="no cohort file"):
        Cohort.read(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(CxrPairError, match="cannot be read"):
        Cohort.read(tmp_path / "text.parquet")
    rows.to_parquet(tmp_path / "foreign.parquet")
    with pytest.raises(CxrPairError, match="not a cohort"):
        Cohort.read(tmp_path / "foreign.parquet")


def test_a_filter_selects_rows(cohort: Cohort) -> None:
    chosen = cohort.where("pleural_effusion == 1 or laterality == 'unknown'")
    assert chosen.table["image_id"].tolist() == ["a", "d"]
    assert chosen.table.index.tolist() == [0, 1]


@pytest.mark.parametrize("text", ["nothing == 1", "((", "age", "age > 300", "image_id.__class__ == 1", "@os == 1", ""])
def test_a_bad_or_empty_filter_is_one_line_with_the_filter(cohort: Cohort, text: str) -> None:
    with pytest.raises(CxrPairError) as error:
        cohort.where(text)
    assert repr(text) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_filter_names_the_columns(cohort: Cohort) -> None:
    with pytest.raises(CxrPairError, match=r"columns: image_id, .*pleural_effusion"):
        cohort.where("effusion == 1")


def test_changes_to_the_table_do_not_reach_the_cohort(cohort: Cohort) -> None:
    table = cohort.table
    table.loc[:, "patient_id"] = "x"
    assert cohort.table["patient_id"].tolist() == ["007", "007", "007", "8"]


def test_codes_are_dense_and_in_order_of_appearance(cohort: Cohort) -> None:
    codes = cohort.codes("study_id")
    assert codes.dtype == np.int64
    assert codes.tolist() == [0, 0, 1, 2]
    assert cohort.codes("pleural_effusion").tolist() == [0, 1, 2, -1]


def test_the_fingerprint_knows_identity_but_not_findings_or_paths(rows: pd.DataFrame, cohort: Cohort) -> None:
    other = rows.assign(path=["1", "2", "3", "4"], pleural_effusion=0.0, age=50.0)
    same = Cohort(other, root=Path("/elsewhere"), findings=["pleural_effusion"], source="x")
    assert same.fingerprint() == cohort.fingerprint()
    for column in ("image_id", "patient_id", "study_id", "laterality"):
        changed = rows.copy()
        changed.loc[3, column] = "lateral" if column == "laterality" else "new"
        assert Cohort(changed, root=Path(), findings=[], source="x").fingerprint() != cohort.fingerprint()


def test_paths_are_absolute_beneath_the_root(cohort: Cohort, tmp_path: Path) -> None:
    assert cohort.paths() == [tmp_path / name for name in ("a.png", "b.png", "c.png", "d.png")]


def test_studies_are_ranked_by_number_where_there_is_no_date(cohort: Cohort) -> None:
    assert cohort.table["study_order"].tolist() == [1, 1, 0, 0]


def test_studies_are_ranked_by_date_only_where_all_of_a_patient_have_one() -> None:
    table = pd.DataFrame(
        {
            "patient_id": ["p", "p", "q", "q", "q"],
            "study_id": ["s1", "s2", "t1", "t2", "t1"],
            "study_datetime": pd.to_datetime(["2021-01-02", "2021-01-01", "2021-01-05", None, "2021-01-07"]),
        }
    )
    assert study_order(table).tolist() == [1, 0, 0, 1, 0]


@given(st.lists(st.integers(0, 10**39), min_size=2, max_size=8, unique=True))
def test_numbers_of_any_length_sort_as_numbers(numbers: list[int]) -> None:
    keys = natural_keys(pd.Series([f"study{number}.x" for number in numbers], dtype="str"))
    assert np.argsort(keys.to_numpy(dtype=object)).tolist() == np.argsort(np.array(numbers, dtype=object)).tolist()


def test_the_summary_counts_everything(cohort: Cohort) -> None:
    assert cohort.summary() == {
        "radiographs": 4,
        "patients": 2,
        "studies": 3,
        "laterality": {"frontal": 2, "lateral": 1, "unknown": 1},
        "findings": {"pleural_effusion": {"present": 1, "absent": 1, "uncertain": 1, "missing": 1}},
    }


def test_a_file_that_may_not_be_read_is_no_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Failed to open local file 'c.parquet'. Detail: [errno 13] Permission denied")

    (tmp_path / "c.parquet").write_bytes(b"damaged")
    with pytest.raises(CxrPairError, match=r"c\.parquet cannot be read as a cohort file \(parquet\)$"):
        Cohort.read(tmp_path / "c.parquet")
    monkeypatch.setattr(pq, "read_table", refuse)
    with pytest.raises(CxrPairError, match=r"c\.parquet cannot be read: Permission denied$"):
        Cohort.read(tmp_path / "c.parquet")
