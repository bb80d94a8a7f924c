"""Read the objects again as others would, and say what is wrong with them."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.reporting.answer import RESEARCH_ONLY, highdicom
from monai_cxrpair.reporting.codes import ABSENT, CERTAINTY, COMMENT, PERCENT, PRESENT, THRESHOLD, Term

_SECONDS = 60.0  # a tool takes a fraction of one
_FINDING = Term("121071", "DCM", "Finding")
_ALGORITHM = {"111001": "Algorithm Name", "111003": "Algorithm Version", "111002": "Algorithm Parameters"}
_SAME = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID"),
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
)


def check_object(path: str | Path, *, sources: Sequence[Dataset] = (), tools: bool = True) -> str:
    """Check a report or an overlay that `reporting` wrote.

    Args:
        path: The file.
        sources: Headers of the radiographs it is about, by `read_source`; their patient and study are compared.
        tools: Also ask `dsrdump` (DCMTK) and `dciodvfy` (dicom3tools), where they are installed.

    Returns:
        `report` or `overlay`.

    Raises:
        CxrPairError: What is wrong with it.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they name the values they complain about
            data = dcmread(path)
            kind = {ComprehensiveSRStorage: "report", SecondaryCaptureImageStorage: "overlay"}.get(data.SOPClassUID, "")
            if not kind:
                raise CxrPairError("neither a structured report nor a secondary capture")
            _check_header(data, sources)
            referred = _check_report(path) if kind == "report" else _check_overlay(data)
        missing = {str(source.SOPInstanceUID).strip() for source in sources} ^ referred if sources else set()
        if missing:
            raise CxrPairError("it refers to other radiographs than those it is about")
        if tools:
            _ask_tools(path, kind)
        return kind
    except CxrPairError as error:
        raise CxrPairError(f"{path}: {error}") from error
    except Exception as error:  # whatever a library cannot read, others cannot either
        raise CxrPairError(f"{path}: cannot be read again ({type(error).__name__})") from error


def _check_header(data: Any, sources: Sequence[Dataset]) -> None:
    if data.get("ContentQualification") != "RESEARCH" or "RESEARCH USE ONLY" not in data.get("SeriesDescription", ""):
        raise CxrPairError("it does not say that it is for research use only")
    if data.file_meta.MediaStorageSOPInstanceUID != data.SOPInstanceUID:
        raise CxrPairError("file meta information and data set have different SOP Instance UIDs")
    data.decode()
    for source in sources:
        # As text: "a  " and "a" are the same in DICOM, and so are None and nothing.
        different = [name for name in _SAME if str(data.get(name) or "").strip() != str(source.get(name) or "").strip()]
        if different:
            raise CxrPairError(f"{', '.join(different)} differ from those of the radiograph")


def _check_report(path: Path) -> set[str]:
    """The radiographs that a report refers to."""
    report = highdicom().sr.srread(path)
    groups = report.content.get_image_measurement_groups()
    if not groups:
        raise CxrPairError("the report has no measurement group")
    referred = {str(image.referenced_sop_instance_uid) for group in groups for image in group.source_images}
    if len(referred) != len(groups):
        raise CxrPairError("the report has groups without an image of their own")
    evidence = {
        str(item.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    if referred != evidence:
        raise CxrPairError("the radiographs of the report's groups are not those of its evidence")
    for group in groups:
        _check_group(group[0].ContentSequence)
    return referred


def _check_group(content: Any) -> None:
    by_code = {str(item.name.value): item for item in content}
    lacking = [meaning for code, meaning in _ALGORITHM.items() if code not in by_code]
    lacking += [term.meaning for term in (_FINDING, CERTAINTY, COMMENT) if term.value not in by_code]
    if lacking:
        raise CxrPairError(f"a group of the report lacks {', '.join(lacking)}")
    if not any(str(item.value).startswith("model SHA-256 ") for item in content if item.name.value == "111002"):
        raise CxrPairError("a group of the report does not say which model it is of")
    if not str(by_code[COMMENT.value].value).startswith(RESEARCH_ONLY):
        raise CxrPairError("a group of the report does not say that it is for research use only")
    certainty, threshold = by_code[CERTAINTY.value], by_code.get(THRESHOLD.value)
    for number in (certainty, threshold):
        if number is not None and not (number.unit.value == PERCENT.value and 0 <= float(number.value) <= 100):
            raise CxrPairError(f"{number.name.meaning} is {number.value} {number.unit.value}, not 0 to 100 %")
    decision = by_code.get(str(by_code[_FINDING.value].value.value))
    if (decision is None) != (threshold is None):
        raise CxrPairError(
            "a group of the report has a decision without a threshold, or a threshold without a decision"
        )
    # Both are rounded: a decision may look either way where they are equal.
    if decision is not None and threshold is not None and float(certainty.value) != float(threshold.value):
        term = PRESENT if float(certainty.value) > float(threshold.value) else ABSENT
        if decision.value.value != term.value:
            raise CxrPairError("the decision of a group of the report is not that of its certainty and threshold")


def _check_overlay(data: Any) -> set[str]:
    """The radiograph that an overlay refers to."""
    if data.PhotometricInterpretation != "RGB" or data.pixel_array.shape != (data.Rows, data.Columns, 3):
        raise CxrPairError("the overlay's pixels are not RGB of the size that its header says")
    if not data.pixel_array.any():
        raise CxrPairError("the overlay is black")
    if list(data.ImageType[:2]) != ["DERIVED", "SECONDARY"] or RESEARCH_ONLY not in data.DerivationDescription:
        raise CxrPairError("the overlay does not say what it was derived from, and that it is for research use only")
    if data.get("BurnedInAnnotation", "NO") not in ("YES", "NO"):
        raise CxrPairError("BurnedInAnnotation is neither YES nor NO")
    return {str(item.ReferencedSOPInstanceUID) for item in data.SourceImageSequence}


def _ask_tools(path: Path, kind: str) -> None:
    """Ask other people's software, where it is installed."""
    commands = [["dciodvfy", "-new", str(path)]] + ([["dsrdump", str(path)]] if kind == "report" else [])
    for command in commands:
        program = shutil.which(command[0])
        if program is None:
            continue
        try:
            done = subprocess.run(
                [program, *command[1:]], capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CxrPairError(f"{command[0]} did not answer ({type(error).__name__})") from error
        lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines()]
        errors = [line for line in lines if line.startswith(("Error", "E: "))]
        if errors or (command[0] == "dsrdump" and done.returncode):
            raise CxrPairError(f"{command[0]} says: {(errors or ['exit ' + str(done.returncode)])[0][:200]}")
