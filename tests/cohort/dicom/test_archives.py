import gc
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from monai_cxrpair.cohort.dicom import archives
from monai_cxrpair.cohort.dicom.archives import open_file, safe_name
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.errors import CxrPairError

MakeDicom = Callable[..., Path]


def _pack(archive: Path, files: dict[str, bytes]) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            for name, content in files.items():
                opened.writestr(name, content)
        return archive
    with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return archive


def _index(source: Path, tmp_path: Path, **options: Any) -> dict[str, str]:
    result = index_source(source, out=tmp_path / "out" / "c.parquet", keep_identifiers=True, **options)
    kept = dict.fromkeys(result.cohort.table["path"], "kept")
    found = kept | dict(zip(result.rejects["path"], result.rejects["reason"], strict=True))
    assert len(found) == result.files_seen
    return found


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
@pytest.mark.parametrize("within_a_folder", [True, False])
def test_an_archive_is_indexed_where_it_lies(
    make_dicom: MakeDicom, tmp_path: Path, suffix: str, within_a_folder: bool
) -> None:
    one, two = make_dicom("1", SOPInstanceUID="1.1"), make_dicom("2", SOPInstanceUID="1.2", Modality="CT")
    files = {"DICOM/IM1": one.read_bytes(), "DICOM/IM2": two.read_bytes(), "README.txt": b"hello"}
    folder = tmp_path / "export"
    archive = _pack(folder / f"april{suffix}", files)
    before = sorted(folder.rglob("*"))
    found = _index(folder if within_a_folder else archive, tmp_path)
    name = archive.name
    assert found == {
        f"{name}/DICOM/IM1": "kept",
        f"{name}/DICOM/IM2": "other modality",
        f"{name}/README.txt": "not dicom",
    }
    assert sorted(folder.rglob("*")) == before, "nothing is unpacked into the export"
    with open_file(folder / name / "DICOM/IM1") as file:
        assert file.read() == one.read_bytes()
        file.seek(10)
        assert file.read(5) == one.read_bytes()[10:15]


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_names_that_lead_out_of_the_archive_are_refused(make_dicom: MakeDicom, tmp_path: Path, suffix: str) -> None:
    good = make_dicom("1").read_bytes()
    hostile = ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil"]
    archive = _pack(tmp_path / "export" / f"x{suffix}", {"good": good, **dict.fromkeys(hostile, good)})
    before = {path for path in tmp_path.rglob("*") if "out" not in path.parts}
    found = _index(archive, tmp_path)
    assert found.pop(f"{archive.name}/good") == "kept"
    assert set(found.values()) == {"unsafe path"}
    assert len(found) == len(hostile)
    assert {path for path in tmp_path.rglob("*") if "out" not in path.parts} == before


def test_links_and_devices_in_an_archive_are_not_followed(make_dicom: MakeDicom, tmp_path: Path) -> None:
    good = make_dicom("1").read_bytes()
    tar_file = _pack(tmp_path / "export" / "a.tar", {"good": good})
    with tarfile.open(tar_file, "a") as tar:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("pipe", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "good"
            tar.addfile(info)
    zip_file = _pack(tmp_path / "export" / "b.zip", {"other": b"x"})
    with zipfile.ZipFile(zip_file, "a") as opened:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc/passwd")
    found = _index(tmp_path / "export", tmp_path)
    unreadable = {name for name, reason in found.items() if reason == "unreadable"}
    assert unreadable == {"a.tar/link", "a.tar/hard", "a.tar/pipe", "b.zip/link"}


def test_a_bomb_a_password_and_an_archive_in_an_archive_have_their_reasons(
    make_dicom: MakeDicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = make_dicom("1").read_bytes()
    archive = _pack(tmp_path / "export" / "x.zip", {"good": good, "bomb": bytes(3_000_000), "inner.zip": b"PK"})
    raw = bytearray(archive.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # set the flag of encryption on the first file
        raw[raw.index(mark) + at] |= 1
    (tmp_path / "export" / "locked.zip").write_bytes(raw)
    monkeypatch.setattr(archives, "_MAX_RATIO", 500)
    found = _index(tmp_path / "export", tmp_path)
    assert found["x.zip/good"] == "kept"
    assert found["x.zip/bomb"] == "implausible size"
    assert found["x.zip/inner.zip"] == "archive"
    assert found["locked.zip/good"] == "encrypted"


def test_a_gzip_bomb_ends_before_it_fills_the_memory(
    make_dicom: MakeDicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dicom("1")
    bomb = tmp_path / "pacs" / "bomb.tar.gz"
    _pack(bomb, {"a": bytes(100), "z": bytes(20_000_000)})
    found_before = _index(tmp_path / "pacs", tmp_path)
    assert found_before["bomb.tar.gz/z"] == "not dicom"
    monkeypatch.setattr(archives, "_MAX_RATIO", 10)
    found = _index(tmp_path / "pacs", tmp_path / "second")
    assert found["bomb.tar.gz"] == "archive"
    assert found["1"] == "kept"


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
def test_a_damaged_archive_is_one_reject_and_does_not_stop_the_rest(
    make_dicom: MakeDicom, tmp_path: Path, suffix: str
) -> None:
    good = make_dicom("1").read_bytes()
    whole = _pack(tmp_path / "whole" / f"x{suffix}", {"a": good, "b": os.urandom(50_000)})
    (tmp_path / "pacs" / f"cut{suffix}").write_bytes(whole.read_bytes()[: len(whole.read_bytes()) // 2])
    (tmp_path / "pacs" / f"no{suffix}").write_bytes(b"this is no archive" * 100)
    found = _index(tmp_path / "pacs", tmp_path)
    assert found["1"] == "kept"
    assert found[f"no{suffix}"] == "archive"
    assert found[f"cut{suffix}"] == "archive"


def test_the_same_name_twice_in_an_archive_is_a_duplicate(make_dicom: MakeDicom, tmp_path: Path) -> None:
    good = make_dicom("1", SOPInstanceUID="1.1").read_bytes()
    other = make_dicom("2", SOPInstanceUID="1.2").read_bytes()
    archive = tmp_path / "export" / "x.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a", good)
        with pytest.warns(UserWarning, match="Duplicate name"):
            opened.writestr("a", other)
    result = index_source(archive, out=tmp_path / "c.parquet", keep_identifiers=True)
    assert result.summary["rejected"] == {"duplicate": 1}
    assert result.cohort.table["image_id"].tolist() == ["1.1"]


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_of_a_name_that_is_there_twice_headers_and_pixels_are_the_first(tmp_path: Path, suffix: str) -> None:
    """`tar -r` and `zip` append: unpacking would give the last."""
    archive = _pack(tmp_path / f"x{suffix}", {"a": b"first", "./a": b"last", "folder//b": b"other"})
    read = {name: None if file is None else file.read() for name, file, _, _ in archives.members(archive)}
    assert read.pop("folder/b") == b"other"
    assert list(read) == ["a"]
    with open_file(archive / "a") as file:
        assert file.read() == b"first"
    with open_file(archive / "folder/b") as file:
        assert file.read() == b"other"


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
def test_names_that_begin_with_the_folder_itself_can_be_opened(
    make_dicom: MakeDicom, tmp_path: Path, suffix: str
) -> None:
    """`tar -C export .` writes `./DICOM/IM1`."""
    archive = _pack(tmp_path / "export" / f"x{suffix}", {"./DICOM/IM1": make_dicom("1").read_bytes()})
    result = index_source(archive, out=tmp_path / "c.parquet")
    assert result.cohort.table["path"].tolist() == [f"{archive.name}/DICOM/IM1"]
    with open_file(result.cohort.paths()[0]) as file:
        assert file.read() == (tmp_path / "pacs" / "1").read_bytes()


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
def test_many_threads_may_read_one_archive(tmp_path: Path, suffix: str) -> None:
    """As the threads do that fill the cache of the radiographs."""
    contents = {f"{number}": bytes([number]) * 300_000 for number in range(40)}
    archive = _pack(tmp_path / f"x{suffix}", contents)

    def read(name: str) -> bytes:
        with open_file(archive / name) as file:
            return b"".join(iter(lambda: file.read(1000), b""))

    with ThreadPoolExecutor(8) as pool:
        assert dict(zip(contents, pool.map(read, contents), strict=True)) == contents


def test_an_unpacked_archive_gives_its_disk_space_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def spy(**options: Any) -> Any:
        made.append(TemporaryFile(**options))  # noqa: SIM115
        return made[-1]

    monkeypatch.setattr(archives.tempfile, "TemporaryFile", spy)
    for number in range(4):
        with open_file(_pack(tmp_path / f"{number}.tar.gz", {"a": b"1"}) / "a") as file:
            assert file.read() == b"1"
    gc.collect()
    assert [file.closed for file in made] == [True, True, False, False]


def test_a_file_that_is_not_in_the_archive_is_an_os_error(tmp_path: Path) -> None:
    archive = _pack(tmp_path / "x.zip", {"a": b"1"})
    for path in (archive / "b", tmp_path / "no.zip" / "a"):
        with pytest.raises(FileNotFoundError), open_file(path):
            pass


def test_an_archive_with_nothing_usable_is_one_line(tmp_path: Path) -> None:
    archive = _pack(tmp_path / "x.zip", {"a": b"1"})
    with pytest.raises(CxrPairError, match="1 files were left out"):
        index_source(archive, out=tmp_path / "c.parquet")


def test_safe_names() -> None:
    assert safe_name("a/b.dcm")
    assert safe_name("山田/IM1")
    for name in ("", ".", "/a", "..", "a/../b", "a\\b", "a\0b", "\udce4"):
        assert not safe_name(name)
