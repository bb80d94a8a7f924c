"""Work on many files in several processes."""

import multiprocessing
import os
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
    # Forked children start at once; they only parse files and touch none of the parent's threads.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    pool = ProcessPoolExecutor(min(workers, len(tasks)), mp_context=multiprocessing.get_context(method))
    try:
        yield from pool.map(work, tasks)
    except BrokenProcessPool as error:
        raise CxrPairError("a process that read files was killed (memory?): try --workers 1") from error
    finally:
        pool.shutdown(cancel_futures=True)
