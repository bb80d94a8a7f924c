"""Objects that were damaged on purpose: each is refused, and the reason says why."""

import pydicom
import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import read_radiograph_with_info
from monai_cxrpair.reporting import build_overlay, build_report, check_object, save_object


@pytest.fixture
def report(answer, algorithm, tmp_path):
    return save_object(build_report([answer(probability=0.9)], algorithm), tmp_path)


@pytest.fixture
def overlay(radiograph, answer, algorithm, tmp_path):
    pixels, info = read_radiograph_with_info(radiograph())
    return save_object(build_overlay(answer(), algorithm, pixels, None, info=info), tmp_path)


def _group(data):
    """The content of the one measurement group."""
    measurements = next(item for item in data.ContentSequence if item.ValueType == "CONTAINER")
    return measurements.ContentSequence[0].ContentSequence


def _item(data, code):
    return next(item for item in _group(data) if item.ConceptNameCodeSequence[0].CodeValue == code)


def _number(data, code):
    return _item(data, code).MeasuredValueSequence[0]


def _say(data, code, number):
    value = _number(data, code)
    value.NumericValue = number
    value.pop("FloatingPointValue", None)  # the same number once more, which readers prefer


def _remove(data, code):
    _group(data).remove(_item(data, code))


REPORT = {
    "lacks Certainty of Finding": lambda data: _remove(data, "111012"),
    "lacks Algorithm Version": lambda data: _remove(data, "111003"),
    "not 0 to 100": lambda data: _say(data, "111012", 190),
    "is not that of its certainty": lambda data: _say(data, "111012", 10),
    "without a threshold": lambda data: _remove(data, "THRESHOLD"),
    "research use only": lambda data: setattr(_item(data, "121106"), "TextValue", "For every use"),
    "which model": lambda data: setattr(_item(data, "111002"), "TextValue", "none"),
    "evidence": lambda data: setattr(
        data.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0],
        "ReferencedSOPInstanceUID",
        "1.9",
    ),
    "cannot be read again": lambda data: delattr(data, "ContentSequence"),
    "PatientID differ": lambda data: setattr(data, "PatientID", "another"),
    "different SOP Instance UIDs": lambda data: setattr(data, "SOPInstanceUID", "1.9"),
    "neither a structured report": lambda data: setattr(data, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
}
OVERLAY = {
    "RGB of the size": lambda data: setattr(data, "PhotometricInterpretation", "YBR_FULL"),
    "cannot be read again": lambda data: setattr(data, "PixelData", data.PixelData[: len(data.PixelData) // 2]),
    "black": lambda data: setattr(data, "PixelData", bytes(len(data.PixelData))),
    "derived from": lambda data: setattr(data, "DerivationDescription", "a picture"),
    "other radiographs": lambda data: setattr(data.SourceImageSequence[0], "ReferencedSOPInstanceUID", "1.9"),
    "BurnedInAnnotation": lambda data: setattr(data, "BurnedInAnnotation", "MAYBE"),
    "research use only": lambda data: delattr(data, "ContentQualification"),
    "StudyInstanceUID differ": lambda data: setattr(data, "StudyInstanceUID", "1.9"),
}


@pytest.mark.parametrize(
    ("kind", "reason", "damage"),
    [("report", *pair) for pair in REPORT.items()] + [("overlay", *pair) for pair in OVERLAY.items()],
)
def test_each_damage_is_one_line_that_names_the_file_and_the_damage(request, answer, kind, reason, damage):
    path = request.getfixturevalue(kind)
    sources = [answer().source]
    assert check_object(path, sources=sources, tools=False) == kind
    data = pydicom.dcmread(path)
    damage(data)
    data.save_as(path, enforce_file_format=False)
    with pytest.raises(CxrPairError, match=reason) as error:
        check_object(path, sources=sources, tools=False)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_what_is_no_dicom_file_is_refused(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_text("hello")
    with pytest.raises(CxrPairError, match="cannot be read again"):
        check_object(path)


@pytest.mark.parametrize(
    ("tool", "script", "reason"),
    [
        (
            "dciodvfy",
            "echo 'Warning - odd' >&2; echo 'Error - Missing attribute' >&2",
            "dciodvfy says: Error - Missing",
        ),
        ("dciodvfy", "echo 'Warning - odd' >&2; exit 1", None),
        ("dsrdump", "echo 'E: no' >&2; exit 1", "dsrdump says: E: no"),
        ("dsrdump", "exit 3", "dsrdump says: exit 3"),
        ("dsrdump", "exit 0", None),
    ],
)
def test_what_other_tools_find_is_an_error_and_their_warnings_are_none(
    report, tmp_path, monkeypatch, tool, script, reason
):
    program = tmp_path / "bin" / tool
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    if reason is None:
        assert check_object(report) == "report"
    else:
        with pytest.raises(CxrPairError, match=reason):
            check_object(report)
