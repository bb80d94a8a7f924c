from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monai_cxrpair.commands.common import JsonOption, name_pairs, print_json, print_tables, progress_bar

if TYPE_CHECKING:
    from monai_cxrpair.cohort.pixel_check import PixelCheck


class SourceFormat(StrEnum):
    """The formats of `cxrpair index`; `monai_cxrpair.cohort.index.FORMATS` has the same."""

    DICOM = "dicom"
    CHEXPERT = "chexpert"
    MIMIC_CXR = "mimic-cxr"
    NIH = "nih"
    PADCHEST = "padchest"
    VINDR = "vindr"
    OPENI = "openi"
    RSNA = "rsna"
    TABLE = "table"


def index(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A folder, DICOMDIR, .zip or .tar(.gz) of DICOM; a table; a data set."),
    ],
    out: Annotated[Path, typer.Option(help="The cohort file to write, *.parquet.")],
    file_format: Annotated[
        SourceFormat | None, typer.Option("--format", help="What SOURCE is; found out where it is not given.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that paths are relative to; default: SOURCE or the table's folder.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="TARGET=SOURCE", help="Cohort column and the table's name for it.")
    ] = None,
    finding: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SOURCE", help="Finding and the table's name for it.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Table with findings, joined by image id, study id or path.")
    ] = None,
    keep_identifiers: Annotated[
        bool | None,
        typer.Option(
            "--keep-identifiers/--deidentify",
            help="Ids, dates and ages as they are, or hashed, shifted, capped; default: DICOM is de-identified.",
            show_default=False,
        ),
    ] = None,
    allow_burned_in: Annotated[
        bool, typer.Option("--allow-burned-in", help="Take DICOM whose header says that text is burned in.")
    ] = False,
    check_files: Annotated[
        bool, typer.Option("--check-files", help="Leave out rows of a table whose file does not exist.")
    ] = False,
    check_pixels: Annotated[
        bool,
        typer.Option(
            "--check-pixels", help="Decode all pixels: leave out damaged files and copies, note hashes (minutes)."
        ),
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read files; default: all cores.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the chest radiographs in SOURCE and write them as a cohort file.

    Whatever is left out stands in OUT's .rejects.csv with a reason. DICOM ids become keyed hashes; their key and the
    mapping stay beside OUT (.key, .mapping.csv), for the owner of the data only. Indexing the same folder again reads
    only what is new (.state).
    """
    wanted_columns, wanted_findings = name_pairs("--column", column or []), name_pairs("--finding", finding or [])
    from monai_cxrpair.cohort.index import index_source

    with progress_bar("Reading") as progress:
        result = index_source(
            source,
            out=out,
            file_format=None if file_format is None else file_format.value,
            root=root,
            column=wanted_columns,
            finding=wanted_findings,
            labels=labels,
            keep_identifiers=keep_identifiers,
            allow_burned_in=allow_burned_in,
            check_files=check_files,
            check_pixels=_pixel_check() if check_pixels else None,
            workers=workers,
            progress=progress,
        )
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    summary = result.as_json()
    if as_json:
        print_json(summary)
        return
    from monai_cxrpair.cohort.describe.text import summary_tables

    if result.unchanged:
        typer.echo("Nothing is new since the last time.")
    print_tables(summary_tables(summary))
    typer.echo(f"Cohort: {result.out}\nLeft out, with reasons: {result.rejects_file}")


def _pixel_check() -> "PixelCheck":
    """The cohort does not know how pixels are read: imaging is handed to it here."""
    from monai_cxrpair.imaging.check import pixel_columns

    return pixel_columns
