"""`cxrpair index`: from a source of any format to a cohort file, its rejects, and the owner's key and mapping."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from monai_cxrpair.cohort import chexpert, nih
from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.deidentify import deidentify, load_key, write_mapping
from monai_cxrpair.cohort.dicom import Progress, read_dicom
from monai_cxrpair.cohort.files import atomic_path, check_writable
from monai_cxrpair.cohort.labels import join_labels
from monai_cxrpair.cohort.reading import Reading
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.cohort.schema import complete
from monai_cxrpair.cohort.table import read_table
from monai_cxrpair.cohort.textfile import is_table, read_text_table
from monai_cxrpair.errors import CxrPairError

FORMATS = ("dicom", "chexpert", "nih", "table")


@dataclass(frozen=True, kw_only=True)
class IndexResult:
    """What `index_source` did.

    Attributes:
        cohort: The radiographs.
        rejects: Columns `path` and `reason`, one row per file (or row of the table) left out.
        files_seen: Radiographs and rejects together.
        notes: What the user should know, one line each.
        out: The cohort file.
        rejects_file: `<out stem>.rejects.csv`.
    """

    cohort: Cohort
    rejects: pd.DataFrame
    files_seen: int
    notes: list[str]
    out: Path
    rejects_file: Path

    def as_json(self) -> dict[str, Any]:
        """The last line of `cxrpair index --json`."""
        return {**self.cohort.summary(), **self.cohort.intake, "notes": self.notes}


def index_source(
    source: str | Path,
    *,
    out: str | Path,
    file_format: str | None = None,
    root: str | Path | None = None,
    column: Mapping[str, str] | None = None,
    finding: Mapping[str, str] | None = None,
    labels: str | Path | None = None,
    keep_identifiers: bool = False,
    check_files: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> IndexResult:
    """Make a cohort file of a source.

    The identifiers of DICOM files are replaced by keyed hashes (`<out stem>.key`, `<out stem>.mapping.csv`, both for
    the owner only) unless they are to be kept. CheXpert, NIH and tables keep the ids they come with: those of published
    datasets are public, and external split files need them.

    Args:
        source: A folder of DICOM files, or a table.
        out: The cohort file to write, `*.parquet`.
        file_format: One of `FORMATS`; None to find out.
        root: The folder that paths are relative to; None for `source`, or the table's folder.
        column: Cohort column -> column of the table; for the format `table` only.
        finding: Finding -> column of the table or of the labels file.
        labels: A table whose findings are joined by image id, study id or path.
        keep_identifiers: Keep the DICOM identifiers, dates and ages.
        check_files: Leave out rows of a table whose file does not exist.
        workers: Processes that read DICOM headers; None for one per core.
        progress: Called with files done and files in all.

    Returns:
        The result; cohort and rejects are written.

    Raises:
        CxrPairError: Something is wrong with the source, the options or the output folder, or nothing is left.
    """
    source, out = Path(source), Path(out)
    if out.suffix != ".parquet":
        raise CxrPairError(f"--out {out}: the name of a cohort file ends with .parquet")
    check_writable(out)
    key_file, mapping_file = out.with_suffix(".key"), out.with_suffix(".mapping.csv")
    rejects_file = out.with_suffix(".rejects.csv")
    label_table = read_text_table(Path(labels)) if labels is not None else None
    file_format, raw = _recognise(source, file_format)
    base = Path(root) if root is not None else source if source.is_dir() else source.parent
    if not base.is_dir():
        raise CxrPairError(f"the root {base} is no folder")
    for_table, for_labels = _distribute(finding or {}, raw if file_format == "table" else None, label_table)
    if column and file_format != "table":
        raise CxrPairError(f"--column is for the format table; {source} is read as {file_format}")
    if raw is None:
        written = (out, rejects_file, key_file, mapping_file)
        reading = read_dicom(source, root=base, workers=workers, progress=progress, skip=written)
    elif file_format == "chexpert":
        reading = chexpert.read_chexpert(raw, root=base)
    elif file_format == "nih":
        reading = nih.read_nih(raw, root=base)
    else:
        reading = read_table(raw, root=base, column=column, finding=for_table)
    if check_files and raw is not None:
        reading.leave_out(~reading.table["path"].map(lambda path: (base / path).is_file()), Reason.MISSING_FILE)
    rejects = _write_rejects(reading, rejects_file)
    if label_table is not None:
        join_labels(reading, label_table, finding=for_labels)
    table = complete(reading.table, reading.findings)  # ranks the studies, while their ids still mean something
    table = table[[name for name in table.columns if not name.startswith("_")]]
    if file_format == "dicom" and not keep_identifiers:
        table, mapping = deidentify(table, load_key(key_file))
        write_mapping(mapping, mapping_file)
    intake = {"files_seen": reading.files_seen, "rejected": dict(sorted(Counter(rejects["reason"]).items()))}
    cohort = Cohort(table, root=base, findings=reading.findings, source=reading.source, intake=intake)
    cohort.write(out)  # last: where it is, the index is complete
    return IndexResult(
        cohort=cohort,
        rejects=rejects,
        files_seen=reading.files_seen,
        notes=reading.notes,
        out=out,
        rejects_file=rejects_file,
    )


def _recognise(source: Path, file_format: str | None) -> tuple[str, pd.DataFrame | None]:
    """Find out the format; return it with the table, None for DICOM."""
    if file_format is not None and file_format not in FORMATS:
        raise CxrPairError(f"--format {file_format}: no such format; there are {', '.join(FORMATS)}")
    if not source.exists():
        raise CxrPairError(f"there is no {source}")
    if file_format == "dicom" or (file_format is None and source.is_dir()):
        return "dicom", None
    if source.is_dir():
        raise CxrPairError(f"{source} is a folder, and the format {file_format} reads a table")
    if file_format is None and not is_table(source):
        raise CxrPairError(f"{source} is neither a folder nor a table; one DICOM file needs --format dicom")
    raw = read_text_table(source)
    if file_format is None:
        names = set(raw.columns)
        fits = {"chexpert": set(chexpert.COLUMNS) <= names, "nih": {"Image Index", "Finding Labels"} <= names}
        file_format = next((name for name, fit in fits.items() if fit), "table")
    return file_format, raw


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
    with atomic_path(path) as temporary:
        rejects.to_csv(temporary, index=False)
    if len(reading.table):
        return rejects
    counts = ", ".join(f"{reason} {n}" for reason, n in Counter(rejects["reason"]).most_common())
    what = f"{reading.files_seen} files were left out ({counts}); see {path}" if counts else "there is no file in it"
    raise CxrPairError(f"no radiograph in {reading.root}: {what}")
