from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from monai_cxrpair.commands.common import JsonOption, print_json, progress_bar


class PhantomFormat(StrEnum):
    """The files that `cxrpair phantom` writes."""

    DICOM = "dicom"
    PNG = "png"


class PhantomStructure(StrEnum):
    """Whose studies the phantom's are like."""

    CHEXPERT = "chexpert"
    MIMIC = "mimic"


def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write to.")],
    patients: Annotated[int, typer.Option(min=1, help="Number of patients.")],
    file_format: Annotated[PhantomFormat, typer.Option("--format", help="File format.")] = PhantomFormat.DICOM,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    like: Annotated[
        Path | None, typer.Option(help="A cohort file whose structure of patients and studies is taken.")
    ] = None,
    structure: Annotated[
        PhantomStructure,
        typer.Option(help="Radiographs of a study: chexpert 1.19 on average (with --like: those there), mimic 1.66."),
    ] = PhantomStructure.CHEXPERT,
    as_json: JsonOption = False,
) -> None:
    """Write synthetic chest radiographs with known truth (OUT/truth.csv)."""
    from monai_cxrpair.phantom import write_phantom

    with progress_bar("Writing") as progress:
        result = write_phantom(
            out,
            patients=patients,
            file_format=file_format.value,
            seed=seed,
            like=like,
            structure=structure.value,
            progress=progress,
        )
    if as_json:
        print_json(result)
    else:
        for name, value in result.items():
            typer.echo(f"{name}: {value}")
