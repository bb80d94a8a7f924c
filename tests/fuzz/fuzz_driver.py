"""Read mutated files in processes of their own, and watch them: `python tests/fuzz/fuzz_driver.py --help`.

Every case must end accepted or with a listed reason, within `--seconds` of processor time (four times that by the
clock) and with less than `--mebibytes` of memory more than before. A case is reproduced by its seed and number.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fuzz_base import Base
from fuzz_bases import all_bases
from fuzz_cases import Case, Cases
from fuzz_worker import fresh, work, written

SECONDS, MEBIBYTES = 5.0, 1024
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Report:
    """What came out.

    Attributes:
        counts: (target, outcome) -> how often.
        kinds: kind -> mutated files.
        finds: what must not be: `{"what", "target", "where", "kind", "number", "from"}`.
        slowest, largest: (seconds, target, kind, number); (bytes, target, kind, number).
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    finds: list[dict[str, Any]] = field(default_factory=list)
    slowest: tuple[float, str, str, int] = (0.0, "", "", -1)
    largest: tuple[int, str, str, int] = (0, "", "", -1)

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        counts: dict[str, dict[str, int]] = {}
        for (target, said), count in sorted(self.counts.items(), key=lambda item: (item[0][0], -item[1])):
            counts.setdefault(target, {})[said] = count
        return {
            "files": sum(self.kinds.values()), "kinds": dict(self.kinds), "finds": self.finds,
            "slowest": self.slowest, "largest": self.largest, "counts": counts,
        }  # fmt: skip


@dataclass
class _Lane:
    """A worker, and what it is doing."""

    process: Any
    connection: Connection
    number: int = -1
    kind: str = ""
    origin: str = ""
    target: str = ""
    began: float = 0.0
    cpu: float = 0.0


def fuzz(
    bases: list[Base], numbers: Iterator[int], *, seed: int, processes: int, seconds: float = SECONDS,
    mebibytes: int = MEBIBYTES, progress: bool = False,
) -> Report:  # fmt: skip
    """Read the cases of these numbers.

    Args:
        bases: what is mutated.
        numbers: of the cases.
        seed: of the cases.
        processes: that read, besides this one that watches.
        seconds: of processor time that one target may take.
        mebibytes: of memory that one target may take.
        progress: print a line every half a minute.
    """
    report, cases, told, shown = Report(), Cases(bases, seed), time.monotonic(), 0
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:

        def start(lane: int) -> _Lane:
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, Path(folder, str(lane)), cases, bases), daemon=True)
            process.start()
            theirs.close()
            return _Lane(process, ours)

        def next_case(lane: _Lane) -> bool:
            lane.number, lane.target, lane.began = next(numbers, -1), "", time.monotonic()
            lane.connection.send(lane.number if lane.number >= 0 else None)
            return lane.number >= 0

        lanes = {lane: start(lane) for lane in range(processes)}
        for key in [key for key, lane in lanes.items() if not next_case(lane)]:
            _end(lanes.pop(key))
        while lanes:
            ready = wait([lane.connection for lane in lanes.values()], timeout=0.25)
            for key, lane in list(lanes.items()):
                try:
                    ended = lane.connection in ready and _hear(lane, report, mebibytes=mebibytes)
                    late = _late(lane, seconds)
                except (EOFError, ConnectionResetError):
                    lane.process.join()
                    ended, late = False, f"crash: exit code {lane.process.exitcode}"
                if late:
                    _find(report, lane, late, _stack(Path(folder, str(key), "crash.log")))
                    _end(lane)
                    lanes[key] = lane = start(key)
                if (ended or late) and not next_case(lane):
                    _end(lanes.pop(key))
            if progress and time.monotonic() - told > 30:
                told = time.monotonic()
                print(f"{sum(report.kinds.values())} files, {len(report.finds)} finds", flush=True)
                for find in report.finds[shown:]:
                    print(f"  {find}", flush=True)
                shown = len(report.finds)
    return report


def _hear(lane: _Lane, report: Report, *, mebibytes: int) -> bool:
    """Take what a worker says; true where it has ended a case."""
    while lane.connection.poll():
        what, *rest = lane.connection.recv()
        if what == "case":
            lane.kind, lane.origin, _ = rest
            report.kinds[lane.kind] += 1
        elif what == "begin":
            (lane.target, lane.cpu), lane.began = rest, time.monotonic()
        elif what == "end":
            target, said, wrong, cpu, _, grown = rest
            lane.began = time.monotonic()
            report.counts[target, said] += 1
            report.slowest = max(report.slowest, (cpu, target, lane.kind, lane.number))
            report.largest = max(report.largest, (grown, target, lane.kind, lane.number))
            if wrong or grown > mebibytes << 20:
                _find(report, lane, said if wrong else f"{grown >> 20} MiB", wrong)
        else:
            return True
    return False


def _late(lane: _Lane, seconds: float) -> str:
    """Why a worker should be waited for no longer; empty where it should."""
    waited = time.monotonic() - lane.began
    if waited < seconds:
        return ""
    fields = Path(f"/proc/{lane.process.pid}/stat").read_text().rpartition(")")[2].split()
    spent = (int(fields[11]) + int(fields[12])) / _TICK - lane.cpu
    if lane.target and spent > seconds:
        return f"hang: more than {seconds:g} s"
    return f"hang: {waited:.0f} s without an end" if waited > 4 * seconds else ""


def _find(report: Report, lane: _Lane, what: str, where: str) -> None:
    said = {"what": what, "target": lane.target, "where": where}
    if what.startswith(("hang", "crash")):
        report.counts[lane.target, what] += 1
    report.finds.append({**said, "kind": lane.kind, "number": lane.number, "from": lane.origin})


def _stack(log: Path) -> str:
    try:
        return " | ".join(log.read_text().splitlines()[:6])
    except OSError:
        return ""


def _end(lane: _Lane) -> None:
    lane.connection.close()
    lane.process.join(1.0)
    if lane.process.is_alive():
        lane.process.kill()
        lane.process.join()


def only(bases: list[Base], *, seed: int, number: int, folder: Path) -> None:
    """Read one case in this process, and leave its file in a folder."""
    from fuzz_outcome import outcome
    from fuzz_targets import TARGETS

    case: Case = Cases(bases, seed).case(number)
    print(f"{case.kind}, {case.base}: {', '.join(case.mutations)}, {len(case.data)} bytes")
    for target in TARGETS[case.kind]:
        place = fresh(folder, case, {base.name: base for base in bases})
        began = time.perf_counter()
        print(f"{target.__name__}: ", end="", flush=True)
        print(outcome(target, written(place, case), place), f"({time.perf_counter() - began:.2f} s)")


def main() -> int:
    """The command line; 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=50_000, help="mutated files; default: 50000")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="processor time for one file and target")
    parser.add_argument("--mebibytes", type=int, default=MEBIBYTES, help="memory for one file and target")
    parser.add_argument("--kinds", help="only these, separated by commas")
    parser.add_argument("--made-only", action="store_true", help="leave out the real files of ../shared/data")
    parser.add_argument("--out", type=Path, help="write the report as JSON")
    parser.add_argument(
        "--only", type=int, metavar="NUMBER", help="read one case here, and leave its file in fuzz-case/"
    )
    asked = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # messages quote what the files hold
    bases = all_bases(shared=not asked.made_only)
    if asked.only is not None:
        only(bases, seed=asked.seed, number=asked.only, folder=Path("fuzz-case"))
        return 0
    import_module("monai_cxrpair.evaluation.networks")  # here, once: it takes longer than a file may
    kinds, cases = set((asked.kinds or "").split(",")) - {""}, Cases(bases, asked.seed)
    numbers = (number for number in itertools.count(asked.first) if not kinds or cases.kind(number) in kinds)
    began = time.monotonic()
    report = fuzz(
        bases, itertools.islice(numbers, asked.files), seed=asked.seed, processes=asked.processes,
        seconds=asked.seconds, mebibytes=asked.mebibytes, progress=True,
    )  # fmt: skip
    found = report.as_dict() | {"seed": asked.seed, "bases": len(bases), "wall_seconds": time.monotonic() - began}
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({key: value for key, value in found.items() if key not in ("finds", "counts")}))
    for target, outcomes in found["counts"].items():
        print(f"{target}: {sum(outcomes.values())}")
        for said, count in list(outcomes.items())[:40]:
            print(f"  {count:6d}  {said}")
    for find, times in Counter((each["what"], each["target"], each["where"]) for each in report.finds).most_common():
        example = next(each for each in report.finds if (each["what"], each["target"], each["where"]) == find)
        print(f"FIND {times} x {find[0]} in {find[1]}: {find[2]}; --seed {asked.seed} --only {example['number']}")
    return 1 if report.finds else 0


if __name__ == "__main__":
    sys.exit(main())
