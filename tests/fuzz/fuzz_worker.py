"""The process in which mutated files are read, one after the other; it may hang, crash or be killed."""

from __future__ import annotations

import faulthandler
import logging
import os
import resource
import shutil
import time
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
from fuzz_base import Base
from fuzz_cases import Case, Cases
from fuzz_outcome import Place, outcome
from fuzz_targets import TARGETS

SPACE = 3 << 30  # bytes of addresses beyond those at the start; what asks for more gets a MemoryError


def work(connection: Connection, folder: Path, cases: Cases, bases: list[Base], *, quiet: bool = True) -> None:
    """Take numbers until there are none, and tell of each target when it begins and ends."""
    if quiet:
        _silence(folder)
    _limit()
    cv2.setNumThreads(0)  # its threads do not outlive a fork
    known = {base.name: base for base in bases}
    while True:
        number = connection.recv()
        if number is None:
            return
        case = cases.case(number)
        connection.send(("case", case.kind, f"{case.base}: {', '.join(case.mutations)}", len(case.data)))
        for target in TARGETS[case.kind]:
            place = fresh(folder, case, known)
            connection.send(("begin", target.__name__, time.process_time()))
            before, began, cpu = _memory("VmRSS"), time.perf_counter(), time.process_time()
            try:
                said, wrong = outcome(target, written(place, case), place), ""
            except MemoryError as error:
                said, wrong = "MemoryError", _where(error)
            except BaseException as error:  # a decoder written in Rust panics with one
                said, wrong = type(error).__name__, _where(error)
            spent = time.process_time() - cpu, time.perf_counter() - began
            connection.send(("end", target.__name__, said, wrong, *spent, _memory("VmHWM") - before))
        connection.send(("done",))


def fresh(folder: Path, case: Case, bases: dict[str, Base]) -> Place:
    """An empty folder with the mutated file."""
    inner = folder / "case"
    shutil.rmtree(inner, ignore_errors=True)
    inner.mkdir(parents=True)
    place = Place(inner, bases)
    written(place, case).write_bytes(case.data)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    return place


def written(place: Place, case: Case) -> Path:
    """The mutated file; a DICOM file has no ending, as in an export."""
    return place.folder / ("IM1" if case.kind in ("dicom", "export") else case.base)


def _silence(folder: Path) -> None:
    """What decoders print is as endless as what is wrong with the files."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    folder.mkdir(parents=True, exist_ok=True)
    log = open(folder / "crash.log", "w")  # noqa: SIM115 - for as long as the process lives
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    faulthandler.enable(log)


def _limit() -> None:
    size = _memory("VmSize") + SPACE
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _memory(name: str) -> int:
    """Bytes of memory, as the system counts them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


def _where(error: BaseException) -> str:
    """The last place of the package that an error came through, and what it says."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "monai_cxrpair" in frame.filename] or frames
    place = own[-1]
    said = " ".join(str(error).split())[:160]
    return f"{Path(place.filename).name}:{place.lineno} {place.name}: {type(error).__name__}: {said}"
