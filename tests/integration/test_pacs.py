"""`cxrpair pull` against a real Orthanc; each pull is a process of its own, as for a user, so that it can be killed."""

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import JPEGLSLossless, RLELossless, generate_uid

from monai_cxrpair.phantom import write_phantom

# The everyday run takes few studies; 84 patients make more than 200.
PATIENTS = int(os.environ.get("CXRPAIR_TEST_PATIENTS", "9"))
KILLS = 20 if int(os.environ.get("CXRPAIR_KILLS", "0")) >= 20 else 3
PROTOCOLS = ("dicomweb", "get", "move")
_ASKED = re.compile(
    r"GET /dicom-web/studies/[^/]+/series/[^/]+/instances/(\S+)$|Sending resource (\S+) to modality", re.M
)


@pytest.fixture(scope="module")
def phantom(orthanc, tmp_path_factory) -> dict[str, Path]:
    """Chest radiographs that were sent to Orthanc, plain and compressed: UID -> file."""
    folder = tmp_path_factory.mktemp("phantom") / "files"
    write_phantom(folder, patients=PATIENTS, file_format="dicom", seed=3)
    files = {}
    for number, path in enumerate(sorted(folder.rglob("*.dcm"))):
        image = pydicom.dcmread(path)
        if number % 4 in (1, 2):
            image.compress(JPEGLSLossless if number % 4 == 1 else RLELossless, generate_instance_uid=False)
            image.save_as(path)
        files[str(image.SOPInstanceUID)] = path
    orthanc.send(folder)
    assert orthanc.get("/statistics")["CountInstances"] == len(files)
    return files


def _command(orthanc, out: Path, protocol: str, *more: str) -> list[str]:
    where = orthanc.web if protocol == "dicomweb" else orthanc.dimse
    how = [] if protocol == "dicomweb" else ["--aet", orthanc.aet, "--method", protocol, "--port", orthanc.receive_port]
    arguments = ["pull", where, "--out", out, "--parallel", 2, "--json", *how, *more]
    return [sys.executable, "-c", "from monai_cxrpair.cli import main; main()", *map(str, arguments)]


def _pull(orthanc, out: Path, protocol: str, *more: str) -> dict[str, int]:
    done = subprocess.run(
        _command(orthanc, out, protocol, *more), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _data_set(path: Path) -> bytes:
    """All bytes after the file meta information, which the receiver writes itself."""
    content = path.read_bytes()
    meta = pydicom.filereader.read_file_meta_info(path)
    return content[128 + 4 + 12 + meta.FileMetaInformationGroupLength :]


def _on_disk(out: Path) -> set[str]:
    return {path.stem for path in out.glob("*/*.dcm")}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pull_killed_often_brings_every_instance_once_and_byte_for_byte(orthanc, phantom, tmp_path, protocol):
    out = tmp_path / "export"
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in phantom.values()]
    studies = len({header.StudyInstanceUID for header in headers})
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    ids = {each["ID"]: each["MainDicomTags"]["SOPInstanceUID"] for each in orthanc.get("/instances?expand")}
    have: set[str] = set()
    for kill in range(KILLS):
        start = len(orthanc.log)
        # At a random moment: after so many more instances, and a few milliseconds into the next one.
        enough = len(have) + chance.randint(1, max(1, (len(phantom) - len(have)) // (KILLS + 1 - kill)))
        with subprocess.Popen(
            _command(orthanc, out, protocol, "--dates", "19000101-"), stderr=subprocess.PIPE
        ) as process:
            while len(_on_disk(out)) < enough and process.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.random() * 0.03)
            process.kill()
        before, have = have, _on_disk(out)
        time.sleep(0.5)  # the server may still be writing its log
        asked = {web or ids[own] for web, own in _ASKED.findall(orthanc.log[start:])}
        assert len(asked) >= enough - len(before), "the log does not show what was asked for"
        assert not asked & before, f"asked for again what was there (seed {seed})"
    start = len(orthanc.log)
    summary = _pull(orthanc, out, protocol, "--dates", "19000101-")
    asked = [web or ids[own] for web, own in _ASKED.findall(orthanc.log[start:])]
    assert sorted(asked) == sorted(set(phantom) - have), f"seed {seed}"
    assert (summary["studies"], summary["instances"]) == (studies, len(phantom))
    assert (summary["fetched"], summary["already_there"], summary["failed"]) == (len(asked), len(have), 0)
    files = sorted(out.glob("*/*.dcm"))
    assert sorted(path.stem for path in files) == sorted(phantom)
    for path in files:
        sent = phantom[path.stem]
        got, gave = pydicom.dcmread(path), pydicom.dcmread(sent)
        assert got.file_meta.TransferSyntaxUID == gave.file_meta.TransferSyntaxUID
        assert got.PixelData == gave.PixelData
        assert got == gave
        if gave.file_meta.TransferSyntaxUID not in (JPEGLSLossless, RLELossless):
            assert _data_set(path) == _data_set(sent)
    start = len(orthanc.log)
    assert _pull(orthanc, out, protocol, "--dates", "19000101-")["already_there"] == len(phantom)
    assert not _ASKED.findall(orthanc.log[start:])


@pytest.mark.parametrize("protocol", ["dicomweb", "get"])
def test_only_chest_radiographs_of_the_accession_numbers_are_pulled_and_a_study_that_grew_is_completed(
    orthanc, phantom, tmp_path, protocol
):
    accession = f"00{PROTOCOLS.index(protocol)}42"  # keeps its zeros
    study = generate_uid()

    def send(modality: str, body_part: str) -> str:
        image = pydicom.dcmread(next(iter(phantom.values())))
        image.StudyDate = "18500101"  # outside of the dates of the other tests, which share this archive
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = study, generate_uid(), generate_uid()
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.AccessionNumber, image.Modality, image.BodyPartExamined = accession, modality, body_part
        folder = tmp_path / "send" / image.SOPInstanceUID
        folder.mkdir(parents=True)
        image.save_as(folder / "image.dcm")
        orthanc.send(folder)
        return str(image.SOPInstanceUID)

    wanted = {send("DX", "CHEST"), send("CR", "")}
    for modality, body_part in [("CT", "CHEST"), ("DX", "FOOT")]:
        send(modality, body_part)
    listing = tmp_path / "list.csv"
    listing.write_text(f"name,Accession Number\nx,{accession}\ny,0{accession}\n")
    options = ("--accessions", str(listing), "--body-part", "CHEST")
    summary = _pull(orthanc, tmp_path / "export", protocol, *options)
    assert _on_disk(tmp_path / "export") == wanted
    assert (summary["studies"], summary["instances"], summary["accessions_not_found"]) == (1, 2, 1)
    more = send("DX", "CHEST ")
    summary = _pull(orthanc, tmp_path / "export", protocol, *options)
    assert (summary["fetched"], summary["already_there"]) == (1, 2)
    assert _on_disk(tmp_path / "export") == {*wanted, more}
    # Another query into the same folder adds to it.
    assert _pull(orthanc, tmp_path / "export", protocol, *options[:2])["fetched"] == 1


def test_an_unregistered_destination_is_one_line(orthanc, tmp_path):
    command = _command(
        orthanc, tmp_path / "export", "move", "--dates", "19000101-", "--aet", "STRANGER", "--retries", "0"
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
