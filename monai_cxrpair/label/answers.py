"""What the readers said: one line for each answer, in a file that only grows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from monai_cxrpair.cohort.files import PRIVATE
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.lock import locked

ANSWERS = ("present", "absent", "uncertain")
VALUES = {"present": 1.0, "absent": 0.0, "uncertain": -1.0}  # as in a cohort
UNDONE = "undone"
_LONGEST = 128  # characters of an id, a finding or a reader's name


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a reader said of a study; `time` is UTC, ISO 8601."""

    study: str
    finding: str
    answer: str
    reader: str
    time: str


class Answers:
    """The answers in `answers.jsonl`. The last one of a study and finding counts, whoever gave it.

    A line is on the disk when `add` returns. One that was cut off by a crash was never promised: it is not read, and
    removed by the next one. Several processes and threads may add and read at once.

    Args:
        path: of the file, which only its owner can read; made by the first answer.
        clock: the time now, for tests.
    """

    def __init__(self, path: str | Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = Path(path)
        self._lock, self._clock = self.path.with_name(f".{self.path.name}.lock"), clock

    def add(self, study: str, finding: str, answer: str, *, reader: str) -> Answer:
        """Write an answer down.

        Raises:
            CxrPairError: it is not one of `ANSWERS`, a name is empty or too long, or the file cannot be written.
        """
        if answer not in ANSWERS:
            raise CxrPairError(f"answer is {str(answer)[:40]!r}: use {', '.join(ANSWERS)}")
        for what, name in (("study", study), ("finding", finding), ("reader", reader)):
            if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST or not name.isprintable():
                raise CxrPairError(f"{what} is {str(name)[:40]!r}: use printable text of 1 to {_LONGEST} characters")
        with locked(self._lock):
            return self._append(study, finding, answer, reader)

    def undo(self, *, reader: str, finding: str) -> Answer | None:
        """Take a reader's last answer back: what was said of the study before counts again.

        Returns:
            The answer that was taken back; None where the reader has none.
        """
        with locked(self._lock):
            own = [each for each in self.standing() if each.reader == reader and each.finding == finding]
            if own:
                self._append(own[-1].study, finding, UNDONE, reader)
        return own[-1] if own else None

    def standing(self) -> list[Answer]:
        """All answers that were not taken back, in the order in which they were given."""
        standing: list[Answer] = []
        for line in self._lines():
            if line.answer != UNDONE:
                standing.append(line)
                continue
            for position in range(len(standing) - 1, -1, -1):
                each = standing[position]
                if (each.study, each.finding, each.reader) == (line.study, line.finding, line.reader):
                    del standing[position]
                    break
        return standing

    def current(self, finding: str) -> dict[str, Answer]:
        """Study -> the answer that counts, uncertain ones among them, in the order in which they were given."""
        found: dict[str, Answer] = {}
        for each in self.standing():
            if each.finding == finding:
                found.pop(each.study, None)
                found[each.study] = each
        return found

    def labels(self, finding: str) -> dict[str, float]:
        """Study -> 1 present, 0 absent, -1 uncertain (which is never trained on)."""
        return {study: VALUES[each.answer] for study, each in self.current(finding).items()}

    def _lines(self) -> list[Answer]:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CxrPairError(f"{self.path} cannot be read: {error.strerror or error}") from error
        lines = []
        for number, line in enumerate(text.split(b"\n")[:-1], 1):  # behind the last end of line: not finished
            try:
                said = Answer(**json.loads(line))
                known = said.answer in (*ANSWERS, UNDONE) and all(isinstance(v, str) for v in asdict(said).values())
            except (ValueError, TypeError):
                known = False
            if not known:
                raise CxrPairError(f"{self.path}: line {number} is no answer; put the line right or take it out")
            lines.append(said)
        return lines

    def _append(self, study: str, finding: str, answer: str, reader: str) -> Answer:
        """Within the lock."""
        said = Answer(
            study=study,
            finding=finding,
            answer=answer,
            reader=reader,
            time=self._clock().isoformat(timespec="milliseconds"),
        )
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, PRIVATE)
            with os.fdopen(handle, "r+b") as file:
                whole = _end_of_last_line(file.read())
                file.truncate(whole)
                file.seek(whole)
                file.write(json.dumps(asdict(said)).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CxrPairError(f"cannot write {self.path}: {error.strerror or error}") from error
        return said


def _end_of_last_line(text: bytes) -> int:
    return text.rfind(b"\n") + 1
