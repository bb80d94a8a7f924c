from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_cxrpair.cohort.deidentify import day_shift, load_key, pseudonyms
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.errors import CxrPairError

MakeDicom = Callable[..., Path]
KEY = b"k" * 32


@pytest.fixture
def export(make_dicom: MakeDicom, tmp_path: Path) -> Path:
    common = {"PatientID": "SECRETID", "PatientName": "Secretname^Anna", "PatientAge": "093Y"}
    for number, day in enumerate(("20200101", "20200111")):
        make_dicom(
            f"{number}.dcm",
            **common,
            SOPInstanceUID=f"1.77.{number}",
            StudyInstanceUID=f"1.88.{number}",
            StudyDate=day,
            StudyDescription="SECRETNAME chest",
            ViewPosition="SECRETVIEW" if number else "PA",
            AccessionNumber="SECRETACC",
        )
    return tmp_path / "pacs"


def test_no_identifier_reaches_the_cohort_the_rejects_or_the_notes(export: Path, tmp_path: Path) -> None:
    result = index_source(export, out=tmp_path / "c.parquet")
    text = result.cohort.table.to_csv() + " ".join(result.notes)
    text += str(pq.read_schema(tmp_path / "c.parquet").metadata) + (tmp_path / "c.rejects.csv").read_text()
    for token in ("SECRET", "Secret", "1.77.", "1.88."):
        assert token not in text
    assert result.cohort.table["age"].tolist() == [90.0, 90.0]


def test_intervals_survive_and_dates_do_not(export: Path, tmp_path: Path) -> None:
    days = index_source(export, out=tmp_path / "c.parquet").cohort.table["study_datetime"]
    assert days[1] - days[0] == pd.Timedelta(days=10)
    assert days[0] < pd.Timestamp("2020-01-01")
    assert days[0].strftime("%X") == "10:15:30"


def test_the_same_key_gives_the_same_ids_and_another_key_gives_others(export: Path, tmp_path: Path) -> None:
    first = index_source(export, out=tmp_path / "c.parquet").cohort
    key = (tmp_path / "c.key").read_bytes()
    assert index_source(export, out=tmp_path / "c.parquet").cohort.fingerprint() == first.fingerprint()
    assert (tmp_path / "c.key").read_bytes() == key
    assert index_source(export, out=tmp_path / "d.parquet").cohort.fingerprint() != first.fingerprint()


def test_key_and_mapping_are_for_the_owner_and_lead_back(export: Path, tmp_path: Path) -> None:
    cohort = index_source(export, out=tmp_path / "c.parquet").cohort
    for name in ("c.parquet", "c.key", "c.mapping.csv", "c.rejects.csv"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    mapping = pd.read_csv(tmp_path / "c.mapping.csv", dtype=str)
    assert mapping["image_id"].tolist() == cohort.table["image_id"].tolist()
    assert mapping["original_patient_id"].tolist() == ["SECRETID"] * 2
    assert mapping["original_study_id"].tolist() == ["1.88.0", "1.88.1"]


def test_identifiers_are_kept_on_request_and_then_there_is_no_key(export: Path, tmp_path: Path) -> None:
    cohort = index_source(export, out=tmp_path / "c.parquet", keep_identifiers=True).cohort
    assert cohort.table["patient_id"].tolist() == ["SECRETID"] * 2
    assert cohort.table["age"].tolist() == [93.0, 93.0]
    assert not (tmp_path / "c.key").exists()
    assert not (tmp_path / "c.mapping.csv").exists()


def test_a_key_that_is_broken_short_or_open_to_others_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "c.key"
    for text, message in (("nonsense", "cannot be used"), ("abcd", "too short"), ("ab" * 32, "chmod 600")):
        key.write_text(text)
        key.chmod(0o644 if message == "chmod 600" else 0o600)
        with pytest.raises(CxrPairError, match=message):
            load_key(key)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=30))
def test_pseudonyms_are_one_to_one(values: list[str]) -> None:
    series = pd.Series(values, dtype="str")
    hashed = pseudonyms(series, "patient", KEY)
    assert hashed.nunique() == series.nunique()
    assert hashed.str.fullmatch("[0-9a-f]{16}").all()
    assert (hashed != pseudonyms(series, "study", KEY)).all()


@given(st.text(max_size=20), st.binary(min_size=32, max_size=32))
def test_a_shift_is_never_zero(patient: str, key: bytes) -> None:
    assert -3650 <= day_shift(patient, key) <= -1


def test_a_collision_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_cxrpair.cohort.deidentify._digest", lambda *_: b"\0" * 32)
    with pytest.raises(CxrPairError, match="same hash"):
        pseudonyms(pd.Series(["a", "b"], dtype="str"), "patient", KEY)


def test_a_lost_key_is_told(make_dicom: Callable[..., Path], tmp_path: Path) -> None:
    make_dicom("1")
    first = index_source(tmp_path / "pacs", out=tmp_path / "c.parquet")
    (tmp_path / "c.key").unlink()
    make_dicom("2", SOPInstanceUID="1.2")
    second = index_source(tmp_path / "pacs", out=tmp_path / "c.parquet")
    assert not any("key" in note for note in first.notes)
    assert any("key of the earlier cohort is gone" in note for note in second.notes)
