"""Indexing a DICOM export: against a plain loop over pydicom's headers, memory per file, and indexing again.

    python benchmarks/index_speed.py [FILES]

The export is made of the phantom's files (20,480 of them, one study a folder), each with UIDs of its own.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

import pydicom

from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.phantom import write_phantom

FILES, ROUNDS = 20_480, 5


def make_export(folder: Path, files: int) -> None:
    """Copy the phantom's files under new UIDs of the same length."""
    source = folder.parent / "phantom"
    write_phantom(source, patients=40, file_format="dicom", seed=0)
    originals = sorted(source.rglob("*.dcm"))
    for number, path in zip(range(files), cycle(originals)):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        content = path.read_bytes()
        for keyword in ("SOPInstanceUID", "StudyInstanceUID"):
            old = str(header[keyword].value)
            content = content.replace(old.encode(), f"{old[:-7]}{number // len(originals) + 1:07d}".encode(), 2)
        half = "a" if number < files // 2 else "b"
        copy = folder / half / f"{number // len(originals):03d}" / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)


def plain_loop(folder: Path) -> float:
    """Seconds that one process needs to read all headers with pydicom."""
    paths = sorted(folder.rglob("*.dcm"))
    started = time.perf_counter()
    for path in paths:
        pydicom.dcmread(path, stop_before_pixels=True)
    return time.perf_counter() - started


def timed_index(folder: Path, out: Path) -> tuple[float, bool, int]:
    """Seconds, whether nothing was new, and how many radiographs there are."""
    started = time.perf_counter()
    result = index_source(folder, out=out)
    return time.perf_counter() - started, result.unchanged, result.summary["radiographs"]


def peak_memory(folder: Path, out: Path) -> int:
    """Largest resident memory of a process that indexes a folder, and of its largest worker, in bytes."""
    command = [sys.executable, __file__, "--memory", str(folder), str(out)]
    return sum(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def report_memory(folder: str, out: str) -> None:
    """Index, and print the largest resident memory of this process and of its largest worker."""
    index_source(folder, out=out)
    kept = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    print(json.dumps([resource.getrusage(who).ru_maxrss * 1024 for who in kept]))  # Linux counts in KiB


def main() -> None:
    """Make the export, time all in turn, print medians and ratios."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else FILES
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "export", Path(temporary) / "out" / "cohort.parquet"
        make_export(folder, files)
        index_source(folder / "a" / "000", out=Path(temporary) / "warm.parquet")  # imports
        plain, first, again = [], [], []
        for _ in range(ROUNDS):
            shutil.rmtree(out.parent, ignore_errors=True)
            plain.append(plain_loop(folder))
            seconds, _, radiographs = timed_index(folder, out)
            first.append(seconds)
            seconds, unchanged, _ = timed_index(folder, out)
            again.append(seconds)
            assert unchanged
            assert radiographs == files
        ratios = [a / b for a, b in zip(plain, first, strict=True)]
        faster = [a / b for a, b in zip(first, again, strict=True)]
        print(f"{files} files, {ROUNDS} rounds")
        print(f"plain loop, one process   {statistics.median(plain):.2f} s, {files / statistics.median(plain):.0f} /s")
        print(f"cxrpair index             {statistics.median(first):.2f} s, {files / statistics.median(first):.0f} /s")
        print(f"ratio                     {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        print(f"again, nothing new        {statistics.median(again):.3f} s")
        print(f"ratio                     {statistics.median(faster):.1f} ({min(faster):.1f} to {max(faster):.1f})")
        started = time.perf_counter()
        command = [sys.executable, "-m", "monai_cxrpair.cli", "index", str(folder), "--out", f"{out}.parquet"]
        subprocess.run(command, check=True, capture_output=True)
        print(f"the whole command         {time.perf_counter() - started:.2f} s")
        less, more = (peak_memory(where, out.with_name("m.parquet")) for where in (folder / "a", folder))
        print(f"memory                    {more / 2**20:.0f} MiB, {2 * (more - less) / files:.0f} bytes a further file")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        report_memory(*sys.argv[2:])
    else:
        main()
