"""Which files lie beneath a folder, and have any of them changed since the last time?"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort.files import PULL_FOLDER

# A file system that keeps whole or even seconds (FAT, some network shares) shows a later change under the same time.
_COARSE, _FINE = 2_000_000_000, 50_000_000  # ns
UNTRUSTED = -1  # a time that no later look at the file can equal


@dataclass(kw_only=True)
class Listing:
    """Files and folders beneath a root, with what tells whether they have changed.

    Attributes:
        files: Paths relative to the root, sorted.
        sizes: int64, bytes; -1 for what is no regular file or cannot be looked at.
        times: int64, time of the last change in ns; `UNTRUSTED` where it is so fresh that a change may still hide.
        folders: Paths relative to the root, `.` for the root itself.
        folder_times: As `times`.
        unlisted: Folders that cannot be listed.
        unnamed: Files whose names are no Unicode text, written so that they can be printed.
        links: Links to folders, which are not followed.
    """

    files: list[str]
    sizes: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    folders: list[str] = field(default_factory=list)
    folder_times: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    unlisted: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    links: int = 0


def list_files(source: Path, *, root: Path, skip: Sequence[Path] = ()) -> Listing:
    """List the files of a folder and of all folders in it, but for what `cxrpair pull` keeps there.

    Args:
        source: A folder, or one file.
        root: A folder at or above `source`; paths are relative to it.
        skip: Files that are not listed.
    """
    top, base = os.fspath(source.absolute()), os.fspath(root.absolute())
    skipped = {os.fspath(path.absolute()) for path in skip}
    found: list[tuple[str, int, int]] = []
    folders: list[tuple[str, int]] = []
    unlisted, unnamed, links = [], [], 0
    now = time.time_ns()
    stack = [top]
    if not source.is_dir():
        stack = []
        found.append((os.path.relpath(top, base), *_look(top, now)))
    while stack:
        folder = stack.pop()
        relative = os.path.relpath(folder, base) if folder == top else folder[len(base.rstrip("/")) + 1 :]
        prefix = "" if relative == "." else relative + "/"
        try:
            folders.append((relative, _trusted(os.stat(folder).st_mtime_ns, now)))
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = prefix + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name != PULL_FOLDER:
                            stack.append(entry.path)
                    elif entry.path in skipped or _is_left_over(entry.path, skipped):
                        continue
                    elif printable(name) != name:
                        unnamed.append(printable(name))
                    elif entry.is_symlink() and os.path.isdir(entry.path):  # False for a link to itself
                        links += 1
                    else:
                        found.append((name, *_look(entry, now)))
        except OSError:
            unlisted.append(printable(relative))
    found.sort()
    return Listing(
        files=[name for name, _, _ in found],
        sizes=np.array([size for _, size, _ in found], dtype=np.int64),
        times=np.array([moment for _, _, moment in found], dtype=np.int64),
        folders=[printable(name) for name, _ in folders],
        folder_times=np.array([moment for _, moment in folders], dtype=np.int64),
        unlisted=sorted(unlisted),
        unnamed=sorted(unnamed),
        links=links,
    )


def is_unchanged(listing: Listing, *, root: Path) -> bool:
    """Say whether a listing still holds, by the times of its folders and the times and sizes of its files.

    A folder's time changes when a file is added to it, removed or renamed: so nothing has to be listed again.
    """
    from pyarrow import fs

    if listing.unlisted or listing.unnamed or (listing.sizes < 0).any():
        return False
    base = os.fspath(root.absolute()).rstrip("/") + "/"
    system = fs.LocalFileSystem()
    paths = [base + name for name in (*listing.folders, *listing.files)]
    middle = len(paths) // 2
    with ThreadPoolExecutor(2) as pool:  # Arrow looks at files without Python's lock
        halves = list(pool.map(system.get_file_info, (paths[:middle], paths[middle:])))
    found = [info for half in halves for info in half]
    times = np.array([-2 if info.mtime_ns is None else info.mtime_ns for info in found], dtype=np.int64)
    sizes = np.array([info.size if info.is_file else 0 for info in found[len(listing.folders) :]], dtype=np.int64)
    expected = np.concatenate([listing.folder_times, listing.times])
    return bool(np.array_equal(times, expected) and np.array_equal(sizes, listing.sizes))


def printable(name: str) -> str:
    """Write a file name that may be no Unicode text so that it can be printed and stored."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_left_over(path: str, skipped: set[str]) -> bool:
    """Say whether a file is what a killed run left of a file that is skipped (`files.atomic_path`)."""
    folder, name = os.path.split(path)
    return name.endswith(".tmp") and os.path.join(folder, name[1:].rpartition(".")[0].rpartition(".")[0]) in skipped


def _look(entry: os.DirEntry[str] | str, now: int) -> tuple[int, int]:
    """Return size and time of a file; -1 for what is no regular file."""
    try:
        if isinstance(entry, str):
            found, regular = os.stat(entry), os.path.isfile(entry)
        else:
            found, regular = entry.stat(), entry.is_file()
    except OSError:
        return -1, UNTRUSTED
    return (found.st_size, _trusted(found.st_mtime_ns, now)) if regular else (-1, UNTRUSTED)


def _trusted(moment: int, now: int) -> int:
    grain = _COARSE if moment % 1_000_000_000 == 0 else _FINE
    return moment if now - moment > grain else UNTRUSTED
