"""`cxrpair index`: from a source of any format to a cohort file, its rejects, and the owner's key and mapping."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.deidentify import load_key, without_identifiers, write_mapping
from monai_cxrpair.cohort.dicom.export import read_dicom
from monai_cxrpair.cohort.dicom.reindex import options_digest, remember, unchanged_since
from monai_cxrpair.cohort.dicom.state import StateFile
from monai_cxrpair.cohort.files import as_cell, check_writable, write_csv
from monai_cxrpair.cohort.labels import join_labels
from monai_cxrpair.cohort.pixel_check import PixelCheck, check_all, leave_out_checked
from monai_cxrpair.cohort.processes import Progress
from monai_cxrpair.cohort.readers.formats import FORMATS, PUBLISHED, recognise
from monai_cxrpair.cohort.readers.table import read_table
from monai_cxrpair.cohort.readers.textfile import read_text_table
from monai_cxrpair.cohort.reading import Reading
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.cohort.schema import complete
from monai_cxrpair.errors import CxrPairError

__all__ = ["FORMATS", "IndexResult", "index_source"]


@dataclass(frozen=True, kw_only=True)
class IndexResult:
    """What `index_source` did; cohort and rejects are read from their files when they are asked for.

    Attributes:
        summary: `Cohort.summary` and `Cohort.intake`.
        notes: What the user should know, one line each.
        out: The cohort file.
        rejects_file: `<out stem>.rejects.csv`: columns `path` and `reason`, one row per file (or row of the table)
            left out.
        unchanged: Nothing was new since the last time, and nothing was written.
    """

    summary: Mapping[str, Any]
    notes: list[str]
    out: Path
    rejects_file: Path
    unchanged: bool = False

    @cached_property
    def cohort(self) -> Cohort:
        """The radiographs."""
        return Cohort.read(self.out)

    @cached_property
    def rejects(self) -> pd.DataFrame:
        """The rejects."""
        return pd.read_csv(self.rejects_file, dtype=str, na_filter=False)

    @property
    def files_seen(self) -> int:
        """Radiographs and rejects together."""
        return int(self.summary["files_seen"])

    def as_json(self) -> dict[str, Any]:
        """The last line of `cxrpair index --json`."""
        return {**self.summary, "notes": self.notes, "unchanged": self.unchanged}


def index_source(
    source: str | Path,
    *,
    out: str | Path,
    file_format: str | None = None,
    root: str | Path | None = None,
    column: Mapping[str, str] | None = None,
    finding: Mapping[str, str] | None = None,
    labels: str | Path | None = None,
    keep_identifiers: bool | None = None,
    allow_burned_in: bool = False,
    check_files: bool = False,
    check_pixels: PixelCheck | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> IndexResult:
    """Make a cohort file of a source.

    The identifiers of DICOM files are replaced by keyed hashes (`<out stem>.key`, `<out stem>.mapping.csv`, both for
    the owner only) unless they are to be kept. Published data sets and tables keep the ids they come with: they are
    public, and external split files need them. What is known of DICOM files stays in `<out stem>.state`, so that the
    next index step on the same folder reads only what is new.

    Args:
        source: A folder of DICOM files, a DICOMDIR, an archive, a table, or the folder of a published data set.
        out: The cohort file to write, `*.parquet`.
        file_format: One of `FORMATS`; None to find out.
        root: The folder that paths are relative to; None for `source`, or the folder it lies in.
        column: Cohort column -> column of the table; for the format `table` only.
        finding: Finding -> column of the table or of the labels file.
        labels: A table whose findings are joined by image id, study id or path.
        keep_identifiers: Keep ids, dates and ages as they are; None: not those of DICOM files, but those of tables.
        allow_burned_in: Take DICOM radiographs whose header says that text is burned into the pixels.
        check_files: Leave out rows of a table whose file does not exist.
        check_pixels: Reads the pixels of a file: leave out what cannot be decoded and what has the same pixels.
        workers: Processes that read files; None for one per core.
        progress: Called with files done and files in all.

    Returns:
        The result; cohort and rejects are written.

    Raises:
        CxrPairError: Something is wrong with the source, the options or the output folder, or nothing is left.
    """
    source, out = Path(source), Path(out)
    root, labels = Path(root) if root is not None else None, Path(labels) if labels is not None else None
    options = options_digest({k: v for k, v in locals().items() if k not in ("workers", "progress", "out")})
    if out.suffix != ".parquet":
        raise CxrPairError(f"--out {out}: the name of a cohort file ends with .parquet")
    check_writable(out)
    rejects_file = out.with_suffix(".rejects.csv")
    file_format, table_file, raw = recognise(source, file_format)
    base = root if root is not None else source if source.is_dir() else source.parent
    if not base.is_dir():
        raise CxrPairError(f"the root {base} is no folder")
    if column and file_format != "table":
        raise CxrPairError(f"--column is for the format table; {source} is read as {file_format}")
    deidentify = file_format == "dicom" if keep_identifiers is None else not keep_identifiers
    outputs = _outputs(out, deidentify=deidentify)
    state_file = StateFile(out.with_suffix(".state"), root=base)
    if raw is None:
        said = unchanged_since(state_file, options, outputs, root=base)
        if said is not None:
            return IndexResult(**said, out=out, rejects_file=rejects_file, unchanged=True)
    label_table = read_text_table(labels) if labels is not None else None
    for_table, for_labels = _distribute(finding or {}, raw if file_format == "table" else None, label_table)
    state = None
    if raw is None:
        reading, state = read_dicom(
            source,
            root=base,
            workers=workers,
            progress=progress,
            skip=(*_outputs(out, deidentify=True), state_file.path),
            state_file=state_file,
            check=check_pixels,
            allow_burned_in=allow_burned_in,
        )
        state_file.write(state)  # before anything else can fail
    elif file_format in PUBLISHED:
        reading = PUBLISHED[file_format].read(raw, root=base, file=table_file)
    else:
        reading = read_table(raw, root=base, column=column, finding=for_table)
    if raw is not None:
        _check_table(reading, check_files, check_pixels, workers=workers, progress=progress)
    rejects = _write_rejects(reading, rejects_file)
    if label_table is not None:
        join_labels(reading, label_table, finding=for_labels)
    _look_at_patients(reading)
    table = complete(reading.table, reading.findings)  # ranks the studies, while their ids still mean something
    table = table[[name for name in table.columns if not name.startswith("_")]]
    if deidentify:
        key_file, mapping_file = out.with_suffix(".key"), out.with_suffix(".mapping.csv")
        if mapping_file.exists() and not key_file.exists():
            reading.notes.append(f"the key of the earlier cohort is gone: {key_file.name} is new, and so are all ids")
        table, mapping = without_identifiers(table, load_key(key_file))
        write_mapping(mapping, mapping_file)
    intake = {"files_seen": reading.files_seen, "rejected": dict(sorted(Counter(rejects["reason"]).items()))}
    cohort = Cohort(
        table,
        root=base,
        findings=reading.findings,
        source=reading.source,
        intake=intake,
        patients_known=reading.patients_known,
    )
    cohort.write(out)  # last: where it is, the index is complete
    said = {"summary": {**cohort.summary(), **intake}, "notes": reading.notes}
    if state is not None and state.has_all(checked=check_pixels is not None):
        remember(state_file, state, options, outputs, said)
    return IndexResult(**said, out=out, rejects_file=rejects_file)


def _outputs(out: Path, *, deidentify: bool) -> list[Path]:
    owners = [out.with_suffix(".key"), out.with_suffix(".mapping.csv")]
    return [out, out.with_suffix(".rejects.csv"), *(owners if deidentify else [])]


def _look_at_patients(reading: Reading) -> None:
    """White space around an id means nothing (PS3.5 section 6.2, LO); its case may, so that is only said."""
    ids = reading.table["patient_id"] = reading.table["patient_id"].str.strip()
    different = pd.Series(ids.unique(), dtype="str")
    alike = int(different.str.casefold().duplicated(keep=False).sum())
    if alike:
        reading.notes.append(
            f"{alike} patient ids differ by capital letters only: they count as different patients, who may be on two "
            "sides of a split; where they are not, write them alike in the source and index again"
        )


def _check_table(
    reading: Reading, files: bool, pixels: PixelCheck | None, *, workers: int | None, progress: Progress | None
) -> None:
    """Look at the files that a table names."""
    if files or pixels is not None:
        there = reading.table["path"].map(lambda path: (reading.root / path).is_file()).astype(bool)
        reading.leave_out(~there, Reason.MISSING_FILE)
    if pixels is not None and len(reading.table):
        reading.table = reading.table.reset_index(drop=True)
        paths = [reading.root / path for path in reading.table["path"]]
        reading.table = reading.table.join(
            pd.concat(list(check_all(paths, pixels, workers=workers, progress=progress)))
        )
        leave_out_checked(reading)


def _distribute(
    finding: Mapping[str, str], table: pd.DataFrame | None, labels: pd.DataFrame | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Tell which --finding is a column of the table and which one of the labels file; the table comes first."""
    for_table = {name: column for name, column in finding.items() if table is not None and column in table}
    for_labels = {name: column for name, column in finding.items() if name not in for_table}
    if for_labels and labels is None:
        name, column = next(iter(for_labels.items()))
        if table is None:
            raise CxrPairError(f"--finding {name}={column}: only the format table and a --labels file have columns")
        raise CxrPairError(f"--finding {name}={column}: no such column; there are: {', '.join(table.columns)}")
    return for_table, for_labels


def _write_rejects(reading: Reading, path: Path) -> pd.DataFrame:
    """Write the rejects, and stop where nothing else is left."""
    reading.rejects.sort()
    rejects = pd.DataFrame(reading.rejects, columns=["path", "reason"]).astype("str")
    write_csv(rejects.assign(path=rejects["path"].map(as_cell)), path)
    if len(reading.table):
        return rejects
    counts = ", ".join(f"{reason} {n}" for reason, n in Counter(rejects["reason"]).most_common())
    what = f"{reading.files_seen} files were left out ({counts}); see {path}" if counts else "there is no file in it"
    raise CxrPairError(f"no radiograph in {reading.root}: {what}")
