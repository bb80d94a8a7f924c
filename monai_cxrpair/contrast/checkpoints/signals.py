"""SIGTERM and SIGINT ask for an orderly end: the step is finished and a checkpoint saved before the process leaves."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader

from monai_cxrpair.contrast.distributed import rank

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# torchrun sends on to its processes what they may have got from the terminal or from Slurm already: a second signal
# within this many seconds is such an echo, not somebody who is losing patience.
ECHO_SECONDS = 2.0


class StopSignals:
    """Context in which the first signal is only noted, and a second one ends the process at once.

    Since a step may take long, a line on stderr answers the first one at once.

    After an orderly end it leaves with the code 128 + signal (143 or 130): Kubernetes and scripts take 0 for a job
    that is done, and would not start it again.

    Attributes:
        received: number of the signal, 0 before there is one.
        obeyed: set by whoever stopped for it.
    """

    def __init__(self) -> None:
        self.received, self.obeyed = 0, False
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        self.received, self.obeyed, self._pid = 0, False, os.getpid()
        self._speaks = rank() == 0
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
        if kind is None and self.obeyed:
            raise SystemExit(128 + self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # a forked child that has not set its own handlers yet
        if not self.received:
            self.received, self._at = number, time.monotonic()
            if self._speaks:
                said = f"{signal.Signals(number).name}: finishing the step and saving; the same again after "
                with contextlib.suppress(OSError):  # not by logging, which may be at work just now
                    os.write(2, f"{said}{ECHO_SECONDS:g} s leaves at once\n".encode())
        elif time.monotonic() - self._at > ECHO_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def shielded_workers(loader: DataLoader[Any]) -> Iterator[None]:
    """Context in which signals to a whole process group (Ctrl-C, Slurm) leave the loader's processes alive.

    Without them the trainer could not finish its step. Afterwards they are ended: left to Python's garbage collection,
    which takes their queues away first, torch waits 5 seconds for each. SIGTERM ends what is left.
    """
    before, training = loader.worker_init_fn, torch.ones(1, dtype=torch.bool).share_memory_()
    loader.worker_init_fn = functools.partial(_shield, before, training)
    try:
        yield
    finally:
        training.zero_()
        loader.worker_init_fn = before
        if (workers := loader._iterator) is not None:  # only where they stay from epoch to epoch
            workers._shutdown_workers()  # type: ignore[attr-defined]
            loader._iterator = None


def _shield(worker_init: Callable[[int], None] | None, training: torch.Tensor, worker: int) -> None:
    def leave_unless_training(number: int, frame: FrameType | None) -> None:
        if not training:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave_unless_training)
    if worker_init is not None:
        worker_init(worker)
