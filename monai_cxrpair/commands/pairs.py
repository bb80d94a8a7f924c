from pathlib import Path
from typing import Annotated, Any

import typer

from monai_cxrpair.commands.common import JsonOption, print_json, progress_bar

_BATCH_SIZE = 32  # of bundle/configs/train.yaml: an automatic queue is a whole number of batches


def pairs(
    file: Annotated[Path, typer.Argument(help="A cohort file, written by `cxrpair index`.")],
    config: Annotated[
        list[Path] | None,
        typer.Option(help="An overlay of the bundle: count the rule of its `pairing` section, too. May be repeated."),
    ] = None,
    finding: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The finding of the pictures; default: pleural_effusion, else the first."),
    ] = None,
    queue_size: Annotated[
        int | None,
        typer.Option(min=1, help="Keys in the queue; default: the `queue_size` of --config, else as in training."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Also write one self-contained page, with pictures.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what pairing rules do in a cohort, before anything is trained.

    Under each rule: how many radiographs have a partner, how many are paired with themselves, and how often two that
    are paired disagree on a finding.
    """
    from monai_cxrpair.cohort import Cohort
    from monai_cxrpair.cohort.files import check_writable
    from monai_cxrpair.pairing import PairCriterion
    from monai_cxrpair.pairing.census import census, shown_finding
    from monai_cxrpair.pairing.queue_size import queue_size as keys

    overlays = [_overlay(path) for path in config or []]
    rules = [PairCriterion.from_config(overlay["pairing"]) for overlay in overlays]
    cohort = Cohort.read(file)
    chosen = shown_finding(cohort, finding)
    if html is not None:
        check_writable(html)
    settings = [overlay["queue_size"] for overlay in overlays if "queue_size" in overlay]
    setting = queue_size or next(iter(settings), "auto")
    size = keys(setting, radiographs=len(cohort), batch_size=_BATCH_SIZE)
    names = [path.stem for path in config or []]
    with progress_bar("Rules") as progress:
        further = list(zip(names, rules, strict=True))
        found = census(cohort, queue_size=size, further=further, progress=progress)
    if html is not None:
        from monai_cxrpair.pairing.census_html import write_page

        write_page(found, html, finding=chosen)
    if as_json:
        print_json(found)
        return
    from rich.console import Console

    from monai_cxrpair.pairing.census_text import census_tables

    console = Console(highlight=False)
    for part in census_tables(found, finding=chosen):
        console.print(part)
        console.print()
    if html is not None:
        typer.echo(f"Page: {html}")


def _overlay(path: Path) -> dict[str, Any]:
    """Read an overlay as plain YAML; nothing in it is evaluated."""
    from monai_cxrpair.errors import CxrPairError
    from monai_cxrpair.experiments.checks import parse_yaml

    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CxrPairError(f"cannot read the config {path}: {getattr(error, 'strerror', None) or error}") from error
    except ValueError as error:
        raise CxrPairError(f"the config {path} is no YAML") from error
    if not isinstance(content, dict) or "pairing" not in content:
        raise CxrPairError(
            f"the config {path} has no `pairing` section: name an overlay such as configs/pairing/*.yaml"
        )
    return content
