"""The DICOM files of an export as it comes out of a PACS: any file names, archives, any other objects among them."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from monai_cxrpair.cohort.dicom.directory import listed_files
from monai_cxrpair.cohort.dicom.rows import read_rows
from monai_cxrpair.cohort.dicom.state import ROWS, State, StateFile, divide, joined
from monai_cxrpair.cohort.dicom.twins import raw_twins
from monai_cxrpair.cohort.dicom.walk import list_files
from monai_cxrpair.cohort.pixel_check import CHECKED, PixelCheck, check_all, leave_out_checked
from monai_cxrpair.cohort.processes import Progress, in_processes
from monai_cxrpair.cohort.reading import Reading, own_studies
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.errors import CxrPairError

_MANY = 256  # files from which on starting processes pays
_CHUNK = 64
_SAVE_SECONDS = 30.0


def read_dicom(
    source: Path,
    *,
    root: Path,
    workers: int | None = None,
    progress: Progress | None = None,
    skip: Sequence[Path] = (),
    state_file: StateFile | None = None,
    check: PixelCheck | None = None,
    allow_burned_in: bool = False,
) -> tuple[Reading, State]:
    """Find the chest radiographs in a folder by the headers of its files.

    Of several files with one SOPInstanceUID, or with the same pixels, the first in the order of the paths is kept. A
    study that two patients share (merged or mistyped patients) becomes one study of each.

    Args:
        source: A folder, a DICOMDIR, an archive, or one file.
        root: A folder at or above `source`; paths are relative to it.
        workers: Processes; None for one per core. The result does not depend on it.
        progress: Called with the number of files done and of all files.
        skip: Files that are not looked at (what the index step itself writes).
        state_file: What is known from the last time is not read again; saved every half a minute.
        check: Reads the pixels of a file; None: pixels are not read.
        allow_burned_in: Take radiographs whose header says that text is burned into the pixels.

    Returns:
        The radiographs with their DICOM identifiers and a reason for every other file; and the state for the next time.

    Raises:
        CxrPairError: `source` is not beneath `root`, or a worker died.
    """
    if not source.absolute().is_relative_to(root.absolute()):
        raise CxrPairError(f"{source} is not beneath the root {root}")
    listed = listed_files(source, root=root)
    listing = list_files(source, root=root, skip=skip) if listed is None else listed.listing
    rejects = [(name, Reason.UNREADABLE) for name in (*listing.unlisted, *listing.unnamed)]
    rejects += [] if listed is None else listed.rejects
    outside = len(rejects)
    state = State(listing=listing, rows=ROWS.empty_table())
    known, new = divide(state_file.read() if state_file else None, listing)
    parts = [known]
    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        if state_file is not None and time.monotonic() - saved > _SAVE_SECONDS:
            state.rows = joined(parts)
            state_file.write(state)
            saved = time.monotonic()

    chunks = [new[start : start + _CHUNK] for start in range(0, len(new), _CHUNK)]
    done = len(listing.files) - len(new)
    batches = in_processes(partial(read_rows, root=root), chunks, workers=workers, few=_MANY // _CHUNK)
    for chunk, batch in zip(chunks, batches, strict=True):
        parts.append(pa.Table.from_batches([batch]))
        done += len(chunk)
        if progress is not None:
            progress(done, len(listing.files))
        save()
    rows = joined(parts)
    if check is not None:
        for portion in _checked(rows, check, root, workers, progress):
            rows, parts = portion, [portion]
            save()
    state.rows = rows
    rejects += _rejected(rows)
    table = rows.filter(pc.is_null(rows["reason"])).drop_columns(["reason", "file"]).to_pandas()
    reading = Reading(
        table=table if check is not None else table.drop(columns=CHECKED.names),
        findings=[],
        rejects=rejects,
        files_seen=outside + len(rows),
        root=root,
        source="dicom",
    )
    if listing.links:
        reading.notes.append(f"links to folders, which are not followed: {listing.links}")
    _leave_out(reading, checked=check is not None, allow_burned_in=allow_burned_in)
    _finish(reading)
    return reading, state


def _rejected(rows: pa.Table) -> list[tuple[str, Reason]]:
    left_out = rows.filter(pc.is_valid(rows["reason"]))
    reasons = {str(reason): reason for reason in Reason}
    return [
        (path, reasons[reason])
        for path, reason in zip(left_out["path"].to_pylist(), left_out["reason"].to_pylist(), strict=True)
    ]


def _checked(
    rows: pa.Table, check: PixelCheck, root: Path, workers: int | None, progress: Progress | None
) -> Iterator[pa.Table]:
    """Fill the columns `CHECKED` of the radiographs that have none yet, a portion at a time."""
    table = rows.to_pandas()
    todo = table.index[table["reason"].isna() & table["decodable"].isna()]
    paths = [root / path for path in table.loc[todo, "path"]]
    table["decodable"] = table["decodable"].astype("boolean")
    for found in check_all(paths, check, workers=workers, progress=progress):
        found.index = todo[found.index]
        for name in found.columns:
            table.loc[found.index, name] = found[name]
        yield pa.Table.from_pandas(table, schema=ROWS, preserve_index=False)


def _leave_out(reading: Reading, *, checked: bool, allow_burned_in: bool) -> None:
    """Leave out what only shows among the other files of the export."""
    if not allow_burned_in:
        reading.leave_out(reading.table["_burned_in"].astype(bool), Reason.BURNED_IN)
    if checked:
        reading.leave_out(~reading.table["decodable"].astype(bool), Reason.UNDECODABLE)
    reading.leave_out(reading.table["image_id"].duplicated(), Reason.DUPLICATE)
    reading.leave_out(raw_twins(reading.table), Reason.FOR_PROCESSING)
    if checked:
        leave_out_checked(reading)


def _finish(reading: Reading) -> None:
    """Tell what the user should know, and take care of shared studies."""
    table = reading.table = reading.table.copy()
    table["study_datetime"] = pd.to_datetime(table["study_datetime"])
    table["_study"] = table["study_id"]  # for labels that come with the StudyInstanceUID
    table["study_id"], shared = own_studies(table, all_if_any=False)
    # The images of a study may carry different times: the study has one, its earliest.
    table["study_datetime"] = table.groupby("study_id")["study_datetime"].transform("min")
    counted = {
        "paths that contain the patient's id or name (they stay in the cohort file)": table["_names_patient"].sum(),
        "radiographs without a body part, taken for chest radiographs": table["_no_body_part"].sum(),
        "radiographs FOR PROCESSING that have no twin FOR PRESENTATION": table["_for_processing"].sum(),
        "ages that were not understood and became missing": table["_bad_age"].sum(),
        "files that begin as a program or another document does (their pixels are read as any others', but do not open "
        "or pass on such files)": table["_foreign"].sum(),
        "studies of several patients that became one study of each": shared,
    }
    reading.notes.extend(f"{what}: {int(count)}" for what, count in counted.items() if count)
