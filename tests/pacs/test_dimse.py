"""DIMSE against a server that misbehaves on purpose."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    DigitalXRayImageStorageForPresentation,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from monai_cxrpair.errors import CxrPairError

LEVELS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}


class FakeArchive:
    """A C-FIND and C-GET server over some images."""

    def __init__(self, images: list[Dataset], *, tls: ssl.SSLContext | None = None) -> None:
        self.images = images
        self.asked: list[list[str]] = []
        self.also_send: list[Dataset] = []
        self.lose: set[str] = set()  # once
        self.accepted: list[int] = []
        self.identities: list[object] = []
        ae = AE(ae_title="ARCHIVE")
        ae.require_called_aet = True
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
        ae.add_supported_context(DigitalXRayImageStorageForPresentation, scu_role=False, scp_role=True)
        handlers = [(evt.EVT_C_FIND, self._find), (evt.EVT_C_GET, self._get), (evt.EVT_USER_ID, self._user)]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers, ssl_context=tls)
        self.port = self._server.server_address[1]

    def close(self) -> None:
        self._server.shutdown()

    def _user(self, event: evt.Event) -> tuple[bool, None]:
        self.identities.append((event.user_id_type, event.primary_field, event.secondary_field))
        return True, None

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        request = event.identifier
        found = {}
        for image in self.images:
            keys = ("StudyInstanceUID", "SeriesInstanceUID")
            if all(not request.get(key) or request.get(key) == image.get(key) for key in keys):
                answer = Dataset()
                answer.QueryRetrieveLevel = request.QueryRetrieveLevel
                for element in request:
                    if element.keyword in image:
                        answer[element.tag] = image[element.tag]
                found[image.get(LEVELS[request.QueryRetrieveLevel])] = answer
        yield from ((0xFF00, answer) for answer in found.values())

    def _get(self, event: evt.Event) -> Iterator[object]:
        wanted = event.identifier.SOPInstanceUID
        uids = [wanted] if isinstance(wanted, str) else list(wanted)
        self.asked.append([str(uid) for uid in uids])
        sending = [
            image for image in self.images if image.SOPInstanceUID in uids and image.SOPInstanceUID not in self.lose
        ]
        self.lose -= set(uids)
        yield len(sending) + len(self.also_send)
        yield from ((0xFF00, image) for image in [*sending, *self.also_send])


@pytest.fixture
def archive(radiograph) -> Iterator[FakeArchive]:
    server = FakeArchive([radiograph(f"1.2.3.{number}") for number in (1, 2, 3)])
    yield server
    server.close()


def _files(tmp_path: Path) -> list[str]:
    return sorted(path.stem for path in (tmp_path / "export").glob("*/*.dcm"))


def test_one_request_asks_for_a_series_and_a_second_pull_for_nothing(archive, pull_from, tmp_path):
    address = f"dimse://ARCHIVE@127.0.0.1:{archive.port}"
    assert pull_from(address).fetched == 3
    assert pull_from(address).already_there == 3
    assert archive.asked == [["1.2.3.1", "1.2.3.2", "1.2.3.3"]]
    assert _files(tmp_path) == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]


def test_what_did_not_come_is_asked_for_again_and_nothing_else(archive, pull_from):
    archive.lose = {"1.2.3.2"}
    result = pull_from(f"dimse://ARCHIVE@127.0.0.1:{archive.port}")
    assert (result.fetched, result.failed) == (3, 0)
    assert archive.asked[1:] == [["1.2.3.2"]]


def test_an_instance_that_comes_twice_counts_once_and_one_that_nobody_asked_for_is_refused(
    archive, pull_from, tmp_path, radiograph
):
    archive.also_send = [archive.images[0], radiograph("1.2.9.9", series="1.2.9")]
    result = pull_from(f"dimse://ARCHIVE@127.0.0.1:{archive.port}")
    assert (result.instances, result.fetched, result.unwanted) == (3, 3, 1)
    assert _files(tmp_path) == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]


def test_a_wrong_ae_title_is_one_error_at_once(archive, pull_from):
    with pytest.raises(CxrPairError, match=r"rejects the association \(called ae title not recognised\)"):
        pull_from(f"dimse://WRONG@127.0.0.1:{archive.port}", retries=20, backoff=60.0)


def test_nothing_listens_there(pull_from, capsys):
    with pytest.raises(CxrPairError, match="no association"):
        pull_from("dimse://ARCHIVE@127.0.0.1:9", retries=1)
    assert capsys.readouterr().err == ""


def test_a_port_in_use_is_one_error(archive, pull_from):
    with pytest.raises(CxrPairError, match=r"cannot listen at 127\.0\.0\.1"):
        pull_from(f"dimse://ARCHIVE@127.0.0.1:{archive.port}", method="move", port=archive.port)


def test_a_server_that_does_not_offer_c_get_is_one_error(radiograph, pull_from):
    ae = AE(ae_title="ARCHIVE")
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        with pytest.raises(CxrPairError, match="does not accept C-FIND or C-GET"):
            pull_from(f"dimse://ARCHIVE@127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()


def _certificate(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate with")
    return cert, key


def test_with_tls_the_servers_certificate_must_be_one_of_our_ca(radiograph, pull_from, monkeypatch, tmp_path):
    cert, key = _certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    archive = FakeArchive([radiograph("1.2.3.1")], tls=context)
    address = f"dimses://ARCHIVE@127.0.0.1:{archive.port}"
    try:
        with pytest.raises(CxrPairError, match="are the certificates right"):
            pull_from(address, retries=0)
        monkeypatch.setenv("CXRPAIR_PACS_CA", str(cert))
        monkeypatch.setenv("CXRPAIR_PACS_USER", "reader")
        monkeypatch.setenv("CXRPAIR_PACS_PASSWORD", "secret")
        assert pull_from(address).fetched == 1
    finally:
        archive.close()
    assert set(archive.identities) == {(2, b"reader", b"secret")}


def test_a_server_that_accepts_and_says_nothing_times_out(pull_from):
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(CxrPairError, match="no association"):
        pull_from(f"dimse://ARCHIVE@127.0.0.1:{silent.getsockname()[1]}", timeout=0.5, retries=0)
