"""What a target is given, and what comes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fuzz_base import Base

from monai_cxrpair.errors import CxrPairError

ACCEPTED = "accepted"


class WrongError(AssertionError):
    """Accepted, but what came out is not what the contract promises."""


@dataclass(frozen=True)
class Place:
    """Where a case is worked on.

    Attributes:
        folder: its own, empty but for the mutated file.
        bases: the good files by name.
    """

    folder: Path
    bases: dict[str, Base]

    def good(self, name: str) -> Path:
        """A good file to go with the mutated one."""
        path = self.folder / "good" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.bases[name].data)
        return path


Target = Callable[[Path, Place], str]


def outcome(target: Target, path: Path, place: Place) -> str:
    """Call a target: accepted, or the reason against the file.

    Raises:
        Exception: anything that a user's file must not cause.
    """
    try:
        return target(path, place)
    except CxrPairError as error:
        check_memory(error)
        return "rejected: " + _kind(str(error), str(place.folder))


def check_memory(error: BaseException | None) -> None:
    """A file for which the memory was not enough is no file that was rejected."""
    while error is not None:
        if isinstance(error, MemoryError) or re.search(r"MemoryError|nsufficient memory|OutOfMemory", str(error)):
            raise MemoryError(str(error)[:200]) from error
        error = error.__cause__


@cache
def _pattern(folder: str) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(folder)}\S*|'[^']*'|\"[^\"]*\"|[-\d.+]*\d[\d.]*|there are: .*|it has: .*|\(.*")


def _kind(message: str, folder: str) -> str:
    """The message without what differs from file to file."""
    return " ".join(_pattern(folder).sub("*", " ".join(message.split())).split())[:70]
