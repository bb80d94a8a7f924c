from pathlib import Path
from typing import Annotated

import typer

from monai_cxrpair.commands.common import JsonOption, print_json, print_tables


def describe(
    file: Annotated[Path, typer.Argument(help="A cohort file, written by `cxrpair index`.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a cohort holds: patients, studies, views, ages, findings."""
    from monai_cxrpair.cohort import Cohort
    from monai_cxrpair.cohort import describe as description_of

    description = description_of.describe(Cohort.read(file))
    if as_json:
        print_json(description)
    else:
        print_tables(description_of.description_tables(description))
