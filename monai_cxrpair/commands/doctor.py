from typing import Annotated

import typer

from monai_cxrpair.commands.common import JsonOption, print_json


def doctor(
    label: Annotated[
        bool, typer.Option("--label", help="Look at the environment of the label server too (some ten seconds).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell what is installed, what is missing, and the one command that mends it.

    Exits with 1 when something that is needed is missing or too old. Uses no network.
    """
    from monai_cxrpair.commands.doctor_checks import all_checks, remedy
    from monai_cxrpair.errors import CxrPairError

    checks = list(all_checks(label=label))
    missing = [check.name for check in checks if check.status == "missing"]
    command = remedy(label=label)
    if as_json:
        found = {"ok": not missing, "checks": [check.as_json() for check in checks]}
        print_json(found | {"remedy": command if missing else None})
    else:
        for check in checks:
            line = f"{check.status:8}{check.name}: {check.found}"
            typer.echo(f"{line}  ({check.advice})" if check.advice else line)
    if missing:
        raise CxrPairError(f"{', '.join(missing)}: not as needed; run: {command}")
