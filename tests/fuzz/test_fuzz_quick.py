"""A few hundred mutated files of `make fuzz`, the same every time, and the watchman himself."""

import os
import time

import fuzz_driver
import fuzz_targets
import pytest
from fuzz_base import Base
from fuzz_bases import all_bases
from fuzz_cases import Cases

FILES, SEED = 300, 1
DIRECT = {"card"}  # what imports networks takes longer than all of these; `make fuzz` has it, and test_finds_tables.py


@pytest.fixture(scope="module")
def bases() -> list[Base]:
    """Made here, so that every machine reads the same files."""
    return all_bases(shared=False)


def test_mutated_files_are_accepted_or_have_a_reason(bases: list[Base]) -> None:
    cases = Cases(bases, SEED)
    numbers = [number for number in range(FILES) if cases.kind(number) not in DIRECT]
    report = fuzz_driver.fuzz(bases, iter(numbers), seed=SEED, processes=1)
    assert report.finds == []
    assert sum(report.kinds.values()) == len(numbers)
    said = {outcome.partition(":")[0] for _, outcome in report.counts}
    assert {"accepted", "rejected", "unreadable"} <= said  # the mutations are neither harmless nor all fatal


def test_a_case_follows_from_its_seed_and_number(bases: list[Base]) -> None:
    one, again, other = Cases(bases, 1), Cases(bases, 1), Cases(bases, 2)
    assert [one.case(n) for n in range(40)] == [again.case(n) for n in range(40)]
    assert [one.case(n).data for n in range(40)] != [other.case(n).data for n in range(40)]


@pytest.mark.parametrize(
    ("behaviour", "found"),
    [
        ("crash", "crash: exit code -11"),
        ("spin", "hang: more than 0.5 s"),
        ("sleep", "hang: 2 s without an end"),
        ("memory", "MiB"),
        ("greed", "MemoryError"),
        ("mistake", "KeyError"),
        ("panic", "PanicException"),
    ],
)
def test_the_watchman_names_what_must_not_be(
    bases: list[Base], behaviour: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on with the next file."""

    class PanicException(BaseException):
        pass

    def target(path, place):
        if behaviour == "crash":
            os.kill(os.getpid(), 11)
        elif behaviour == "spin":
            while True:
                pass
        elif behaviour == "sleep":
            time.sleep(60)
        elif behaviour == "memory":
            return str(len(bytearray(b"x" * (80 << 20))))
        elif behaviour == "greed":
            bytearray(1 << 40)
        elif behaviour == "panic":
            raise PanicException
        return {}[behaviour]

    def well(path, place):
        return "accepted"

    monkeypatch.setitem(fuzz_targets.TARGETS, "dicom", (target,))
    for kind in set(fuzz_targets.TARGETS) - {"dicom"}:
        monkeypatch.setitem(fuzz_targets.TARGETS, kind, (well,))
    cases = Cases(bases, SEED)
    first = next(number for number in range(100) if cases.kind(number) == "dicom")
    after = next(number for number in range(100) if cases.kind(number) == "table")
    report = fuzz_driver.fuzz(bases, iter([first, after]), seed=SEED, processes=1, seconds=0.5, mebibytes=64)
    assert any(find["what"].startswith(found) or find["what"].endswith(found) for find in report.finds)
    assert report.finds[0]["number"] == first
    assert report.counts["well", "accepted"] == 1
