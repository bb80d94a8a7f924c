"""What is asked for, and whether an answer of the server is what was asked for.

Servers ignore filters that they do not know, so each answer is looked at again here.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from monai_cxrpair.errors import CxrPairError

_WILDCARDS = re.compile(r"[*?\\]")
# A UID names a file, and the server says what it is: no separator, no leading point. Wider than DICOM PS3.5 9.1, since
# real archives hold UIDs with letters or leading zeros, and those are to be fetched too.
_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z.\-]{0,63}")


@dataclass(frozen=True)
class Study:
    """A study that the server has; `instances` is its own count, where it gives one."""

    uid: str
    date: str = ""
    time: str = ""
    accession: str = ""
    instances: int | None = None


@dataclass(frozen=True)
class Series:
    """A series of a study; modality and body part are empty where the server does not tell them."""

    uid: str
    modality: str = ""
    body_part: str = ""


@dataclass(frozen=True)
class Instance:
    """One object to fetch."""

    uid: str
    sop_class: str
    series: str
    study: str


@dataclass(frozen=True)
class Query:
    """Which studies and which of their series are wanted.

    Args:
        dates: First and last study date, YYYYMMDD, both included; None for any.
        accessions: Accession numbers; empty for any.
        modalities: Modalities of a series, such as `DX`.
        body_parts: Body parts of a series; empty for any. A series without one is wanted: many devices leave the
            attribute empty, and `cxrpair index` looks at the header itself.

    Raises:
        CxrPairError: Nothing limits the query, or a value is no such thing.
    """

    dates: tuple[str, str] | None
    accessions: tuple[str, ...]
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.dates is None and not self.accessions:
            raise CxrPairError("the query would ask for the whole archive: give --dates or --accessions")
        if not self.modalities or any(_WILDCARDS.search(text) or not text.strip() for text in self.modalities):
            raise CxrPairError("--modality takes one modality such as DX, without * or ?")
        if any(_WILDCARDS.search(text) or not text.strip() for text in self.accessions):
            raise CxrPairError("an accession number is empty or holds *, ? or \\, which would match other studies too")

    @property
    def series_filter(self) -> str:
        """Text that is equal for queries that want the same series of a study."""
        return f"{sorted(set(map(_folded, self.modalities)))} {sorted(set(map(_folded, self.body_parts)))}"

    def wants_study(self, study: Study) -> bool:
        """Say whether a study is of the dates and accession numbers asked for."""
        if self.dates and not self.dates[0] <= study.date.replace(".", "") <= self.dates[1]:
            return False
        return not self.accessions or study.accession.strip() in self.accessions

    def wants_series(self, series: Series) -> bool:
        """Say whether a series is of the modalities and body parts asked for."""
        if _folded(series.modality) not in map(_folded, self.modalities):
            return False
        return not (self.body_parts and series.body_part.strip()) or _folded(series.body_part) in map(
            _folded, self.body_parts
        )


class Server(Protocol):
    """What the pull needs of a server; each method raises one of the failures of `retry`.

    Searches retry on their own, as they are made of many requests; `fetch` leaves that to its caller.
    """

    batch: int  # how many instances one request may ask for
    notes: set[str]  # what the user should know at the end

    def find_studies(self, query: Query, accession: str | None) -> tuple[list[Study], list[str]]:
        """Studies that may fit a query (of one accession number, or of its dates), and notes for the user."""

    def find_series(self, study: str) -> list[Series]:
        """The series of a study."""

    def find_instances(self, study: str, series: str) -> list[Instance]:
        """The instances of a series."""

    def fetch(self, instances: list[Instance]) -> None:
        """Have instances of one study delivered to the inbox; not all may arrive."""

    def close(self) -> None:
        """Give back connections and ports."""


def is_uid(text: str) -> bool:
    """Say whether a UID can stand in a request and name a file."""
    return _UID.fullmatch(text) is not None and ".." not in text


def date_range(text: str) -> tuple[str, str]:
    """Read `20240101-20240331`, `20240101`, `20240101-` (until today) or `-20240331`.

    Raises:
        CxrPairError: It is none of these, or ends before it starts.
    """
    first, dash, last = text.strip().partition("-")
    start = first.strip() or "19000101"
    end = last.strip() or (date.today().strftime("%Y%m%d") if dash else start)
    for day in (start, end):
        try:
            if datetime.strptime(day, "%Y%m%d").strftime("%Y%m%d") != day:
                raise ValueError
        except ValueError:
            raise CxrPairError(f"--dates {text!r} should read YYYYMMDD-YYYYMMDD, such as 20240101-20240331") from None
    if start > end or not (first or last):
        raise CxrPairError(f"--dates {text!r} ends before it starts or names no day")
    return start, end


def _folded(text: str) -> str:
    return text.strip().casefold()
