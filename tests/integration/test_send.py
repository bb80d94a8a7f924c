"""Reports and overlays to a real Orthanc, by both protocols, and back."""

import io
import json
import subprocess
import sys
import urllib.request

import numpy as np
import pydicom
import pytest
from dicomweb_client.web import DICOMwebClient

from monai_cxrpair.imaging import read_radiograph_with_info
from monai_cxrpair.phantom import write_phantom
from monai_cxrpair.reporting import (
    Algorithm,
    Answer,
    build_overlay,
    build_report,
    check_object,
    read_source,
    save_object,
)


def _send(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "from monai_cxrpair.cli import main; main()"
    command = [sys.executable, "-c", code, "send", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("protocol", ["stow", "store"])
def test_a_report_and_an_overlay_come_back_as_they_were_sent_and_sending_twice_adds_nothing(
    orthanc, tmp_path, protocol
):
    write_phantom(tmp_path / "phantom", patients=1, file_format="dicom", seed=7 if protocol == "stow" else 8)
    radiograph = next((tmp_path / "phantom").rglob("*.dcm"))
    orthanc.send(radiograph.parent)
    pixels, info = read_radiograph_with_info(radiograph)
    source = read_source(radiograph)
    algorithm = Algorithm(finding="pleural_effusion", model_hash="ab" * 32, threshold=0.5, rule="youden")
    answer = Answer(source=source, probability=0.73)
    objects = [
        build_report([answer], algorithm),
        build_overlay(answer, algorithm, pixels, np.eye(8, dtype=np.float32), info=info),
    ]
    files = {str(each.SOPInstanceUID): save_object(each, tmp_path / "out") for each in objects}
    address = orthanc.web if protocol == "stow" else orthanc.dimse.removeprefix("dimse://")
    before = orthanc.get("/statistics")["CountInstances"]
    for _ in range(2):
        done = _send(tmp_path / "out", "--to", address, "--json")
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout.splitlines()[-1])
        assert (summary["files"], summary["stored"] + summary["already_there"], summary["failed"]) == (2, 2, 0)
        assert orthanc.get("/statistics")["CountInstances"] == before + 2
    client = DICOMwebClient(orthanc.web)
    for uid, path in files.items():
        sent = pydicom.dcmread(path)
        series = client.search_for_series(str(source.StudyInstanceUID))
        assert sent.SeriesInstanceUID in {each["0020000E"]["Value"][0] for each in series}
        back = client.retrieve_instance(str(source.StudyInstanceUID), str(sent.SeriesInstanceUID), uid)
        assert back == sent
        again = tmp_path / "back" / path.name
        again.parent.mkdir(exist_ok=True)
        back.save_as(again, enforce_file_format=True)
        check_object(again, sources=[source])
        # What lies in the archive is our file, data set byte for byte.
        own = orthanc.get("/instances?expand&limit=1000&since=0")
        name = next(each["ID"] for each in own if each["MainDicomTags"]["SOPInstanceUID"] == uid)
        with urllib.request.urlopen(f"http://127.0.0.1:{orthanc.http_port}/instances/{name}/file") as stored:
            assert _data_set(stored.read()) == _data_set(path.read_bytes())


def _data_set(content: bytes) -> bytes:
    """All bytes after the file meta information, which a receiver writes itself."""
    meta = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True).file_meta
    return content[128 + 4 + 12 + meta.FileMetaInformationGroupLength :]


def test_a_server_that_is_not_there_and_a_file_that_is_none_are_one_line_each(orthanc, tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("hello")
    done = _send(text, "--to", orthanc.web)
    assert (done.returncode, done.stderr) == (1, f"error: {text} is no DICOM file: leave it out, or give its folder\n")
    write_phantom(tmp_path / "phantom", patients=1, file_format="dicom", seed=7)
    for address in ("http://127.0.0.1:9/dicom-web", "ORTHANC@127.0.0.1:9"):
        done = _send(tmp_path / "phantom", "--to", address, "--retries", 0)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert "Traceback" not in done.stderr
