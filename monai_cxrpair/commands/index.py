from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from monai_cxrpair.commands.common import JsonOption, name_pairs, print_json, print_tables, progress_bar


class SourceFormat(StrEnum):
    """The formats of `cxrpair index`; `monai_cxrpair.cohort.index.FORMATS` has the same."""

    DICOM = "dicom"
    CHEXPERT = "chexpert"
    NIH = "nih"
    TABLE = "table"


def index(
    source: Annotated[Path, typer.Argument(help="A folder of DICOM files, or a table (CSV, TSV, Excel, parquet).")],
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
        bool, typer.Option("--keep-identifiers", help="Keep DICOM ids, dates and ages (they identify patients).")
    ] = False,
    check_files: Annotated[
        bool, typer.Option("--check-files", help="Leave out rows of a table whose file does not exist.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read DICOM; default: all cores.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the chest radiographs in SOURCE and write them as a cohort file.

    Whatever is left out stands in OUT's .rejects.csv with a reason. DICOM ids become keyed hashes; their key and the
    mapping stay beside OUT (.key, .mapping.csv), for the owner of the data only.
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
            check_files=check_files,
            workers=workers,
            progress=progress,
        )
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    summary = result.as_json()
    if as_json:
        print_json(summary)
        return
    from monai_cxrpair.cohort.describe import summary_tables

    print_tables(summary_tables(summary))
    typer.echo(f"Cohort: {result.out}\nLeft out, with reasons: {result.rejects_file}")
