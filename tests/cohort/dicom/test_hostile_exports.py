"""What broke the index step once: names, links, dates, damaged archives, files that could not be opened."""

import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monai_cxrpair.cohort.deidentify import load_key
from monai_cxrpair.cohort.dicom import archives, rows
from monai_cxrpair.cohort.dicom.archives import open_file
from monai_cxrpair.cohort.index import index_source

MakeDicom = Callable[..., Path]


def _index(tmp_path: Path, **options: Any) -> dict[str, str]:
    result = index_source(tmp_path / "pacs", out=tmp_path / "out" / "c.parquet", keep_identifiers=True, **options)
    assert len(result.cohort) + len(result.rejects) == result.files_seen
    kept = dict.fromkeys(result.cohort.table["path"], "kept")
    return kept | dict(zip(result.rejects["path"], result.rejects["reason"], strict=True))


def _tar(files: dict[str, bytes]) -> tuple[bytes, dict[str, int]]:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(fileobj=io.BytesIO(content.getvalue())) as tar:
        return content.getvalue(), {info.name: info.offset for info in tar}


def test_links_to_themselves_do_not_hide_the_rest_of_the_folder(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("z/1")
    (tmp_path / "pacs/a").symlink_to("b")
    (tmp_path / "pacs/b").symlink_to("a")
    assert _index(tmp_path) == {"z/1": "kept", "a": "unreadable", "b": "unreadable"}


def test_a_file_may_have_any_name(make_dicom: MakeDicom, tmp_path: Path) -> None:
    names = [" ", "..\n", "a\rb", "\r", "\n", '"', "a,b", "-x", "\u2028"]
    for number, name in enumerate(names):
        make_dicom(name, SOPInstanceUID=f"1.{number}")
        make_dicom(f"ct{name}", Modality="CT")
    found = _index(tmp_path)
    assert found == dict.fromkeys(names, "kept") | {f"ct{name}": "other modality" for name in names}


def test_dates_and_ages_that_cannot_be_are_missing(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("1", SOPInstanceUID="1.1", StudyInstanceUID="1.1", StudyDate="00010101")
    make_dicom("2", SOPInstanceUID="1.2", StudyInstanceUID="1.2", StudyDate="202011")
    make_dicom("3", SOPInstanceUID="1.3", StudyInstanceUID="1.3", PatientAge=None, PatientBirthDate="18500101")
    make_dicom("4", SOPInstanceUID="1.4", StudyInstanceUID="1.4", PatientAge=None, PatientBirthDate="19000101")
    result = index_source(tmp_path / "pacs", out=tmp_path / "c.parquet", keep_identifiers=True)
    assert result.cohort.table["study_datetime"].isna().tolist() == [True, True, False, False]
    assert result.cohort.table["age"].isna().tolist() == [False, False, True, False]


def test_a_full_width_blank_is_no_patient_id(make_dicom: MakeDicom, tmp_path: Path) -> None:
    make_dicom("1")
    make_dicom("2", PatientID="\u3000", SpecificCharacterSet="ISO_IR 192")
    assert _index(tmp_path) == {"1": "kept", "2": "no patient id"}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_what_is_kept_of_a_damaged_archive_can_be_read(make_dicom: MakeDicom, tmp_path: Path, suffix: str) -> None:
    one = make_dicom("1", SOPInstanceUID="1.1", StudyInstanceUID="1.1").read_bytes()
    two = make_dicom("2", SOPInstanceUID="1.2", StudyInstanceUID="1.2").read_bytes()
    (tmp_path / "pacs/2").unlink()
    whole, at = _tar({"a": two, "b": bytes(9000), "c": bytes(9000)})
    broken_head = bytearray(whole)
    broken_head[at["b"]] ^= 0xFF
    pack = gzip.compress if suffix.endswith("gz") else bytes
    for name, content in {"cut": whole[: at["c"] - 500], "head": whole[: at["c"] + 99], "sum": broken_head}.items():
        (tmp_path / "pacs" / f"x{suffix}").write_bytes(pack(content))
        found = _index(tmp_path)
        assert found[f"x{suffix}"] == "archive", f"{name}: nothing ends silently"
        assert found[f"x{suffix}/a"] == "kept"
        with open_file(tmp_path / "pacs" / f"x{suffix}" / "a") as file:
            assert file.read() == two
    assert one


def test_a_head_that_claims_gigabytes_ends_the_archive_and_not_the_memory(
    make_dicom: MakeDicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dicom("1")
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 50_000
    (tmp_path / "pacs/x.tar").write_bytes(info.tobuf() + b"30 path=y\n".ljust(50_176) + bytes(1024))
    monkeypatch.setattr(archives, "_LONGEST", 10_000)
    assert _index(tmp_path) == {"1": "kept", "x.tar": "archive"}


def test_one_bad_file_in_a_zip_does_not_take_the_others_along(make_dicom: MakeDicom, tmp_path: Path) -> None:
    good = make_dicom("1").read_bytes()
    with zipfile.ZipFile(tmp_path / "pacs/x.zip", "w") as opened:
        opened.writestr("a", b"hello")
        opened.writestr("b", good)
    raw = bytearray((tmp_path / "pacs/x.zip").read_bytes())
    raw[raw.index(b"PK\x01\x02") + 10] = 99  # a compression that nobody knows
    (tmp_path / "pacs/x.zip").write_bytes(raw)
    assert _index(tmp_path) == {"1": "kept", "x.zip/a": "unreadable", "x.zip/b": "duplicate"}


def test_a_file_that_could_not_be_opened_is_tried_again(
    make_dicom: MakeDicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1", "2"):
        os.utime(make_dicom(name, SOPInstanceUID=f"1.{name}"), (1.1e9 + 0.1, 1.1e9 + 0.1))
    opened = os.open
    with monkeypatch.context() as denied:

        def deny(path: Any, *args: Any) -> int:
            if str(path).endswith("pacs/2"):
                raise PermissionError(13, "Permission denied")
            return opened(path, *args)

        denied.setattr(rows.os, "open", deny)
        assert _index(tmp_path) == {"1": "kept", "2": "unreadable"}
    assert _index(tmp_path) == {"1": "kept", "2": "kept"}


@pytest.mark.parametrize("preamble", [b"MZ\x90", b"\x7fELF\x02", b"#!/bin/sh\n", b"%PDF-1.7", b"<script>"])
def test_a_file_that_is_a_program_too_is_read_and_told_of(
    make_dicom: MakeDicom, tmp_path: Path, preamble: bytes
) -> None:
    """A polyglot: the preamble may hold anything (PS3.10 7.1, CVE-2019-11687)."""
    path, other = make_dicom("1"), make_dicom("2")
    path.write_bytes(preamble.ljust(128, b"\0") + path.read_bytes()[128:])
    other.write_bytes(b"II*\0".ljust(128, b"\0") + other.read_bytes()[128:])  # TIFF is what the preamble is for
    result = index_source(tmp_path / "pacs", out=tmp_path / "out" / "c.parquet")
    assert len(result.cohort) == 2
    (note,) = [note for note in result.notes if "program" in note]
    assert note.endswith(": 1")


def test_what_a_killed_run_left_beside_its_output_is_no_part_of_the_export(
    make_dicom: MakeDicom, tmp_path: Path
) -> None:
    make_dicom("1")
    for name in (".c.parquet.ab12_xyz.tmp", ".c.state.ab12_xyz.tmp"):
        (tmp_path / "pacs" / name).write_bytes(b"half")
    assert index_source(tmp_path / "pacs", out=tmp_path / "pacs" / "c.parquet").files_seen == 1


def test_a_key_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(Exception, match="No space left"):
            load_key(tmp_path / "c.key")
    assert list(tmp_path.iterdir()) == []
    key = load_key(tmp_path / "c.key")
    assert load_key(tmp_path / "c.key") == key
    assert (tmp_path / "c.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="needs a process group")
def test_an_interrupt_of_all_processes_ends_them(tmp_path: Path) -> None:
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell starts background jobs without it
        "from monai_cxrpair.cohort.processes import in_processes\n"
        "print('go', flush=True)\n"
        "for _ in in_processes(time.sleep, [0.001] * 20000, workers=2, few=1): pass\n"
    )
    for delay in (0.3, 0.5, 0.7):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=20)
            assert said.count(b"Traceback") == 1, "only the process that was started says something"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
