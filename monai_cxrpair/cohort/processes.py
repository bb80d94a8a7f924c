"""Work on many files in several processes."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from monai_cxrpair.errors import CxrPairError

Progress = Callable[[int, int], None]
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def in_processes(
    work: Callable[[_Task], _Result], tasks: Sequence[_Task], *, workers: int | None, few: int
) -> Iterator[_Result]:
    """Map in the order of the tasks, whoever finishes first.

    Args:
        work: Can be pickled.
        tasks: What it is called with.
        workers: Processes; None for one per core that this process may use.
        few: Up to so many tasks are done without processes, whose start would cost more.

    Raises:
        CxrPairError: A process was killed.
    """
    workers = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    if workers == 1 or len(tasks) <= few:
        yield from map(work, tasks)
        return
    # Forked children start at once; they only parse files and touch none of the parent's threads. The system
    # libraries of macOS do not bear a fork.
    method = "fork" if sys.platform == "linux" else "spawn"
    context = multiprocessing.get_context(method)
    # Ctrl-C reaches all processes at once. A worker that it ends while it holds the queue's lock leaves the others,
    # and this process, waiting for ever: only this process heeds it.
    pool = ProcessPoolExecutor(
        min(workers, len(tasks)), mp_context=context, initializer=_start, initargs=(os.getpid(),)
    )
    try:
        yield from pool.map(work, tasks)
    except BrokenProcessPool as error:
        raise CxrPairError("a process that read files was killed (memory?): try --workers 1") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """Where this process is killed, the others would wait for tasks for ever: they hold both ends of the queue."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
