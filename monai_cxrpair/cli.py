"""`cxrpair ...`: data and reports. Training itself is `python -m monai.bundle run`.

The commands stay thin: each parses its options, calls its room and prints. Rooms are imported inside of the commands,
so that `cxrpair --help` costs nothing and `cxrpair index` never waits for torch or MONAI.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_cxrpair import __version__
from monai_cxrpair.errors import CxrPairError

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(
    name="cxrpair",
    help="Contrastive pre-training of chest X-ray encoders with positive pairs chosen by patient metadata.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # errors are one line; main() prints them
    context_settings={"help_option_names": ["-h", "--help"]},
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one line of JSON for machines.")]


class SourceFormat(StrEnum):
    """The formats of `cxrpair index`; `monai_cxrpair.cohort.index.FORMATS` has the same."""

    DICOM = "dicom"
    CHEXPERT = "chexpert"
    NIH = "nih"
    TABLE = "table"


class PhantomFormat(StrEnum):
    """The files that `cxrpair phantom` writes."""

    DICOM = "dicom"
    PNG = "png"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cxrpair {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""


def _pairs(option: str, values: Sequence[str]) -> dict[str, str]:
    """Read `NAME=SOURCE` options; SOURCE may hold further `=`."""
    pairs: dict[str, str] = {}
    for value in values:
        name, equals, source = value.partition("=")
        if not (name.strip() and equals and source):
            raise typer.BadParameter(f"{value!r} should read NAME=SOURCE", param_hint=option)
        if name.strip() in pairs:
            raise typer.BadParameter(f"{name.strip()!r} is given twice", param_hint=option)
        pairs[name.strip()] = source
    return pairs


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr, and nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))


def _print_tables(tables: "Sequence[Table]") -> None:
    from rich.console import Console

    console = Console()
    for table in tables:
        console.print(table)


@app.command(
    epilog="Example: cxrpair index /data/pacs_export --out cohort.parquet --labels effusion.csv",
)
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
    wanted_columns, wanted_findings = _pairs("--column", column or []), _pairs("--finding", finding or [])
    from monai_cxrpair.cohort.index import index_source

    with _progress("Reading") as progress:
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
        _print_json(summary)
        return
    from monai_cxrpair.cohort.describe import summary_tables

    _print_tables(summary_tables(summary))
    typer.echo(f"Cohort: {result.out}\nLeft out, with reasons: {result.rejects_file}")


@app.command(epilog="Example: cxrpair describe cohort.parquet")
def describe(
    file: Annotated[Path, typer.Argument(help="A cohort file, written by `cxrpair index`.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a cohort holds: patients, studies, views, ages, findings."""
    from monai_cxrpair.cohort import Cohort
    from monai_cxrpair.cohort import describe as description_of

    description = description_of.describe(Cohort.read(file))
    if as_json:
        _print_json(description)
    else:
        _print_tables(description_of.description_tables(description))


@app.command(epilog="Example: cxrpair phantom phantom/ --patients 200 --format dicom --seed 1")
def phantom(
    out: Annotated[Path, typer.Argument(help="The folder to write to.")],
    patients: Annotated[int, typer.Option(min=1, help="Number of patients.")],
    file_format: Annotated[PhantomFormat, typer.Option("--format", help="File format.")] = PhantomFormat.DICOM,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    like: Annotated[
        Path | None, typer.Option(help="A cohort file whose structure of patients and studies is taken.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write synthetic chest radiographs with known truth (OUT/truth.csv)."""
    from monai_cxrpair.phantom import write_phantom

    with _progress("Writing") as progress:
        result = write_phantom(
            out, patients=patients, file_format=file_format.value, seed=seed, like=like, progress=progress
        )
    if as_json:
        _print_json(result)
    else:
        for name, value in result.items():
            typer.echo(f"{name}: {value}")


def main() -> None:
    """Run the command line: exit 0 on success, 2 on wrong usage, 1 with one line on stderr otherwise."""
    debug = bool(os.environ.get("CXRPAIR_DEBUG"))
    try:
        app()
    except CxrPairError as error:
        if debug:
            raise
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
    except Exception as error:  # the last frame: whatever it is, the user gets one line
        if debug:
            raise
        # The message of an unforeseen error may hold a patient's data, so it is shown only on request.
        name = type(error).__name__
        typer.echo(f"error: unexpected {name}; set CXRPAIR_DEBUG=1 to see where it comes from", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
