"""Sending, to servers that misbehave on purpose."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pydicom
import pytest
from pynetdicom import AE, evt

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs.dimse_store import SYNTAXES
from monai_cxrpair.pacs.send import send

DX = "1.2.840.10008.5.1.4.1.1.1.1"


@pytest.fixture
def files(tmp_path, radiograph):
    """Three radiographs in a folder, beside something else."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "note.txt").write_text("hello")
    for number in range(1, 4):
        pydicom.dcmwrite(folder / f"{number}.dcm", radiograph(f"1.2.3.{number}"), enforce_file_format=True)
    return folder


@pytest.fixture
def stow():
    """A STOW-RS server: `answers(uid, attempt)` is (status, failure reason or None)."""

    class Server:
        bodies: dict[str, list[bytes]] = {}  # noqa: RUF012
        headers: list[dict[str, str]] = []  # noqa: RUF012
        raw: bytes | None = None

        @staticmethod
        def answers(uid, attempt):
            return 200, None

    server = Server()
    server.bodies, server.headers = {}, []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.headers.append(dict(self.headers))
            boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
            content = body.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n--" + boundary + b"--\r\n")
            uid = str(pydicom.dcmread(io.BytesIO(content)).SOPInstanceUID)
            server.bodies.setdefault(uid, []).append(content)
            status, reason = server.answers(uid, len(server.bodies[uid]))
            item = {"00081155": {"vr": "UI", "Value": [uid]}}
            if reason is not None:
                item["00081197"] = {"vr": "US", "Value": [reason]}
            answer = {"00081199" if reason is None else "00081198": {"vr": "SQ", "Value": [item]}}
            text = json.dumps(answer).encode() if server.raw is None else server.raw
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/dicom-web"
    yield server
    http.shutdown()
    http.server_close()


@pytest.fixture
def store():
    """A server for C-STORE: its `statuses` are given one by one, then 0; `bodies` are the data sets as received."""

    class Server:
        statuses: list[int] = []  # noqa: RUF012
        bodies: list[bytes] = []  # noqa: RUF012

    server = Server()
    server.statuses, server.bodies = [], []

    def handle(event):
        server.bodies.append(event.request.DataSet.getvalue())
        return server.statuses.pop(0) if server.statuses else 0

    ae = AE(ae_title="PACS")
    ae.add_supported_context(DX, list(SYNTAXES))
    running = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)])
    server.address = f"PACS@127.0.0.1:{running.server_address[1]}"
    yield server
    running.shutdown()


def _send(address, paths, **settings):
    return send(address, paths, **{"backoff": 0.01, "timeout": 5.0, "parallel": 1, "retries": 2, **settings})


def _data_set(path):
    content = path.read_bytes()
    meta = pydicom.filereader.read_file_meta_info(path)
    return content[128 + 4 + 12 + meta.FileMetaInformationGroupLength :]


def test_stow_sends_the_bytes_of_each_file_once(stow, files):
    result = _send(stow.url, [files, files / "1.dcm"], parallel=2)
    assert result.as_json() == {"files": 3, "stored": 3, "already_there": 0, "failed": 0}
    assert {uid: len(bodies) for uid, bodies in stow.bodies.items()} == {f"1.2.3.{n}": 1 for n in (1, 2, 3)}
    assert all(stow.bodies[f"1.2.3.{n}"][0] == (files / f"{n}.dcm").read_bytes() for n in (1, 2, 3))
    assert "1 files of the folders are no DICOM objects" in result.notes[0]


def test_c_store_sends_the_bytes_of_each_data_set(store, files):
    assert _send(store.address, [files]).stored == 3
    assert store.bodies == [_data_set(files / f"{n}.dcm") for n in (1, 2, 3)]
    assert _send(f"dimse://{store.address}", [files / "1.dcm"]).stored == 1


def test_what_a_server_has_already_is_no_failure(stow, store, files):
    stow.answers = lambda uid, attempt: (409, 0x0111) if uid == "1.2.3.2" else (200, None)
    store.statuses = [0, 0x0111, 0xB000]
    for address in (stow.url, store.address):
        assert _send(address, [files]).as_json() == {"files": 3, "stored": 2, "already_there": 1, "failed": 0}


def test_a_busy_server_is_asked_again_and_one_refused_object_does_not_stop_the_others(stow, store, files):
    stow.answers = lambda uid, attempt: (
        (503, None) if attempt == 1 else (409, 0xC000) if uid == "1.2.3.2" else (200, None)
    )
    store.statuses = [0xA700, 0, 0xC000, 0]
    for address in (stow.url, store.address):
        result = _send(address, [files])
        assert result.as_json() == {"files": 3, "stored": 2, "already_there": 0, "failed": 1}
        assert "0xC000" in next(iter(result.reasons))


@pytest.mark.parametrize("raw", [b"<html>hello</html>", b"{}", b"[]", b'{"00081199": 3}'])
def test_an_answer_that_does_not_say_so_is_not_taken_for_success(stow, files, raw):
    stow.raw = raw
    assert _send(stow.url, [files]).failed == 3


def test_refused_credentials_end_it_at_once(stow, files, monkeypatch):
    monkeypatch.setenv("CXRPAIR_PACS_USER", "reader")
    monkeypatch.setenv("CXRPAIR_PACS_PASSWORD", "wrong")
    stow.answers = lambda uid, attempt: (401, None)
    with pytest.raises(CxrPairError, match=r"refuses the credentials.*CXRPAIR_PACS_USER"):
        _send(stow.url, [files])
    assert stow.headers[0]["Authorization"].startswith("Basic ")
    assert len(stow.headers) == 1


def test_a_server_that_is_gone_ends_it_after_a_few_objects(files):
    with pytest.raises(CxrPairError, match="3 objects in a row failed"):
        _send("http://127.0.0.1:9/dicom-web", [files], retries=0)


def test_an_object_that_the_server_takes_none_of_is_counted(store, files, radiograph):
    image = radiograph("1.2.3.9")
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    pydicom.dcmwrite(files / "ct.dcm", image, enforce_file_format=True)
    result = _send(store.address, [files])
    assert (result.stored, result.failed) == (3, 1)
    assert "takes no objects of this kind" in next(iter(result.reasons))


def test_credentials_do_not_travel_unencrypted(files, monkeypatch):
    monkeypatch.setenv("CXRPAIR_PACS_USER", "reader")
    with pytest.raises(CxrPairError, match="would travel unencrypted"):
        _send("http://pacs.example/dicom-web", [files])


def test_files_that_cannot_be_sent_are_named_before_anything_is(stow, files, tmp_path, radiograph):
    for path, reason in [(files / "note.txt", "no DICOM file"), (tmp_path / "none.dcm", "no file")]:
        with pytest.raises(CxrPairError, match=reason):
            _send(stow.url, [files, path])
    with pytest.raises(CxrPairError, match="no DICOM file to send"):
        _send(stow.url, [])
    pydicom.dcmwrite(tmp_path / "twin.dcm", radiograph("1.2.3.1", study="1.9"), enforce_file_format=True)
    with pytest.raises(CxrPairError, match="same SOP Instance UID and differ"):
        _send(stow.url, [files, tmp_path / "twin.dcm"])
    assert not stow.bodies
