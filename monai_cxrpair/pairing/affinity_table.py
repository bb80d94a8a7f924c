"""A kernel of time given as bins, such as one that `affinity_measure` measured."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.errors import CxrPairError

Unit = Literal["days", "studies"]


@dataclass(frozen=True, kw_only=True)
class AffinityTable:
    """Affinity by time: bin i reaches from its edge up to the next edge; the last has no end.

    Args:
        days, studies: pairs (lower edge, affinity) in growing order, the first from 0; for pairs of studies that
            both have a date, and for the others.
        source: what it was measured on.

    Raises:
        CxrPairError: no bins, edges that do not grow from 0, an affinity outside [0, 1].
    """

    days: tuple[tuple[float, float], ...]
    studies: tuple[tuple[float, float], ...]
    source: str = ""

    def __post_init__(self) -> None:
        for unit in ("days", "studies"):
            bins = getattr(self, unit)
            edges = [edge for edge, _ in bins]
            if not edges or edges[0] != 0 or any(a >= b for a, b in itertools.pairwise(edges)):
                raise CxrPairError(f"affinity#table#{unit}: the lower edges must grow from 0, they are {edges}")
            if not all(0 <= value <= 1 for _, value in bins):
                raise CxrPairError(f"affinity#table#{unit}: an affinity is outside [0, 1]")

    @classmethod
    def of(cls, content: Any) -> AffinityTable:
        """From a file that `write` wrote, or from what is in it.

        Raises:
            CxrPairError: the file cannot be read, or is no such table.
        """
        name = "affinity#table"
        if isinstance(content, (str, Path)):
            name = str(content)
            try:
                content = json.loads(Path(content).read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise CxrPairError(f"{name}: cannot be read as a table of affinities (JSON)") from error
        try:
            bins = {unit: tuple((float(a), float(b)) for a, b in content[unit]) for unit in ("days", "studies")}
            source = str(content.get("source", ""))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CxrPairError(f"{name}: a table has `days` and `studies`, lists of [lower edge, affinity]") from error
        return cls(**bins, source=source)

    def as_dict(self) -> dict[str, Any]:
        """What the file holds."""
        out = {unit: [list(pair) for pair in getattr(self, unit)] for unit in ("days", "studies")}
        return {**out, "source": self.source}

    def write(self, path: str | Path) -> None:
        """Write it as JSON, for `affinity#table`."""
        with atomic_path(Path(path), mode=None) as temporary:
            temporary.write_text(json.dumps(self.as_dict(), indent=1) + "\n", encoding="utf-8")

    def look_up(self, xp: Any, distance: Any, unit: Unit) -> Any:
        """The affinity at each distance, float64; `xp` is numpy or torch."""
        value = xp.zeros_like(distance, dtype=xp.float64)
        for edge, affinity in self.days if unit == "days" else self.studies:
            value = xp.where(distance >= edge, affinity, value)
        return value
