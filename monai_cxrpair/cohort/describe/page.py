"""What the HTML pages of all rooms share: their look, and the way in which a template becomes one file."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def environment(folder: Path) -> Environment:
    """Make the environment for the templates of a room; they may `{% include "page.css" %}`.

    Args:
        folder: The room's templates.
    """
    return Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,  # a template's name ends in .j2, so guessing by the ending would leave it off
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
