"""Who reads what next: a study that nobody has answered, and that nobody else is reading."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.answers import Answers
from monai_cxrpair.label.lock import locked
from monai_cxrpair.label.strategies import STRATEGIES, choose, standardised

MINUTES = 15.0  # a study is read in one or two; a telephone call lies in between
NO_THRESHOLD = 0.5  # of a classifier without an operating point


@dataclass(frozen=True, kw_only=True)
class StudyScores:
    """What the present classifier says of all studies.

    Attributes:
        studies: their ids.
        probabilities: (N,); NaN where no radiograph of a study can be read: such a study is offered to nobody.
        embeddings: (N, F) of each study's first radiograph that can be read, which is frontal where there is one.
        threshold: the probability from which on a study is called positive; None: the classifier has none.
    """

    studies: Sequence[str]
    probabilities: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    threshold: float | None


class Leases:
    """Who is reading which study, until when; kept on disk, so that a new server knows it.

    Args:
        path: of the file, a JSON table study -> reader and time.
        minutes: after which a study that was not answered may go to another reader.
        clock: seconds since 1970, for tests.
    """

    def __init__(self, path: str | Path, *, minutes: float = MINUTES, clock: Callable[[], float] = time.time) -> None:
        if not minutes > 0:
            raise CxrPairError(f"minutes of a lease is {minutes}: use a number above 0")
        self.path, self._seconds, self._clock = Path(path), 60 * minutes, clock
        self.lock = self.path.with_name(f".{self.path.name}.lock")

    def held(self, reader: str | None = None) -> dict[str, str]:
        """Study -> reader of the leases that have not expired; of all readers, or of one, the oldest first."""
        return {study: who for study, (who, _) in self._read().items() if reader in (None, who)}

    def take(self, study: str, reader: str) -> None:
        """Lease a study, or lease it anew; for whoever is within `locked(self.lock)`."""
        leases = self._read()
        leases.pop(study, None)
        self._write({**leases, study: (reader, self._clock() + self._seconds)})

    def release(self, study: str, reader: str) -> None:
        """Give a study back, after an answer or without one; that of another reader stays."""
        with locked(self.lock):
            leases = self._read()
            if leases.get(study, ("", 0.0))[0] == reader:
                self._write({name: lease for name, lease in leases.items() if name != study})

    def renew(self, study: str, reader: str) -> bool:
        """Lease a study that the reader is still looking at anew; False where another one has it meanwhile."""
        with locked(self.lock):
            if self._read().get(study, (reader, 0.0))[0] != reader:
                return False
            self.take(study, reader)
            return True

    def _read(self) -> dict[str, tuple[str, float]]:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            leases = {study: (str(each["reader"]), float(each["until"])) for study, each in stored.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CxrPairError(f"{self.path} cannot be read: delete it, and all studies are free again") from error
        now = self._clock()
        # One that lasts longer than any is from a clock that was wrong.
        return {study: (who, until) for study, (who, until) in leases.items() if now < until <= now + self._seconds}

    def _write(self, leases: dict[str, tuple[str, float]]) -> None:
        with atomic_path(self.path) as temporary:
            said = {study: {"reader": who, "until": until} for study, (who, until) in leases.items()}
            temporary.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


class Worklist:
    """Hands out the studies of one finding.

    Args:
        answers: what was said.
        leases: who is reading what.
        finding: that is read.
    """

    def __init__(self, answers: Answers, leases: Leases, *, finding: str) -> None:
        self.answers, self.leases, self.finding = answers, leases, finding

    def next(self, scores: StudyScores, *, strategy: str, reader: str, rng: np.random.Generator) -> str | None:
        """Lease the study that the strategy takes to a reader.

        A reader who reloads the page gets another one; `leases.held(reader)` tells which ones wait for an answer.

        Args:
            scores: what the present classifier says.
            strategy: see `strategies.choose`.
            reader: who will read it.
            rng: decides between equals.

        Returns:
            Its id; None where all are answered, leased, or cannot be read.

        Raises:
            CxrPairError: an unknown strategy, or a file that cannot be read or written.
        """
        if strategy not in STRATEGIES:
            raise CxrPairError(f"strategy is {str(strategy)[:40]!r}: use {', '.join(STRATEGIES)}")
        if not isinstance(reader, str) or not reader.strip():
            raise CxrPairError("reader is empty: say who reads")
        features = standardised(scores.embeddings) if strategy in ("diverse", "mixed") else scores.embeddings
        with locked(self.leases.lock):  # also while choosing: two readers at once would get the same one
            # Leases first: whoever answers does that before giving the lease back.
            leased = self.leases.held()
            answered = self.answers.current(self.finding)
            taken = np.array([study in leased or study in answered for study in scores.studies], dtype=bool)
            readable = np.isfinite(scores.probabilities)
            found = choose(
                strategy,
                candidates=np.flatnonzero(~taken & readable),
                taken=np.flatnonzero(taken & readable),
                probabilities=scores.probabilities,
                embeddings=features,
                threshold=NO_THRESHOLD if scores.threshold is None else scores.threshold,
                rng=rng,
            )
            if found is None:
                return None
            self.leases.take(scores.studies[found], reader)
            return scores.studies[found]

    def answer(self, study: str, answer: str, *, reader: str) -> None:
        """Write an answer down and give the lease back."""
        self.answers.add(study, self.finding, answer, reader=reader)
        self.leases.release(study, reader)

    def progress(self, scores: StudyScores) -> dict[str, int]:
        """How many studies there are, were answered, are being read, cannot be read."""
        answered = self.answers.current(self.finding).keys() & set(scores.studies)
        being_read = (self.leases.held().keys() & set(scores.studies)) - answered
        unreadable = int((~np.isfinite(scores.probabilities)).sum())
        return {
            "studies": len(scores.studies),
            "answered": len(answered),
            "being_read": len(being_read),
            "unreadable": unreadable,
        }
