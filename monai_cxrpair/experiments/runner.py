"""Running the jobs of a sweep as processes: several at once, stopped by a signal, failures told at the end."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.experiments.plan import CHANGED, DONE, LOG, Job

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A job that did not end well.

    Attributes:
        title: of the job.
        log: where it says why.
        line: its last words.
    """

    title: str
    log: Path
    line: str


class StoppedError(Exception):
    """A signal asked the sweep to end; every run has saved what it had.

    Attributes:
        code: to leave with, 128 + signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.code = 128 + number


class Runner:
    """Runs jobs that are not done yet.

    A signal is handed on to the running processes, which finish their step, save a checkpoint and leave; no other one
    is begun.

    Args:
        bundle: folder that the commands are run in.
        at_once: so many processes side by side.
        lock: descriptor that the processes inherit; see `only_one`.
        tidy: remove the checkpoints of trainings that are finished.
        total: number of trainings in the sweep that are not done, for the estimate of the time left.
        progress: called with the epochs done in the sweep and all of them.
        epochs: of the whole sweep.
    """

    def __init__(
        self,
        *,
        bundle: Path,
        at_once: int = 1,
        lock: int | None = None,
        tidy: bool = False,
        total: int = 0,
        progress: Callable[[int, int], None] | None = None,
        epochs: int = 0,
    ) -> None:
        self.bundle, self.at_once, self.lock, self.tidy = bundle, at_once, lock, tidy
        self.total, self.progress, self.epochs = total, progress, epochs
        self.failures: list[Failure] = []
        self.durations: list[float] = []  # of the trainings that this sweep has run from their beginning
        self.begun, self._epochs_before = 0, 0

    def run(self, jobs: Sequence[Job]) -> None:
        """Run those that are not done. Failures are noted, and the others go on.

        Raises:
            StoppedError: after a signal, when all processes have left.
        """
        waiting: list[Job] = []
        running: list[_Running] = []
        for job in jobs:
            state = job.state()
            if state == DONE:
                logger.info("%s: done before", job.title)
                self._epochs_before += job.epochs
            elif state == CHANGED:
                self._fail(job, f"{job.folder} holds a run with other settings ({job.different()}): use another --out")
            else:
                waiting.append(job)
        received: list[int] = []

        def note(number: int, frame: FrameType | None) -> None:
            received.append(number)
            for each in running:
                with suppress(ProcessLookupError):
                    os.killpg(each.process.pid, number)

        before = {number: signal.signal(number, note) for number in SIGNALS}
        try:
            while running or (waiting and not received):
                while waiting and len(running) < self.at_once and not received:
                    job = waiting.pop(0)
                    try:
                        running.append(self._start(job))
                    except (OSError, CxrPairError) as error:
                        self._fail(job, str(error))
                for each in list(running):
                    code = each.process.poll()
                    if code is not None:
                        running.remove(each)
                        self._end(each, code, stopped=bool(received))
                self._show([each.job for each in running])
                if running:
                    time.sleep(POLL_SECONDS)
        finally:
            for each in running:  # only after an error of our own
                each.process.terminate()
            for number, handler in before.items():
                signal.signal(number, handler)
        if received:
            raise StoppedError(received[0])

    def _start(self, job: Job) -> _Running:
        spent = float(job.record().get("seconds", 0))
        job.write_record(finished=False, seconds=spent)
        environment = {"PYTHONWARNINGS": "ignore", **os.environ}
        if self.at_once > 1:  # else each would take all cores
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.at_once)))
        if job.epochs:
            self.begun += 1
            logger.info("%d of %d: %s begins%s", self.begun, self.total, job.title, self._left())
        else:
            logger.info("%s begins", job.title)
        with (job.folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                job.command,
                cwd=self.bundle,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches it once, through us
                pass_fds=() if self.lock is None else (self.lock,),
            )
        return _Running(job=job, process=process, since=time.monotonic(), spent=spent)

    def _end(self, run: _Running, code: int, *, stopped: bool) -> None:
        job, seconds = run.job, time.monotonic() - run.since
        missing = [name for name in job.products if not (job.folder / name).is_file()]
        finished = code == 0 and not missing
        job.write_record(finished=finished, seconds=run.spent + seconds)
        if finished:
            logger.info("%s: finished in %s", job.title, duration(run.spent + seconds))
            self._epochs_before += job.epochs
            if job.epochs and not run.spent:
                self.durations.append(seconds)
            if job.epochs and self.tidy:
                for checkpoint in (job.folder / "checkpoints").glob("epoch_*.pt"):
                    checkpoint.unlink()
        elif stopped:
            after = f" after {job.epochs_done()} of {job.epochs} epochs" if job.epochs else ""
            logger.warning("%s: stopped%s", job.title, after)
        else:
            self._fail(job, f"wrote no {missing[0]}" if code == 0 else last_words(job.folder / LOG, code))

    def _fail(self, job: Job, line: str) -> None:
        self.failures.append(Failure(title=job.title, log=job.folder / LOG, line=line))
        logger.error("%s: failed: %s", job.title, line)

    def _left(self) -> str:
        if not self.durations:
            return ""
        left = (self.total - self.begun + 1) * sum(self.durations) / len(self.durations) / self.at_once
        return f", about {duration(left)} left"

    def _show(self, running: Sequence[Job]) -> None:
        if self.progress is not None:
            done = self._epochs_before + sum(min(job.epochs_done(), job.epochs) for job in running)
            self.progress(done, self.epochs)


@dataclass(kw_only=True)
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    since: float
    spent: float  # seconds, before this sweep


def last_words(log: Path, code: int) -> str:
    """The error that a run ended with: its `error:` line, else its last line."""
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-200:]]
    except OSError:
        lines = []
    said = [line for line in lines if line]
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    return errors[-1] if errors else f"exit {code}" + (f", {said[-1][:200]}" if said else "")


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def only_one(out: Path) -> Iterator[int]:
    """Context in which no other sweep works in this folder; gives the lock for the runs to inherit.

    So a run that outlives a killed sweep keeps the next one out until it has ended.

    Raises:
        CxrPairError: another one does, or the folder cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out / ".sweep.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CxrPairError(f"cannot write to {out}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CxrPairError(f"{out}: another sweep, or a run of one that was killed, works here: wait") from error
        yield handle
    finally:
        os.close(handle)


def as_json_list(failures: Sequence[Failure]) -> list[dict[str, Any]]:
    """For machines."""
    return [{"run": each.title, "log": str(each.log), "error": each.line} for each in failures]
