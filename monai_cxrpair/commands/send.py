from pathlib import Path
from typing import Annotated

import typer

from monai_cxrpair.commands.common import JsonOption, print_json, progress_bar


def send(
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="DICOM files, and folders of them.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="SERVER",
            help="https://host/dicom-web (STOW-RS), AET@host:port or dimses://AET@host:port (C-STORE, with TLS).",
        ),
    ],
    aet: Annotated[str, typer.Option(metavar="AET", help="C-STORE: our own AE title.")] = "CXRPAIR",
    parallel: Annotated[int, typer.Option(min=1, max=32, help="Objects, and so connections, at a time.")] = 4,
    retries: Annotated[int, typer.Option(min=0, max=20, help="Further attempts when a request fails.")] = 6,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for an answer.")] = 60,
    as_json: JsonOption = False,
) -> None:
    """Send DICOM objects to a PACS, over DICOMweb or DIMSE: the reports and overlays of an inference run.

    Files are sent byte for byte as they are. An object has one UID for what it says: sent again, it is the same object.
    Credentials come from the environment, as for `cxrpair pull`: CXRPAIR_PACS_USER and CXRPAIR_PACS_PASSWORD, or
    CXRPAIR_PACS_TOKEN; CXRPAIR_PACS_CA, CXRPAIR_PACS_CERT and CXRPAIR_PACS_KEY name PEM files. They are never sent
    unencrypted to another machine.
    """
    from monai_cxrpair.errors import CxrPairError
    from monai_cxrpair.pacs.send import send as send_files

    with progress_bar("Sending objects") as progress:
        result = send_files(to, files, aet=aet, parallel=parallel, retries=retries, timeout=timeout, progress=progress)
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        print_json(result.as_json())
    else:
        for name, value in result.as_json().items():
            typer.echo(f"{name}: {value}")
    if result.failed:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in result.reasons.most_common(3))
        raise CxrPairError(f"{result.failed} objects failed ({reasons}): send again to try them")
