"""Writing a file so that a killed run leaves either the old file or the new one, never half of one."""

import csv
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pandas as pd

from monai_cxrpair.errors import CxrPairError

PULL_FOLDER = ".cxrpair-pull"  # what `cxrpair pull` keeps in the export: ledger and unfinished files
PRIVATE = 0o600  # cohort, rejects, key and mapping may identify a patient: only the owner reads them


@contextmanager
def atomic_path(path: Path, *, mode: int | None = PRIVATE) -> Iterator[Path]:
    """Give a temporary path beside `path`; flush it to disk and rename it when the block ends without an error.

    Args:
        path: Where the file shall be; its folder is created where it does not exist.
        mode: Permissions of the finished file; None for those of any new file (what the umask leaves).

    Yields:
        The path to write to.

    Raises:
        CxrPairError: The folder or the file cannot be written.
    """
    if path.is_dir():
        raise CxrPairError(f"{path} is a folder: give the name of a file to write")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp creates with mode 0600, so that nobody can read the file while it is being written either.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise CxrPairError(f"cannot write {path}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        _lock(handle)
        _remove_leftovers(path, but=temporary.name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode if mode is not None else 0o666 & ~_umask())
        temporary.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise CxrPairError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def _lock(handle: int) -> bool:
    """Whether nobody else writes to a temporary file; the lock ends with its process, however that ends."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # or the file system has no locks: then what killed runs left stays
        return False
    return True


@cache
def _leftovers(folder: Path, process: int) -> tuple[str, ...]:
    """Temporary files that were there before this process wrote into a folder: looked for once."""
    return tuple(name for name in os.listdir(folder) if name.startswith(".") and name.endswith(".tmp"))


def _remove_leftovers(path: Path, *, but: str) -> None:
    """Delete what killed runs have left of a file: the mapping of pseudonyms, for one, should not lie about."""
    mine = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.tmp")  # as mkstemp names them
    for name in filter(mine.fullmatch, _leftovers(path.parent, os.getpid())):
        with suppress(OSError):  # gone, or somebody else's
            if name != but:
                handle = os.open(path.parent / name, os.O_RDWR)
                try:
                    if _lock(handle):
                        (path.parent / name).unlink()
                finally:
                    os.close(handle)


def _flush_folder(folder: Path) -> None:
    """So that a power loss does not undo the renaming; some network drives cannot, and need not."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def as_cell(path: str) -> str:
    """A relative path for a table that people open in a spreadsheet, which would run a name such as `=HYPERLINK(...)`.

    Returns:
        The same file, as `./=HYPERLINK(...)`; other paths as they are.
    """
    return f"./{path}" if path.startswith(("=", "+", "-", "@", "\t", "\r")) else path


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, for its owner only.

    A file's name may hold a carriage return, which ends a line for whoever reads it, and which Python's csv module
    leaves unquoted: then everything is quoted.
    """
    returns = any(table[name].astype("str").str.contains("\r", regex=False).any() for name in table.columns)
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL)


def _umask() -> int:
    """The umask can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def check_writable(path: Path) -> None:
    """Find out before hours of work whether a file can be written at all.

    Raises:
        CxrPairError: It cannot.
    """
    if path.is_dir():
        raise CxrPairError(f"{path} is a folder: give the name of a file to write")
    check_folder(path.parent, what=str(path))


def check_folder(folder: Path, *, what: str) -> None:
    """Make a folder where it does not exist, and find out whether files can be written to it.

    Args:
        folder: The folder.
        what: What the error says cannot be written.

    Raises:
        CxrPairError: They cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CxrPairError(f"cannot write {what}: {error.strerror or error}") from error
