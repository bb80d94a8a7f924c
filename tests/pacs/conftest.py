"""Servers that misbehave on purpose, and instances to pull from them."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from monai_cxrpair.pacs.connect import pull
from monai_cxrpair.pacs.pull import PullResult
from monai_cxrpair.pacs.query import Query

TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
    "SOPClassUID": "00080016",
    "StudyDate": "00080020",
    "AccessionNumber": "00080050",
    "Modality": "00080060",
    "BodyPartExamined": "00180015",
    "NumberOfStudyRelatedInstances": "00201208",
}


def radiograph(uid: str, *, study: str = "1.2", series: str = "1.2.3", size: int = 64) -> Dataset:
    """A small DX image with every attribute that a search returns."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = DigitalXRayImageStorageForPresentation
    image.SOPInstanceUID, image.SeriesInstanceUID, image.StudyInstanceUID = uid, series, study
    image.StudyDate, image.StudyTime, image.AccessionNumber = "20240105", "101500", "0042"
    image.Modality, image.BodyPartExamined, image.PatientID = "DX", "CHEST", "SECRET"
    image.Rows, image.Columns, image.BitsAllocated = size, size, 8
    image.PixelData = bytes(range(256)) * (size * size // 256)
    return image


def encoded(image: Dataset) -> bytes:
    """The bytes of its file."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, image, enforce_file_format=True)
    return buffer.getvalue()


class FakeWeb:
    """A DICOMweb server over some images; `before(path)` may answer (status, headers, body) in its stead."""

    def __init__(self) -> None:
        self.images: list[Dataset] = []
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.before: Callable[[str], tuple[int, dict[str, str], bytes] | None] = lambda path: None
        self.page_limit: int | None = 10**6
        self.ignores_offset = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.requests.append(self.path)
                outer.headers.append(dict(self.headers))
                status, headers, body = outer.before(self.path) or outer.answer(self.path)
                declared = int(headers.pop("Content-Length", len(body)))
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(declared)}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                if declared != len(body):
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/dicom-web"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def fetches(self) -> list[str]:
        """The instances that were asked for, in this order."""
        paths = [path.split("?")[0].split("/") for path in self.requests]
        return [parts[-1] for parts in paths if len(parts) > 2 and parts[-2] == "instances"]

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        route, _, query = path.partition("?")
        options = {name: values[0] for name, values in parse_qs(query).items()}
        parts = route.split("/")[2:]
        if len(parts) == 6:
            image = next(each for each in self.images if each.SOPInstanceUID == parts[5])
            return 200, *multipart(encoded(image))
        level = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")[len(parts) // 2]
        within = [
            each
            for each in self.images
            if (len(parts) < 2 or each.StudyInstanceUID == parts[1])
            and (len(parts) < 4 or each.SeriesInstanceUID == parts[3])
        ]
        found = {}
        for image in within:
            image.NumberOfStudyRelatedInstances = sum(
                each.StudyInstanceUID == image.StudyInstanceUID for each in self.images
            )
            found[image[level].value] = {
                tag: {"vr": "UI", "Value": [str(image.get(keyword, ""))]} for keyword, tag in TAGS.items()
            }
        for image in within:
            del image.NumberOfStudyRelatedInstances
        start = 0 if self.ignores_offset else int(options.get("offset", 0))
        stop = None if self.page_limit is None else start + min(int(options.get("limit", 10**6)), self.page_limit)
        answers = list(found.values())[start:stop]
        return 200, {"Content-Type": "application/dicom+json"}, json.dumps(answers).encode()


def multipart(*files: bytes) -> tuple[dict[str, str], bytes]:
    """Header and body of a multipart answer."""
    body = b"".join(b"\r\n--XX\r\nContent-Type: application/dicom\r\n\r\n" + each for each in files) + b"\r\n--XX--\r\n"
    return {"Content-Type": 'multipart/related; type="application/dicom"; boundary=XX'}, body


@pytest.fixture(name="radiograph")
def _radiograph() -> Callable[..., Dataset]:
    return radiograph


@pytest.fixture
def web() -> Iterator[FakeWeb]:
    server = FakeWeb()
    server.images = [radiograph(f"1.2.3.{number}") for number in range(1, 4)]
    yield server
    server.close()


@pytest.fixture
def pull_from(tmp_path: Path) -> Callable[..., PullResult]:
    """Pull January 2024 into one folder, without long waits."""

    def run(address: str, **settings: object) -> PullResult:
        query = settings.pop("query", Query(dates=("20240101", "20240131"), accessions=(), modalities=("DX",)))
        settings = {"backoff": 0.01, "timeout": 5.0, "parallel": 2, "retries": 2, **settings}
        return pull(address, tmp_path / "export", query, **settings)  # type: ignore[arg-type]

    return run


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "PASSWORD", "TOKEN", "CA", "CERT", "KEY"):
        monkeypatch.delenv(f"CXRPAIR_PACS_{name}", raising=False)
