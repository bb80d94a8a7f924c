"""Date windows: C-FIND has no pages, and servers cap their answers, mostly without saying so."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from monai_cxrpair.pacs.query import Study

_SHORTEST = 5  # minutes; a window of one day is cut by the time of the study
_DAY = 24 * 60
# No server known to us caps below 50 answers; above, a cap is suspected until it is disproved.
_SURELY_WHOLE = 49


@dataclass(frozen=True)
class Window:
    """Days first..last, or minutes start..end of one day, each end included."""

    first: date
    last: date
    start: int = 0
    end: int = _DAY - 1

    @classmethod
    def of(cls, dates: tuple[str, str]) -> "Window":
        """The window of YYYYMMDD, YYYYMMDD."""
        first, last = (datetime.strptime(day, "%Y%m%d").date() for day in dates)
        return cls(first, last)

    @property
    def keys(self) -> dict[str, str]:
        """The matching keys of a C-FIND."""
        keys = {"StudyDate": f"{self.first:%Y%m%d}-{self.last:%Y%m%d}"}
        if (self.start, self.end) != (0, _DAY - 1):
            keys["StudyTime"] = f"{_clock(self.start)}00-{_clock(self.end)}59"
        return keys

    def holds(self, study: Study) -> bool:
        """Say whether a study is of this window; one without date or time counts as of it."""
        day = study.date.replace(".", "")
        if day and not f"{self.first:%Y%m%d}" <= day <= f"{self.last:%Y%m%d}":
            return False
        clock = study.time.replace(":", "")[:4]
        return not clock or _clock(self.start) <= clock <= _clock(self.end)

    def halves(self) -> "tuple[Window, Window] | None":
        """Cut the window in two; None where it is too short."""
        if self.first < self.last:
            middle = self.first + (self.last - self.first) // 2
            return Window(self.first, middle), Window(middle + timedelta(days=1), self.last)
        if self.end - self.start < 2 * _SHORTEST:
            return None
        half = (self.start + self.end) // 2
        return Window(self.first, self.last, self.start, half), Window(self.first, self.last, half + 1, self.end)


class WindowSearch:
    """Find all studies of a window although the server may cap its answers at a number that we do not know.

    An answer is known to be whole when its halves hold the same studies and each fewer of them: a cap would have let
    a half bring something new. From then on answers up to that size are believed, so that few are asked twice.

    Args:
        ask: Gives the studies of a window, and whether the server said that there are more.
    """

    def __init__(self, ask: Callable[[Window], tuple[list[Study], bool]]) -> None:
        self._ask = ask
        self._whole = _SURELY_WHOLE
        self.notes: list[str] = []

    def studies(self, window: Window) -> dict[str, Study]:
        """The studies of a window by UID."""
        answer, cut_off = self._ask(window)
        found = {study.uid: study for study in answer}
        if len(found) <= self._whole and not cut_off:
            return found
        if not all(window.holds(study) for study in found.values()):
            # Halves would bring the same answer again and again.
            self._note("the server ignores dates or times in searches: it may have more studies than it told")
            return {uid: study for uid, study in found.items() if window.holds(study)}
        halves = window.halves()
        if halves is None:
            self._note("the server may cap its answers: it may have more studies of some hours than it told")
            return found
        parts = [self.studies(half) for half in halves]
        union = found | parts[0] | parts[1]
        if not cut_off and len(union) == len(found) and all(len(part) < len(found) for part in parts):
            self._whole = max(self._whole, len(found))
        return union

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}{minute % 60:02d}"
