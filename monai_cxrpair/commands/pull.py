from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from monai_cxrpair.commands.common import JsonOption, print_json, progress_bar


class Method(StrEnum):
    """How DIMSE fetches."""

    GET = "get"
    MOVE = "move"


def pull(
    server: Annotated[
        str, typer.Argument(metavar="SERVER", help="https://host/dicom-web, dimse://AET@host:port or dimses:// (TLS).")
    ],
    out: Annotated[Path, typer.Option(help="The folder to pull to; a pull into it goes on where the last one ended.")],
    dates: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST-LAST", help="Study dates, YYYYMMDD-YYYYMMDD, both included; either may be missing."
        ),
    ] = None,
    accessions: Annotated[
        Path | None, typer.Option(help="Accession numbers: one per line, or a table with a column AccessionNumber.")
    ] = None,
    modality: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Modality of a series; default: DX and CR.")
    ] = None,
    body_part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Body part of a series, such as CHEST; series without one are pulled too. Default: any.",
        ),
    ] = None,
    aet: Annotated[str, typer.Option(metavar="AET", help="DIMSE: our own AE title.")] = "CXRPAIR",
    method: Annotated[Method, typer.Option(help="DIMSE: C-GET or C-MOVE.")] = Method.GET,
    bind: Annotated[
        str | None,
        typer.Option(
            metavar="IP", help="C-MOVE: IP address of this machine to receive at; 127.0.0.1 for a local server."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="C-MOVE: port to receive at.")] = 11112,
    parallel: Annotated[int, typer.Option(min=1, max=32, help="Studies, and so connections, at a time.")] = 4,
    retries: Annotated[int, typer.Option(min=0, max=20, help="Further attempts when a request fails.")] = 6,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for an answer.")] = 60,
    as_json: JsonOption = False,
) -> None:
    """Pull studies from a PACS, over DICOMweb or DIMSE, by dates or accession numbers.

    Credentials come from the environment: CXRPAIR_PACS_USER and CXRPAIR_PACS_PASSWORD, or CXRPAIR_PACS_TOKEN;
    CXRPAIR_PACS_CA, CXRPAIR_PACS_CERT and CXRPAIR_PACS_KEY name PEM files. They are never sent unencrypted to another
    machine. The folder holds what the PACS holds, with the patients' identifiers: keep it as you keep the PACS.
    """
    from monai_cxrpair.errors import CxrPairError
    from monai_cxrpair.pacs import Query
    from monai_cxrpair.pacs import pull as pull_studies
    from monai_cxrpair.pacs.accessions import read_accessions
    from monai_cxrpair.pacs.connect import NOT_FOUND_FILE
    from monai_cxrpair.pacs.query import date_range

    if dates is None and accessions is None:
        raise typer.BadParameter("give --dates or --accessions: neither would ask for the whole archive")
    try:
        days = None if dates is None else date_range(dates)
    except CxrPairError as error:
        raise typer.BadParameter(str(error), param_hint="--dates") from None
    query = Query(
        dates=days,
        accessions=() if accessions is None else read_accessions(accessions),
        modalities=tuple(modality or ("DX", "CR")),
        body_parts=tuple(body_part or ()),
    )
    with progress_bar("Pulling studies") as progress:
        result = pull_studies(
            server,
            out,
            query,
            aet=aet,
            method=method.value,
            bind=bind,
            port=port,
            parallel=parallel,
            retries=retries,
            timeout=timeout,
            progress=progress,
        )
    if not result.studies:
        result.notes.append("no study at the server fits the query")
    if result.not_found:
        result.notes.append(
            f"{len(result.not_found)} accession numbers have no such study; they stand in {out / NOT_FOUND_FILE}"
        )
    if result.unwanted:
        result.notes.append(f"{result.unwanted} instances arrived unasked and were thrown away")
    for note in result.notes:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        print_json(result.as_json())
    else:
        for name, value in result.as_json().items():
            typer.echo(f"{name}: {value}")
    if result.failed or result.studies_failed:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in result.reasons.most_common(3))
        raise CxrPairError(
            f"{result.failed} instances and {result.studies_failed} studies failed ({reasons}): pull again to try them"
        )
