"""DICOMweb against a server that misbehaves on purpose."""

import base64
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs import dicomweb
from monai_cxrpair.pacs.query import Query


def _files(tmp_path: Path) -> list[str]:
    return sorted(path.stem for path in (tmp_path / "export").glob("*/*.dcm"))


ALL = ["1.2.3.1", "1.2.3.2", "1.2.3.3"]


def test_the_files_are_the_servers_bytes_and_nobody_else_can_read_them(web, pull_from, tmp_path):
    result = pull_from(web.url)
    assert (result.studies, result.instances, result.fetched, result.failed) == (1, 3, 3, 0)
    assert _files(tmp_path) == ALL
    encoded = type(web).answer(web, "/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1")[2]
    content = (tmp_path / "export" / "1.2" / "1.2.3.1.dcm").read_bytes()
    assert b"\r\n\r\n" + content + b"\r\n--XX--" in encoded
    for path in (tmp_path / "export").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert all("transfer-syntax=*" in head["Accept"] for head in web.headers if "multipart" in head["Accept"])


def test_a_server_that_answers_503_is_asked_again_later(web, pull_from, tmp_path):
    busy = dict.fromkeys(ALL, 2)

    def before(path):
        uid = path.split("?")[0].rsplit("/", 1)[-1]
        if busy.get(uid, 0):
            busy[uid] -= 1
            return 503, {}, b"busy"
        return None

    web.before = before
    assert pull_from(web.url).fetched == 3
    assert sorted(web.fetches) == sorted(ALL * 3)


def test_a_server_may_say_how_long_to_wait(web, pull_from):
    moments = []

    def before(path):
        if path.endswith("/1.2.3.1"):
            moments.append(time.monotonic())
            return (429, {"Retry-After": "1"}, b"") if len(moments) == 1 else None
        return None

    web.before = before
    assert pull_from(web.url).fetched == 3
    assert moments[1] - moments[0] >= 1


@pytest.mark.parametrize("declared", ["whole", "none"])
def test_a_connection_that_breaks_in_the_middle_of_a_body_leaves_nothing_and_is_tried_again(
    web, pull_from, tmp_path, declared
):
    tries = []

    def before(path):
        if not path.endswith("/1.2.3.2") or len(tries) == 2:
            return None
        tries.append(path)
        _, headers, body = web.answer(path)
        half = body[: len(body) // 2]
        return 200, {**headers, "Content-Length": str(len(body) if declared == "whole" else len(half))}, half

    web.before = before
    result = pull_from(web.url)
    assert (result.fetched, result.failed, len(tries)) == (3, 0, 2)
    assert _files(tmp_path) == ALL


def test_an_instance_that_never_comes_is_counted_and_the_rest_is_there(web, pull_from, tmp_path):
    web.before = lambda path: (500, {}, b"patient SECRET") if path.endswith("/1.2.3.2") else None
    result = pull_from(web.url)
    assert (result.fetched, result.failed, result.instances) == (2, 1, 3)
    assert dict(result.reasons) == {"the server answered 500": 1}
    assert web.fetches.count("1.2.3.2") == 3  # once and two retries
    web.before = lambda path: None
    again = pull_from(web.url)
    assert (again.fetched, again.already_there) == (1, 2)
    assert sorted(set(web.fetches[-1:])) == ["1.2.3.2"]


def test_what_the_server_no_longer_has_is_not_tried_again(web, pull_from):
    web.before = lambda path: (404, {}, b"") if path.endswith("/1.2.3.2") else None
    assert pull_from(web.url).failed == 1
    assert web.fetches.count("1.2.3.2") == 1


def test_wrong_credentials_are_one_error_and_no_storm_of_retries(web, pull_from, monkeypatch):
    monkeypatch.setenv("CXRPAIR_PACS_USER", "reader")
    monkeypatch.setenv("CXRPAIR_PACS_PASSWORD", "wrong-secret")
    web.before = lambda path: (401, {"WWW-Authenticate": "Basic"}, b"")
    with pytest.raises(CxrPairError, match=r"credentials \(401\)") as error:
        pull_from(web.url)
    assert len(web.requests) == 1
    assert "wrong-secret" not in str(error.value)
    assert "reader" not in str(error.value)


def test_credentials_that_expire_end_the_pull_and_the_next_goes_on(web, pull_from, tmp_path):
    web.before = lambda path: (401, {}, b"") if path.endswith(("/1.2.3.2", "/1.2.3.3")) else None
    with pytest.raises(CxrPairError, match="401"):
        pull_from(web.url)
    assert _files(tmp_path) == ALL[:1]
    web.before = lambda path: None
    assert (result := pull_from(web.url)).fetched == 2
    assert result.already_there == 1
    assert web.fetches.count("1.2.3.1") == 1


@pytest.mark.parametrize(
    ("variables", "header"),
    [
        ({"USER": "jörg", "PASSWORD": "a:b"}, "Basic " + base64.b64encode("jörg:a:b".encode()).decode()),
        ({"TOKEN": "t0ken"}, "Bearer t0ken"),
    ],
)
def test_credentials_of_the_environment_go_with_every_request(web, pull_from, monkeypatch, variables, header):
    for name, value in variables.items():
        monkeypatch.setenv(f"CXRPAIR_PACS_{name}", value)
    pull_from(web.url)
    assert {head.get("Authorization") for head in web.headers} == {header}


def test_no_credentials_of_a_netrc_file_are_sent(web, pull_from, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    pull_from(web.url)
    assert not any("Authorization" in head for head in web.headers)


def test_a_redirection_is_not_followed(web, pull_from):
    web.before = lambda path: (302, {"Location": "http://127.0.0.1:9/"}, b"")
    with pytest.raises(CxrPairError, match="redirects"):
        pull_from(web.url)


@pytest.mark.parametrize("limit", [2, 60])
def test_all_pages_are_read_whatever_the_server_takes_for_a_page(web, pull_from, limit, monkeypatch):
    monkeypatch.setattr(dicomweb, "SHORT", min(limit, 50))
    web.images = []
    for number in range(7 if limit == 2 else limit + 12):
        image = _image()
        image.StudyInstanceUID, image.SeriesInstanceUID = f"1.{number}", f"1.{number}.1"
        image.SOPInstanceUID = f"1.{number}.1.1"
        web.images.append(image)
    web.page_limit = limit
    result = pull_from(web.url)
    assert result.studies == len(web.images)
    assert not result.notes


def _image():
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    image.SOPClassUID, image.Modality, image.StudyDate = "1.2.840.10008.5.1.4.1.1.1", "DX", "20240105"
    return image


def test_a_server_without_further_pages_is_reported(web, pull_from, monkeypatch):
    monkeypatch.setattr(dicomweb, "PAGE", 2)
    monkeypatch.setattr(dicomweb, "SHORT", 1)
    first = web.images
    web.images = first[:1]
    for number in (7, 8, 9):
        image = _image()
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = (
            f"9.{number}",
            f"9.{number}.1",
            f"9.{number}.2",
        )
        web.images.append(image)
    web.ignores_offset = True
    result = pull_from(web.url)
    assert result.studies == 2
    assert "no further pages" in result.notes[0]


def test_answers_that_were_not_asked_for_are_left_out(web, pull_from, tmp_path):
    web.images[0].StudyDate = web.images[1].StudyDate = web.images[2].StudyDate = "20230105"
    result = pull_from(web.url)
    assert result.studies == 0
    assert "1 studies that the server found" in result.notes[0]
    web.images[0].StudyDate = "20240105"
    web.images[0].SeriesInstanceUID, web.images[0].Modality = "1.2.9", "CT"
    web.images[1].StudyDate = web.images[2].StudyDate = "20240105"
    web.images[2].SeriesInstanceUID, web.images[2].BodyPartExamined = "1.2.8", ""
    query = Query(dates=("20240101", "20240131"), accessions=(), modalities=("DX",), body_parts=("chest",))
    assert pull_from(web.url, query=query).instances == 2
    assert _files(tmp_path) == ALL[1:]


def test_another_instance_than_the_one_asked_for_is_not_kept(web, pull_from, tmp_path):
    wrong = web.answer("/dicom-web/studies/1.2/series/1.2.3/instances/1.2.3.1")
    web.before = lambda path: wrong if path.endswith("/1.2.3.2") else None
    result = pull_from(web.url)
    assert (result.fetched, result.failed) == (2, 1)
    assert _files(tmp_path) == ["1.2.3.1", "1.2.3.3"]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_uids_that_lead_out_of_the_folder_are_refused(web, pull_from, tmp_path):
    for image in web.images:
        image.StudyInstanceUID = "../../evil"
    with pytest.raises(CxrPairError, match="without a proper StudyInstanceUID"):
        pull_from(web.url)
    assert not list(tmp_path.rglob("*.dcm"))


def test_a_server_that_cannot_send_as_stored_is_asked_for_any_syntax_and_the_user_is_told(web, pull_from):
    web.before = lambda path: (406, {}, b"") if "transfer-syntax" in web.headers[-1].get("Accept", "") else None
    result = pull_from(web.url, parallel=1)
    assert result.fetched == 3
    assert "transfer syntax" in result.notes[0]


def test_a_server_that_is_down_ends_the_pull_after_ten_studies(web, pull_from):
    web.images = []
    for number in range(40):
        image = _image()
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = (
            f"1.{number}",
            f"1.{number}.1",
            f"1.{number}.2",
        )
        web.images.append(image)
    web.before = lambda path: (503, {}, b"") if "instances/" in path else None
    with pytest.raises(CxrPairError, match=r"10 studies in a row failed .*503"):
        pull_from(web.url, retries=0)
    assert len(web.fetches) < 20
    # But studies that the server lists and no longer has must not stand in the way of the others for ever.
    web.before = lambda path: (404, {}, b"") if "instances/" in path and "/1.3" not in path else None
    result = pull_from(web.url, retries=0)
    assert (result.instances, result.failed) == (40, 29)


def test_where_nothing_listens_the_terminal_shows_one_line_without_identifiers(tmp_path):
    (tmp_path / "list.txt").write_text("SECRET42\n")
    command = ["pull", "http://127.0.0.1:9/dicom-web", "--accessions", str(tmp_path / "list.txt"), "--retries", "1"]
    code = "from monai_cxrpair.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--out", str(tmp_path / "export")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "error: the search for studies failed: no connection to the server, or it broke\n"
    assert done.stdout == ""
