"""A folder of DICOM files as it comes out of a PACS: any file names, any other objects among them."""

import multiprocessing
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from monai_cxrpair.cohort import views
from monai_cxrpair.cohort.columns import parse_age, parse_sex
from monai_cxrpair.cohort.dicom_file import quiet_pydicom, read_header
from monai_cxrpair.cohort.dicom_rules import meanings, reason_against, text, texts
from monai_cxrpair.cohort.paths import names_patient
from monai_cxrpair.cohort.reading import Reading, own_studies
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.errors import CxrPairError

Progress = Callable[[int, int], None]
_MANY = 256  # files from which on starting processes pays
_CHUNK = 64
_DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
_COLUMNS = (
    *("image_id", "patient_id", "study_id", "study_datetime", "laterality", "view_position", "age", "sex", "path"),
    *("_names_patient", "_no_body_part", "_bad_age", "_evidence"),
)


def read_dicom(
    source: Path,
    *,
    root: Path,
    workers: int | None = None,
    progress: Progress | None = None,
    skip: Sequence[Path] = (),
) -> Reading:
    """Find the chest radiographs in a folder by the headers of its files.

    Of several files with one SOPInstanceUID the first in the order of the paths is kept. A study that two patients
    share (merged or mistyped patients) becomes one study of each.

    Args:
        source: A folder, or one file.
        root: A folder at or above `source`; paths are relative to it.
        workers: Processes; None for one per core. The result does not depend on it.
        progress: Called with the number of files done and of all files.
        skip: Files that are not looked at (what the index step itself writes).

    Returns:
        The radiographs with their DICOM identifiers, and a reason for every other file.

    Raises:
        CxrPairError: `source` is not beneath `root`, or a worker died.
    """
    if not source.absolute().is_relative_to(root.absolute()):
        raise CxrPairError(f"{source} is not beneath the root {root}")
    unlisted: list[str] = []
    names = sorted(_files(source, root, skip, unlisted))
    rows: list[tuple[Any, ...]] = []
    rejects = [(folder, Reason.UNREADABLE) for folder in sorted(unlisted)]
    for name, found in zip(names, _all_headers(names, root, workers, progress), strict=True):
        if isinstance(found, Reason):
            rejects.append((_printable(name), found))
        else:
            rows.append(found)
    reading = Reading(
        table=pd.DataFrame(rows, columns=list(_COLUMNS)),
        findings=[],
        rejects=rejects,
        files_seen=len(names) + len(unlisted),
        root=root,
        source="dicom",
    )
    reading.leave_out(reading.table["image_id"].duplicated(), Reason.DUPLICATE)
    _finish(reading)
    return reading


def _files(source: Path, root: Path, skip: Sequence[Path], unlisted: list[str]) -> Iterator[str]:
    """Yield the files beneath `source` relative to `root`; folders that cannot be listed go to `unlisted`."""
    skipped = {path.absolute() for path in skip}
    if source.is_file():
        yield source.absolute().relative_to(root.absolute()).as_posix()
        return

    def note(error: OSError) -> None:
        unlisted.append(_printable(Path(error.filename).relative_to(root.absolute()).as_posix()))

    for folder, _, files in os.walk(source.absolute(), onerror=note):
        for file in files:
            path = Path(folder) / file
            if path not in skipped:
                yield path.relative_to(root.absolute()).as_posix()


def _all_headers(
    names: Sequence[str], root: Path, workers: int | None, progress: Progress | None
) -> Iterator["tuple[Any, ...] | Reason"]:
    chunks = [names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK)]
    workers = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    done = 0
    read = partial(_headers, root=root)
    results: Iterator[list[tuple[Any, ...] | Reason]] = map(read, chunks)
    pool = None
    if workers > 1 and len(names) > _MANY:
        # Forked children start at once; they only parse headers and touch none of the parent's threads.
        method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
        pool = ProcessPoolExecutor(min(workers, len(chunks)), mp_context=multiprocessing.get_context(method))
        results = pool.map(read, chunks)  # in the order of the chunks, whoever finishes first
    try:
        for result in results:
            yield from result
            done += len(result)
            if progress is not None:
                progress(done, len(names))
    except BrokenProcessPool as error:
        raise CxrPairError("a process that read headers was killed (memory?): try --workers 1") from error
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _headers(names: Sequence[str], *, root: Path) -> list["tuple[Any, ...] | Reason"]:
    with quiet_pydicom():
        return [_header(root, name) for name in names]


def _header(root: Path, name: str) -> tuple[Any, ...] | Reason:
    if _printable(name) != name:
        return Reason.UNREADABLE  # a name that is no Unicode text cannot stand in the cohort file
    header = read_header(root / name)
    if isinstance(header, Reason):
        return header
    dataset, pixels = header
    try:
        return reason_against(dataset, pixels) or _row(dataset, name)
    except Exception:  # pydicom converts values when they are asked for; a broken one may raise anything
        return Reason.INVALID_VALUE


def _row(dataset: Any, name: str) -> tuple[Any, ...]:
    """Make the row of a radiograph, in the order of `_COLUMNS`."""
    view = views.view_of(
        position=text(dataset, "ViewPosition"),
        codes=meanings(dataset, "ViewCodeSequence"),
        descriptions=[(keyword, text(dataset, keyword)) for keyword in _DESCRIPTIONS],
        orientation=texts(dataset, "PatientOrientation"),
    )
    taken, born = _moment(dataset), _day(text(dataset, "PatientBirthDate"))
    written = text(dataset, "PatientAge")
    age = parse_age(written)
    if not written and taken is not None and born is not None and born <= taken.date():
        age = float((taken.date() - born).days // 365.25)
    return (
        text(dataset, "SOPInstanceUID"),
        text(dataset, "PatientID"),
        text(dataset, "StudyInstanceUID"),
        taken,
        view.laterality,
        view.position,
        age,
        parse_sex(text(dataset, "PatientSex")),
        name,
        names_patient(name, text(dataset, "PatientID"), text(dataset, "PatientName")),
        not text(dataset, "BodyPartExamined"),
        bool(written) and age != age,
        view.evidence,
    )


def _day(written: str) -> date | None:
    """Read a DICOM date (PS3.5 6.2, DA), also with the dots of ACR-NEMA."""
    try:
        return datetime.strptime(written.replace(".", "")[:8], "%Y%m%d").date()
    except ValueError:
        return None


def _moment(dataset: Any) -> datetime | None:
    """StudyDate and StudyTime; a time that is missing or broken is midnight, so that the date still counts."""
    day = _day(text(dataset, "StudyDate"))
    if day is None:
        return None
    clock = re.fullmatch(r"(\d\d):?(\d\d)?:?(\d\d)?.*", text(dataset, "StudyTime"))
    hour, minute, second = (int(part or 0) for part in clock.groups()) if clock else (0, 0, 0)
    try:
        return datetime(day.year, day.month, day.day, hour, minute, min(second, 59))
    except ValueError:
        return datetime(day.year, day.month, day.day)


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _finish(reading: Reading) -> None:
    """Tell what the user should know, and take care of shared studies."""
    table = reading.table = reading.table.copy()
    table["study_datetime"] = pd.to_datetime(table["study_datetime"])
    table["_study"] = table["study_id"]  # for labels that come with the StudyInstanceUID
    table["study_id"], shared = own_studies(table, all_if_any=False)
    # The images of a study may carry different times: the study has one, its earliest.
    table["study_datetime"] = table.groupby("study_id")["study_datetime"].transform("min")
    counted = {
        "paths that contain the patient's id or name (they stay in the cohort file)": int(
            table["_names_patient"].sum()
        ),
        "radiographs without a body part, taken for chest radiographs": int(table["_no_body_part"].sum()),
        "ages that were not understood and became missing": int(table["_bad_age"].sum()),
        "studies of several patients that became one study of each": shared,
    }
    reading.notes.extend(f"{what}: {count}" for what, count in counted.items() if count)
