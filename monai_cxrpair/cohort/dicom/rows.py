"""From one file of an export to its row, or to the reason why it has none; and from many files to a table of rows."""

import io
import os
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from monai_cxrpair.cohort import views
from monai_cxrpair.cohort.dicom import archives
from monai_cxrpair.cohort.dicom.file import read_header
from monai_cxrpair.cohort.dicom.guard import quiet_pydicom
from monai_cxrpair.cohort.dicom.header import Header
from monai_cxrpair.cohort.dicom.rules import reason_against
from monai_cxrpair.cohort.readers.columns import parse_age, parse_sex
from monai_cxrpair.cohort.readers.paths import names_patient
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.cohort.schema import OLDEST

_DESCRIPTIONS = (
    *("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription", "PostprocessingFunction"),
)
_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"  # PS3.4 B.5: Digital X-Ray Image Storage - For Processing
# How programs and documents begin that a computer may run or open: they fit into the preamble (CVE-2019-11687). TIFF is
# not among them, which PS3.10 7.1 has the preamble for.
_FOREIGN = (
    *(b"MZ", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!"),
    *(b"%PDF", b"PK\x03\x04", b"Rar!", b"<", b"{\\rtf", b"\xd0\xcf\x11\xe0"),
)
# Columns whose names start with `_` serve the steps up to the cohort and do not reach it.
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("path", "file", "reason", "image_id", "patient_id", "study_id")),
        ("study_datetime", pa.timestamp("us")),
        *((name, pa.string()) for name in ("laterality", "view_position", "laterality_evidence")),
        ("age", pa.float64()),
        ("sex", pa.string()),
        *((name, pa.string()) for name in ("_acquired", "_sources")),
        *((name, pa.bool_()) for name in ("_names_patient", "_no_body_part", "_bad_age")),
        *((name, pa.bool_()) for name in ("_for_processing", "_burned_in", "_foreign")),
        ("_again", pa.bool_()),  # it could not be opened, which may be otherwise the next time
    ]
)
_EMPTY: dict[str, Any] = dict.fromkeys(SCHEMA.names)


def read_rows(names: Sequence[str], *, root: Path) -> pa.RecordBatch:
    """Read the headers of files.

    Args:
        names: Paths relative to the root, of files and of archives.
        root: The folder.

    Returns:
        One row per file, and per file in an archive: `path`; `file`, the archive where it is in one, else missing;
        `reason`, missing where it is a radiograph; the other columns of `SCHEMA`, missing where there is a reason.
    """
    with quiet_pydicom():
        rows = [row for name in names for row in _rows(root, name)]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def _rows(root: Path, name: str) -> Iterator[dict[str, Any]]:
    if archives.is_archive(name):
        yield from _rows_in_archive(root, name)
        return
    try:
        # A pipe or a device would block or never end; without a buffer, since a header is read at once.
        handle = os.open(os.path.join(root, name), os.O_RDONLY | os.O_NONBLOCK)
        with io.FileIO(handle) as file:
            found = _row(file, os.fstat(handle).st_size, name) if _is_regular(handle) else Reason.UNREADABLE
    except OSError:
        yield {**_EMPTY, "path": name, "reason": str(Reason.UNREADABLE), "_again": True}
        return
    yield found if isinstance(found, dict) else {**_EMPTY, "path": name, "reason": str(found)}


def _rows_in_archive(root: Path, name: str) -> Iterator[dict[str, Any]]:
    try:
        for inner, file, size, reason in archives.members(root / name):
            path = f"{name}/{inner}"
            found = _row(file, size, path) if file is not None else reason
            row = found if isinstance(found, dict) else {**_EMPTY, "path": path, "reason": str(found)}
            yield {**row, "path": path.encode("utf-8", "backslashreplace").decode(), "file": name}
    except (RuntimeError, *archives.DAMAGED) as error:
        again = isinstance(error, OSError) and error.errno is not None  # the system's, and not of what is in it
        yield {**_EMPTY, "path": name, "file": name, "reason": str(Reason.ARCHIVE), "_again": again}


def _is_regular(handle: int) -> bool:
    import stat

    return stat.S_ISREG(os.fstat(handle).st_mode)


def _row(file: BinaryIO, size: int, path: str) -> dict[str, Any] | Reason:
    header = read_header(file, size)
    if isinstance(header, Reason):
        return header
    try:
        return reason_against(header) or _radiograph(header, path)
    except Exception:  # pydicom converts values when they are asked for; a broken one may raise anything
        return Reason.INVALID_VALUE


def _radiograph(header: Header, path: str) -> dict[str, Any]:
    text = header.text
    view = _view(
        text("ViewPosition"),
        tuple(said for code in header.items("ViewCodeSequence", "CodeValue", "CodeMeaning") for said in code if said),
        tuple((keyword, text(keyword)) for keyword in _DESCRIPTIONS),
        text("PatientOrientation"),
    )
    taken, written = _moment(text("StudyDate"), text("StudyTime")), text("PatientAge")
    age = parse_age(written) if written else _age_at(taken, _day(text("PatientBirthDate")))
    clock = text("AcquisitionTime")[:6]  # to the second: the times of twins are rounded differently
    moment = text("AcquisitionDateTime")[:14] or (clock and (text("AcquisitionDate") or text("StudyDate")) + clock)
    sources = [uid for (uid,) in header.items("SourceImageSequence", "ReferencedSOPInstanceUID")]
    intent = text("PresentationIntentType").upper()
    return {
        "path": path,
        "file": None,
        "reason": None,
        "image_id": text("SOPInstanceUID"),
        "patient_id": text("PatientID"),
        "study_id": text("StudyInstanceUID"),
        "study_datetime": taken,
        "laterality": view.laterality,
        "view_position": view.position,
        "laterality_evidence": view.evidence,
        "age": age,
        "sex": parse_sex(text("PatientSex")),
        "_acquired": moment or None,
        "_sources": " ".join(sources) or None,
        "_names_patient": names_patient(path, text("PatientID"), text("PatientName")),
        "_no_body_part": not text("BodyPartExamined"),
        "_bad_age": bool(written) and age != age,
        "_for_processing": intent == "FOR PROCESSING" or (not intent and text("SOPClassUID") == _FOR_PROCESSING),
        "_burned_in": text("BurnedInAnnotation").upper() == "YES",
        "_foreign": header.preamble.startswith(_FOREIGN),
    }


@lru_cache(maxsize=4096)  # an export has a few hundred different ones
def _view(
    position: str, codes: tuple[str, ...], descriptions: tuple[tuple[str, str], ...], orientation: str
) -> views.View:
    return views.view_of(position=position, codes=codes, descriptions=descriptions, orientation=orientation.split("\\"))


@lru_cache(maxsize=4096)
def _day(written: str) -> date | None:
    """Read a DICOM date (PS3.5 6.2, DA), also with the dots of ACR-NEMA; one before X-rays were found is none."""
    digits = written.replace(".", "")[:8]
    if len(digits) < 8 or not digits.isdecimal():  # strptime would take 202011 for the first of January
        return None
    try:
        day = datetime.strptime(digits, "%Y%m%d").date()
        return day if day.year >= 1895 else None
    except ValueError:
        return None


def _moment(day_written: str, time_written: str) -> datetime | None:
    """StudyDate and StudyTime; a time that is missing or broken is midnight, so that the date still counts."""
    day = _day(day_written)
    if day is None:
        return None
    clock = re.match(r"(\d\d):?(\d\d)?:?(\d\d)?", time_written)
    hour, minute, second = (int(part or 0) for part in clock.groups()) if clock else (0, 0, 0)
    try:
        return datetime(day.year, day.month, day.day, hour, minute, min(second, 59))
    except ValueError:
        return datetime(day.year, day.month, day.day)


def _age_at(taken: datetime | None, born: date | None) -> float:
    if taken is None or born is None or born > taken.date():
        return float("nan")
    age = float((taken.date() - born).days // 365.25)
    return age if age <= OLDEST else float("nan")
