import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from monai_cxrpair.cohort import index
from monai_cxrpair.cohort.dicom import export as dicom
from monai_cxrpair.cohort.dicom import state
from monai_cxrpair.cohort.dicom.reindex import options_digest
from monai_cxrpair.cohort.dicom.rows import read_rows
from monai_cxrpair.cohort.dicom.walk import is_unchanged, list_files
from monai_cxrpair.cohort.index import IndexResult, index_source
from monai_cxrpair.cohort.labels import join_labels
from monai_cxrpair.errors import CxrPairError

MakeDicom = Callable[..., Path]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose headers were read."""
    names: list[str] = []

    def spy(chunk: list[str], *, root: Path) -> pa.RecordBatch:
        names.extend(chunk)
        return read_rows(chunk, root=root)

    monkeypatch.setattr(dicom, "read_rows", spy)
    return names


def _index(tmp_path: Path, **options: Any) -> IndexResult:
    return index_source(tmp_path / "pacs", out=tmp_path / "out" / "c.parquet", **options)


def _age(folder: Path, seconds: float = 60) -> None:
    """Let files and folders look as if they had been there for a while."""
    moment = time.time() - seconds
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (moment + 0.123, moment + 0.123))


def test_only_new_and_changed_files_are_read_again(make_dicom: MakeDicom, tmp_path: Path, read: list[str]) -> None:
    for name in ("a/1", "a/2", "b/3", "b/note"):
        make_dicom(name, SOPInstanceUID=f"1.{ord(name[-1])}")
    (tmp_path / "pacs/b/note").write_text("hello")
    _age(tmp_path / "pacs")
    first = _index(tmp_path)
    assert sorted(read) == ["a/1", "a/2", "b/3", "b/note"]
    read.clear()
    make_dicom("b/4", SOPInstanceUID="1.99")
    make_dicom("a/2", SOPInstanceUID="1.50", PatientID="P2", StudyInstanceUID="1.7")
    (tmp_path / "pacs/a/1").unlink()
    second = _index(tmp_path)
    assert sorted(read) == ["a/2", "b/4"]
    assert (first.files_seen, second.files_seen) == (4, 4)
    fresh = index_source(tmp_path / "pacs", out=tmp_path / "fresh" / "c.parquet", keep_identifiers=True).cohort.table
    known = _index(tmp_path, keep_identifiers=True).cohort.table
    pd.testing.assert_frame_equal(known, fresh)


def test_nothing_new_is_noticed_without_listing_anything(
    make_dicom: MakeDicom, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dicom("a/1")
    (tmp_path / "pacs/a/note").write_text("hello")
    _age(tmp_path / "pacs")
    first = _index(tmp_path)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(dicom, "list_files", None)
    second = _index(tmp_path)
    assert second.unchanged
    assert not first.unchanged
    assert {**second.as_json(), "unchanged": False} == first.as_json()
    pd.testing.assert_frame_equal(second.cohort.table, first.cohort.table)
    pd.testing.assert_frame_equal(second.rejects, first.rejects)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == written


@pytest.mark.parametrize("changed", ["option", "labels", "output", "removed", "renamed", "touched"])
def test_whatever_else_the_result_depends_on_makes_it_anew(make_dicom: MakeDicom, tmp_path: Path, changed: str) -> None:
    make_dicom("a/1", SOPInstanceUID="1.1")
    make_dicom("a/2", SOPInstanceUID="1.2")
    labels = tmp_path / "labels.csv"
    labels.write_text("image_id,pleural_effusion\n1.1,1\n")
    _age(tmp_path / "pacs")
    _index(tmp_path, labels=labels)
    assert _index(tmp_path, labels=labels).unchanged
    keep = None
    if changed == "option":
        keep = True
    elif changed == "labels":
        labels.write_text("image_id,pleural_effusion\n1.1,1\n1.2,0\n")
    elif changed == "output":
        (tmp_path / "out/c.rejects.csv").write_text("nonsense")
    elif changed == "removed":
        (tmp_path / "pacs/a/2").unlink()
    elif changed == "renamed":
        (tmp_path / "pacs/a/2").rename(tmp_path / "pacs/a/3")
    else:
        (tmp_path / "pacs/a/2").touch()
    result = _index(tmp_path, labels=labels, keep_identifiers=keep)
    assert not result.unchanged
    assert len(result.cohort) == (1 if changed == "removed" else 2)
    assert result.rejects.columns.tolist() == ["path", "reason"]


def test_labels_that_change_while_the_export_is_read_are_read_next_time(
    make_dicom: MakeDicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dicom("1", SOPInstanceUID="1.1")
    labels = tmp_path / "labels.csv"
    labels.write_text("image_id,pleural_effusion\n1.1,1\n")
    _age(tmp_path / "pacs")

    def edited(*values: Any, **options: Any) -> Any:
        labels.write_text("image_id,pleural_effusion\n1.1,0\n")
        return join_labels(*values, **options)

    monkeypatch.setattr(index, "join_labels", edited)
    assert _index(tmp_path, labels=labels).cohort.table["pleural_effusion"].tolist() == [1]
    monkeypatch.undo()
    assert _index(tmp_path, labels=labels).cohort.table["pleural_effusion"].tolist() == [0]


def test_the_same_words_in_another_folder_or_with_another_check_are_another_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    here = options_digest({"source": Path("x"), "check": _check, "finding": {"a": "b"}})
    assert here == options_digest({"source": tmp_path / "x", "check": _check, "finding": {"a": "b"}})
    assert here != options_digest({"source": Path("x"), "check": _age, "finding": {"a": "b"}})
    monkeypatch.chdir(tmp_path / "a")
    assert here != options_digest({"source": Path("x"), "check": _check, "finding": {"a": "b"}})


def test_other_code_of_the_same_version_reads_all_again(
    make_dicom: MakeDicom, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dicom("1")
    _age(tmp_path / "pacs")
    _index(tmp_path)
    assert _index(tmp_path).unchanged
    package = tmp_path / "edited"
    package.mkdir()
    (package / "__init__.py").write_text("rule = 2\n")
    monkeypatch.setattr(state.monai_cxrpair, "__file__", str(package / "__init__.py"))
    state._format.cache_clear()
    try:
        assert not _index(tmp_path).unchanged
    finally:
        state._format.cache_clear()
    assert read == ["1", "1"]


def test_an_export_without_one_file_that_can_be_decoded_says_so(make_dicom: MakeDicom, tmp_path: Path) -> None:
    for name in ("1", "2"):
        make_dicom(name, SOPInstanceUID=f"1.{name}", PixelData=b"\xff" * 48)
    with pytest.raises(CxrPairError, match="undecodable 2"):
        _index(tmp_path, check_pixels=_check)


def test_a_file_that_has_just_been_written_is_not_trusted(make_dicom: MakeDicom, tmp_path: Path) -> None:
    """Within the grain of the clock it could change again under the same time and size."""
    path = make_dicom("1")
    moment = time.time_ns()
    os.utime(path, ns=(moment, moment))
    listing = list_files(tmp_path / "pacs", root=tmp_path / "pacs")
    assert not is_unchanged(listing, root=tmp_path / "pacs")
    _age(tmp_path / "pacs")
    assert is_unchanged(list_files(tmp_path / "pacs", root=tmp_path / "pacs"), root=tmp_path / "pacs")
    os.utime(path, (int(time.time()) - 1, int(time.time()) - 1))  # whole seconds: a file system with a coarse clock
    assert not is_unchanged(list_files(tmp_path / "pacs", root=tmp_path / "pacs"), root=tmp_path / "pacs")


def test_a_killed_step_goes_on_where_it_was(
    make_dicom: MakeDicom, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        make_dicom(f"{number:02d}", SOPInstanceUID=f"1.{number}")
    _age(tmp_path / "pacs")
    monkeypatch.setattr(dicom, "_CHUNK", 2)
    monkeypatch.setattr(dicom, "_SAVE_SECONDS", 0)

    def killed(done: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _index(tmp_path, progress=killed)
    assert not (tmp_path / "out/c.parquet").exists()
    before = set(read)
    read.clear()
    result = _index(tmp_path)
    assert len(result.cohort) == 12
    assert len(set(read)) == 6, "what was saved is not read again"
    assert set(read) | before == {f"{number:02d}" for number in range(12)}


def test_a_damaged_state_is_made_anew(make_dicom: MakeDicom, tmp_path: Path, read: list[str]) -> None:
    make_dicom("1")
    _age(tmp_path / "pacs")
    _index(tmp_path)
    state = tmp_path / "out" / "c.state"
    assert state.stat().st_mode & 0o777 == 0o600
    whole = state.read_bytes()
    for content in (b"", b"nonsense", whole[:100], whole[: len(whole) // 2]):
        state.write_bytes(content)
        read.clear()
        assert len(_index(tmp_path).cohort) == 1
        assert read == ["1"]


def test_another_folder_under_the_same_output_is_read_anew(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("1")
    _age(tmp_path / "pacs")
    _index(tmp_path)
    shutil.copytree(tmp_path / "pacs", tmp_path / "other")
    assert not index_source(tmp_path / "other", out=tmp_path / "out" / "c.parquet").unchanged


def test_an_archive_that_changed_is_read_as_a_whole(make_dicom: MakeDicom, tmp_path: Path, read: list[str]) -> None:
    import zipfile

    good = make_dicom("1", SOPInstanceUID="1.1").read_bytes()
    other = make_dicom("2", SOPInstanceUID="1.2").read_bytes()
    archive = tmp_path / "pacs" / "x.zip"
    for number, content in enumerate((good, other), 3):
        with zipfile.ZipFile(archive, "a") as opened:
            opened.writestr(f"{number}", content.replace(b"1.2.3", f"1.2.{number}".encode()))
    _age(tmp_path / "pacs")
    assert _index(tmp_path).files_seen == 4
    read.clear()
    assert _index(tmp_path).unchanged
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("9", b"hello")
    assert _index(tmp_path).files_seen == 5
    assert read == ["x.zip"]


def _check(path: Path) -> dict[str, str | float]:
    content = path.read_bytes()
    if content.endswith(b"\xff\xff"):
        raise CxrPairError(f"{path}: damaged")
    with (path.parent.parent / "checked").open("a") as file:
        file.write(path.name + "\n")
    hashed = str(hash(content[-40:]))
    return {"pixel_hash": hashed, "perceptual_hash": "00", "scaling": "8 bit", "exposed_fraction": 1.0}


def test_checked_pixels_leave_out_damaged_files_and_copies_and_are_kept(make_dicom: MakeDicom, tmp_path: Path) -> None:
    pixels = {"1": b"\1" * 48, "2": b"\1" * 48, "3": b"\xff" * 48, "4": b"\4" * 48}
    for name, content in pixels.items():
        make_dicom(name, SOPInstanceUID=f"1.{name}", PixelData=content)
    make_dicom("0", SOPInstanceUID="1.4", PixelData=b"\xff" * 48)  # damaged; the whole one of the same image is kept
    _age(tmp_path / "pacs")
    result = _index(tmp_path, check_pixels=_check, keep_identifiers=True)
    assert result.cohort.table["path"].tolist() == ["1", "4"]
    assert result.cohort.table["perceptual_hash"].tolist() == ["00", "00"]
    reasons = dict(zip(result.rejects["path"], result.rejects["reason"], strict=True))
    assert reasons == {"0": "undecodable", "2": "duplicate", "3": "undecodable"}
    make_dicom("5", SOPInstanceUID="1.5", PixelData=b"\5" * 48)
    again = _index(tmp_path, check_pixels=_check, keep_identifiers=True)
    assert len(again.cohort) == 3
    assert (tmp_path / "checked").read_text().split() == ["1", "2", "4", "5"], "nothing is decoded twice"
    plain = _index(tmp_path, keep_identifiers=True)
    assert len(plain.cohort) == 5
    assert "pixel_hash" not in plain.cohort.table


def test_a_table_can_be_checked_too(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, content in (("a.png", b"one"), ("b.png", b"one"), ("c.png", b"\xff\xff"), ("d.png", b"two")):
        (folder / name).write_bytes(content)
    table = tmp_path / "images" / "t.csv"
    table.write_text("patient_id,study_id,path\n" + "".join(f"{n},{n},{n}.png\n" for n in "abcde"))
    result = index_source(table, out=tmp_path / "c.parquet", check_pixels=_check)
    assert result.cohort.table["path"].tolist() == ["a.png", "d.png"]
    assert result.summary["rejected"] == {"duplicate": 1, "missing file": 1, "undecodable": 1}


def test_what_a_pull_keeps_in_the_export_is_not_part_of_it(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("1")
    make_dicom(".cxrpair-pull/parts/1")
    assert _index(tmp_path).files_seen == 1
