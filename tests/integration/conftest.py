"""A real PACS for the tests: Orthanc from Debian, on loopback ports, with the project's own phantom in it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/local/share/orthanc/plugins/libOrthancDicomWeb.so"),
)


@dataclass
class Orthanc:
    """A running Orthanc. `aet` is known to it as a C-MOVE destination at `receive_port`."""

    folder: Path
    http_port: int
    dicom_port: int
    receive_port: int
    aet: str = "CXR"

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    @property
    def dimse(self) -> str:
        return f"dimse://ORTHANC@127.0.0.1:{self.dicom_port}"

    @property
    def log(self) -> str:
        """What it has logged so far, each request among it."""
        return (self.folder / "orthanc.log").read_text(errors="replace")

    def get(self, path: str) -> Any:
        """Ask its own REST interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return json.load(answer)

    def find_reports(self, study: str) -> list[str]:
        """UIDs of the structured reports in a study, asked over QIDO-RS."""
        address = f"{self.web}/studies/{study}/instances?Modality=SR"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return [each["00080018"]["Value"][0] for each in json.load(answer)]

    def send(self, folder: Path) -> None:
        """Send a tree of DICOM files with DCMTK's storescu, as a modality would; encodings stay as they are."""
        files = sorted(map(str, folder.rglob("*.dcm")))
        listing = self.folder / "to-send.txt"
        listing.write_text("\n".join(files))
        program = _dcmtk("storescu") or "storescu"
        command = [program, "-xf", str(_storescu_config(self.folder)), "Any", "-aec", "ORTHANC", "127.0.0.1"]
        # Four senders at a time: most of the time each waits for a delayed TCP acknowledgement.
        done = subprocess.run(
            ["xargs", "-a", str(listing), "-d", "\n", "-P", "4", "-n", "25", *command, str(self.dicom_port)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]


def _dcmtk(name: str) -> str | None:
    """Find a program of DCMTK; an environment has scripts of pynetdicom under the same names."""
    own = Path(sys.prefix) / "bin"
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if Path(folder) != own]
    return shutil.which(name, path=os.pathsep.join(folders))


def _storescu_config(folder: Path) -> Path:
    """A profile of storescu that proposes each encoding in a context of its own, so that it need not transcode."""
    path = folder / "storescu.cfg"
    syntaxes = {
        "Plain": ["LittleEndianExplicit", "LittleEndianImplicit"],
        "Lossless": ["JPEGLossless:Non-hierarchical-1stOrderPrediction"],
        "Jpegls": ["JPEGLSLossless"],
        "Rle": ["RLELossless"],
    }
    classes = [
        "ComputedRadiographyImageStorage",
        "DigitalXRayImageStorageForPresentation",
        "DigitalXRayImageStorageForProcessing",
        "SecondaryCaptureImageStorage",
        "CTImageStorage",
    ]
    lines = ["[[TransferSyntaxes]]"]
    for name, values in syntaxes.items():
        lines += [f"[{name}]", *(f"TransferSyntax{number} = {value}" for number, value in enumerate(values, start=1))]
    pairs = [(sop_class, name) for sop_class in classes for name in syntaxes]
    lines += ["[[PresentationContexts]]", "[Any]"]
    lines += [f"PresentationContext{number} = {each}\\{name}" for number, (each, name) in enumerate(pairs, start=1)]
    lines += ["[[Profiles]]", "[Any]", "PresentationContexts = Any"]
    path.write_text("\n".join(lines) + "\n")
    return path


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens at now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _start(folder: Path, plugin: Path) -> tuple[Orthanc, subprocess.Popen[bytes]]:
    http_port, dicom_port, receive_port = free_ports(3)
    orthanc = Orthanc(folder, http_port, dicom_port, receive_port)
    settings = {
        "Name": "cxr-pair-test",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomModalities": {"cxr": [orthanc.aet, "127.0.0.1", receive_port]},
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [_orthanc() or "", "--verbose", str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT
        )
    return orthanc, process


def _orthanc() -> str | None:
    return shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin")


def _ready(orthanc: Orthanc, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end and process.poll() is None:
        try:
            orthanc.get("/system")
            return True
        except OSError:
            time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An empty Orthanc for the tests of one file; it ends with them, whatever becomes of them."""
    plugin = next((path for path in _PLUGINS if path.exists()), None)
    missing = [name for name, there in [("Orthanc", _orthanc()), ("storescu", _dcmtk("storescu"))] if not there]
    if missing or plugin is None:
        missing += [] if plugin else ["the DICOMweb plugin of Orthanc"]
        pytest.skip(f"no {', '.join(missing)} here (Debian: apt-get install orthanc orthanc-dicomweb dcmtk)")
    for attempt in range(3):  # another process may take a port in between
        running, process = _start(tmp_path_factory.mktemp(f"orthanc{attempt}"), plugin)
        try:
            if _ready(running, process):
                yield running
                return
        finally:
            process.kill()  # there is nothing in it to save
            process.wait()
    pytest.fail(f"Orthanc does not start: {running.log[-2000:]}")
