"""One file to be mutated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SHARED = PROJECT.parent / "shared" / "data"


@dataclass(frozen=True)
class Base:
    """A file to be mutated.

    Attributes:
        kind: which mutations and targets are for it.
        name: for people, and whose end it is called by.
        data: its content.
        weight: how often it is taken among those of its kind.
    """

    kind: str
    name: str
    data: bytes
    weight: float = 1.0
