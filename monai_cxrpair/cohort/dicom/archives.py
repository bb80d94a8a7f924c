"""Files that lie in `.zip`, `.tar` and `.tar.gz` exports, read where they are: nothing is unpacked into the export.

A file in an archive has the path of the archive followed by its name: `exports/april.zip/DICOM/IM0001`.
"""

import atexit
import gzip
import io
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from monai_cxrpair.cohort.rejects import Reason

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_MEMBER = 1 << 29  # bytes of one file in an archive; the largest radiographs have a quarter of it
_MAX_RATIO = 1100  # deflate reaches 1032; what claims more is a bomb
DAMAGED = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, ValueError, NotImplementedError)


def is_archive(name: str) -> bool:
    """Say whether a file's name is that of an archive that can be read."""
    return name.lower().endswith(SUFFIXES)


def members(archive: Path) -> Iterator[tuple[str, BinaryIO | None, int, Reason | None]]:
    """Yield the files of an archive: name, the open file, its size; or a reason instead of the file.

    The open file is good until the next one is asked for.

    Raises:
        One of `DAMAGED`: The archive cannot be read, or not any further.
    """
    yield from _zip_members(archive) if archive.name.lower().endswith(".zip") else _tar_members(archive)


def _zip_members(archive: Path) -> Iterator[tuple[str, BinaryIO | None, int, Reason | None]]:
    seen: set[str] = set()
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            name = info.filename
            if info.is_dir():
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)  # of archives made on Unix: links are kept as such
            reason = _against(name, info.file_size, plain=kind in (0, stat.S_IFREG), twice=name in seen)
            if reason is None and info.file_size > _MAX_RATIO * max(info.compress_size, 1):
                reason = Reason.IMPLAUSIBLE_SIZE
            if reason is None and info.flag_bits & 1:
                reason = Reason.ENCRYPTED
            seen.add(name)
            if reason is not None:
                yield name, None, info.file_size, reason
                continue
            with opened.open(info) as file:
                yield name, file, info.file_size, None  # type: ignore[misc]


def _tar_members(archive: Path) -> Iterator[tuple[str, BinaryIO | None, int, Reason | None]]:
    seen: set[str] = set()
    # A stream: a compressed archive is gone through once, whatever its size.
    with _bounded(archive) as raw, tarfile.open(fileobj=raw, mode="r|") as opened:
        for info in opened:
            if info.isdir():
                continue
            reason = _against(info.name, info.size, plain=info.isreg(), twice=info.name in seen)
            seen.add(info.name)
            file = opened.extractfile(info) if reason is None else None
            # Streams cannot be sought; the size is bounded.
            yield info.name, io.BytesIO(file.read()) if file else None, info.size, reason


def _against(name: str, size: int, *, plain: bool, twice: bool) -> Reason | None:
    path = PurePosixPath(name)
    if not safe_name(name):
        return Reason.UNSAFE_PATH
    if twice:
        return Reason.DUPLICATE
    if not plain:
        return Reason.UNREADABLE  # a link, a device
    if is_archive(path.name):
        return Reason.ARCHIVE
    return Reason.IMPLAUSIBLE_SIZE if size > MAX_MEMBER else None


def safe_name(name: str) -> bool:
    """Say whether a name stays beneath the folder it is put in, on any system, and is Unicode text."""
    if "\\" in name or "\0" in name or name.startswith("/") or not name:
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return ".." not in PurePosixPath(name).parts


class _Limited(io.RawIOBase):
    """A compressed stream that may not become more than `_MAX_RATIO` times its file."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream, self._left = stream, limit

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("a compressed archive that unpacks to more than can be")
        return data


@contextmanager
def _bounded(archive: Path) -> Iterator[Any]:
    if archive.name.lower().endswith(".tar"):
        with archive.open("rb") as plain:
            yield plain
        return
    with gzip.open(archive) as stream:
        yield _Limited(stream, _MAX_RATIO * archive.stat().st_size)


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file, or a file in an archive, for reading.

    Args:
        path: As in a cohort: of a file, or of an archive followed by the name of a file in it.

    Yields:
        The file; it can be sought.

    Raises:
        OSError: There is no such file, also where the archive is damaged.
    """
    archive = next((parent for parent in path.parents if is_archive(parent.name) and parent.is_file()), None)
    if archive is None:
        with path.open("rb") as file:
            yield file
        return
    name = path.relative_to(archive).as_posix()
    try:
        if archive.name.lower().endswith(".zip"):
            opened = _zip(str(archive), archive.stat().st_mtime_ns, os.getpid())
            info: Any = opened.getinfo(name)
            member: Any = opened.open(info) if info.file_size <= MAX_MEMBER else None
        else:
            tar = _tar(str(archive), archive.stat().st_mtime_ns, os.getpid())
            info = tar.getmember(name)
            member = tar.extractfile(info) if info.isreg() and info.size <= MAX_MEMBER else None
        if member is None:
            raise OSError(f"{name} in the archive is no file that can be read")
        with member:
            yield member
    except KeyError as error:
        raise FileNotFoundError(f"no such file in {archive.name}") from error
    except (RuntimeError, *DAMAGED) as error:  # RuntimeError: a password is needed
        if isinstance(error, OSError):
            raise
        raise OSError(f"the archive {archive.name} is damaged or encrypted") from error


# An open archive is kept, since its list of files is long; one for each process, since a file position is shared.
@lru_cache(maxsize=4)
def _zip(archive: str, changed: int, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(archive)


@lru_cache(maxsize=2)
def _tar(archive: str, changed: int, process: int) -> tarfile.TarFile:
    if archive.lower().endswith(".tar"):
        return tarfile.open(archive, "r:")
    # What is compressed as a whole cannot be sought: it is unpacked once, to a temporary file without a name.
    unpacked = tempfile.TemporaryFile(prefix="cxrpair-")  # noqa: SIM115 - it lives as long as the archive is open
    with _bounded(Path(archive)) as stream:
        shutil.copyfileobj(stream, unpacked, 1 << 20)
    unpacked.seek(0)
    atexit.register(unpacked.close)
    return tarfile.open(fileobj=unpacked, mode="r:")
