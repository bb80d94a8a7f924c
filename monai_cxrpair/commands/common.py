"""What the commands share: the --json option, `NAME=SOURCE` options, progress bars and tables."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

JsonOption = Annotated[bool, typer.Option("--json", help="Print one line of JSON for machines.")]


def name_pairs(option: str, values: Sequence[str]) -> dict[str, str]:
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
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr, and nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_json(value: dict[str, Any]) -> None:
    """Print one line of JSON, as the last line of stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def print_tables(tables: "Sequence[Table]") -> None:
    """Print tables for the terminal."""
    from rich.console import Console

    console = Console()
    for table in tables:
        console.print(table)
