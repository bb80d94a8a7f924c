import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from monai_cxrpair.cohort.dicom import file as dicom_file
from monai_cxrpair.cohort.dicom.file import read_header
from monai_cxrpair.cohort.dicom.guard import quiet_pydicom, time_limit
from monai_cxrpair.cohort.dicom.header import KEYWORDS, Header
from monai_cxrpair.cohort.rejects import Reason

MakeDicom = Callable[..., Path]


def _read(content: bytes) -> Header | Reason:
    with quiet_pydicom():
        return read_header(io.BytesIO(content), len(content))


def _texts(header: Header) -> dict[str, str]:
    return {name: header.text(name) for name in KEYWORDS if not name.endswith("Sequence")}


@pytest.mark.data
def test_the_fast_way_gives_what_pydicom_gives_on_all_real_files(shared_data: Path) -> None:
    compared = 0
    for path in sorted((shared_data / "dicom").rglob("*")):
        if not path.is_file():
            continue
        header = _read(path.read_bytes())
        if isinstance(header, Reason):
            continue
        with quiet_pydicom():
            try:
                dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
                expected = {name: dataset.get(name) for name in _texts(header)}
            except (RecursionError, ValueError, NotImplementedError):  # known before the broken part is reached
                continue
        found = _texts(header)
        if found["Modality"] not in ("CR", "DX"):
            expected = {name: value for name, value in expected.items() if name in ("Modality", "SOPClassUID")}
        for name, value in expected.items():
            parts = list(value) if isinstance(value, pydicom.multival.MultiValue) else [value]
            text = "" if value is None else "\\".join(map(str, parts)).strip("\0 \t\r\n")
            assert found[name] == text, (path.name, name)
            compared += 1
    assert compared > 1000


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("undefined", [True, False])
def test_numbers_and_sequences_are_read_in_every_encoding(
    make_dicom: MakeDicom, tmp_path: Path, syntax: Any, undefined: bool
) -> None:
    code = Dataset()
    code.CodeValue, code.CodeMeaning = "R-10214", "postero-anterior"
    dataset = pydicom.dcmread(make_dicom("1", Rows=300, Columns=2, PixelData=bytes(600), ViewCodeSequence=[code]))
    dataset["ViewCodeSequence"].is_undefined_length = undefined
    dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    pydicom.dcmwrite(
        file,
        dataset,
        enforce_file_format=True,
    )
    header = _read(file.getvalue())
    assert isinstance(header, Header)
    assert header.number("Rows", 0) == 300
    assert header.number("NumberOfFrames", 1) == 1
    assert header.items("ViewCodeSequence", "CodeMeaning", "CodeValue") == (("postero-anterior", "R-10214"),)
    assert header.items("AnatomicRegionSequence", "CodeMeaning") == ()
    assert header.pixels.complete
    assert header.pixels.length == 600


def test_a_header_that_is_longer_than_the_first_look_is_read_to_its_end(make_dicom: MakeDicom) -> None:
    path = make_dicom("1", StudyComments="x" * 9000, ImageComments="y" * 9000, RequestedProcedureComments="z" * 9000)
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x00091001, "OB", bytes(200_000))
    dataset.add_new(0x00090010, "LO", "PRIVATE")
    dataset.save_as(path, enforce_file_format=True)
    header = _read(path.read_bytes())
    assert isinstance(header, Header)
    assert header.text("PatientID") == "P1"
    assert header.pixels.present


def test_a_header_may_not_take_forever_or_all_memory(make_dicom: MakeDicom, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = Dataset()
    for _ in range(20):
        outer = Dataset()
        outer.ReferencedImageSequence = [deep]
        outer["ReferencedImageSequence"].is_undefined_length = True
        deep = outer
    path = make_dicom("1", ReferencedImageSequence=[deep], RequestAttributesSequence=[Dataset() for _ in range(20_000)])
    dataset = pydicom.dcmread(path)
    dataset["RequestAttributesSequence"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    monkeypatch.setattr(dicom_file, "MAX_SECONDS", 60.0)  # by the clock: the machine may have other work
    assert isinstance(_read(content), Header)
    monkeypatch.setattr(dicom_file, "MAX_SECONDS", 0.02)
    started = time.perf_counter()
    assert _read(content) is Reason.TOO_SLOW
    assert time.perf_counter() - started < 2
    monkeypatch.setattr(dicom_file, "MAX_SECONDS", 10.0)
    monkeypatch.setattr(dicom_file, "MAX_HEADER", 50_000)
    assert _read(content) is Reason.UNREADABLE


def test_the_clock_is_given_back(make_dicom: MakeDicom) -> None:
    import signal

    before = signal.getsignal(signal.SIGALRM)
    assert isinstance(_read(make_dicom("1").read_bytes()), Header)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_clock_of_somebody_else_goes_on() -> None:
    import signal

    class OtherError(Exception):
        pass

    def ring(*_: Any) -> None:
        raise OtherError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(TimeoutError), time_limit(0.05):
            time.sleep(5)
        with pytest.raises(OtherError):
            time.sleep(5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@given(data=st.data())
def test_whatever_the_bytes_are_there_is_a_header_or_a_reason(data: st.DataObject, tmp_path_factory: Any) -> None:
    whole = _whole()
    cut = data.draw(st.integers(0, len(whole)))
    changes = data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=8))
    content = bytearray(whole[:cut] if data.draw(st.booleans()) else whole)
    for position, value in changes:
        if position < len(content):
            content[position] = value
    found = _read(bytes(content))
    assert isinstance(found, Header | Reason)


def _whole() -> bytes:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    dataset.Modality, dataset.PatientID, dataset.StudyInstanceUID = "CR", "P", "1.9"
    dataset.Rows = dataset.Columns = 8
    dataset.BitsAllocated, dataset.PixelData = 8, bytes(64)
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()
