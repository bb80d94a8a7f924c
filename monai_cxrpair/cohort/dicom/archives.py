"""Files that lie in `.zip`, `.tar` and `.tar.gz` exports, read where they are: nothing is unpacked into the export.

A file in an archive has the path of the archive followed by its name: `exports/april.zip/DICOM/IM0001`.
"""

import contextlib
import gzip
import io
import os
import shutil
import stat
import tarfile
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from monai_cxrpair.cohort.rejects import Reason

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAX_MEMBER = 1 << 29  # bytes of one file in an archive; the largest radiographs have a quarter of it
_MAX_RATIO = 1100  # deflate reaches 1032; what claims more is a bomb
_IN_MEMORY = 1 << 25  # bytes of a file in a .tar.gz; a larger one waits on the disk
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LONGEST = 1 << 20  # bytes of a file's long name and other attributes
_MOST_ENDS = 8
_one_thread = threading.Lock()
_CUT = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, ValueError)
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
            if info.filename.endswith("/"):  # is_dir() does not bear an empty name
                continue
            name = _tidy(info.filename)
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
            try:
                file = opened.open(info)
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError):  # the others may be well
                yield name, None, info.file_size, Reason.UNREADABLE
                continue
            with file:
                yield name, file, info.file_size, None  # type: ignore[misc]


def _tar_members(archive: Path) -> Iterator[tuple[str, BinaryIO | None, int, Reason | None]]:
    seen: set[str] = set()
    # A stream: a compressed archive is gone through once, whatever its size.
    with _bounded(archive) as raw, tarfile.open(fileobj=raw, mode="r|", tarinfo=_Member) as opened:
        for info in opened:
            if info.isdir():
                continue
            name = _tidy(info.name)
            reason = _against(name, info.size, plain=info.isreg(), twice=name in seen)
            seen.add(name)
            file = opened.extractfile(info) if reason is None else None
            if file is None:
                yield name, None, info.size, reason
                continue
            with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:  # streams cannot be sought
                shutil.copyfileobj(file, copy, 1 << 20)
                copy.seek(0)
                yield name, copy, info.size, None  # type: ignore[misc]


class _Member(tarfile.TarInfo):
    """As tarfile reads it, but a damaged head is an error, where tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        try:
            info = super().frombuf(buf, encoding, errors)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from error
        if info.type in _LONG and info.size > _LONGEST:  # tarfile reads it into memory, whatever size it claims
            raise tarfile.ReadError("the head of a file is too long")
        return info


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
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts


def _tidy(name: str) -> str:
    """Write a name as a path has it: `tar -C folder .` writes `./DICOM/IM1`."""
    return PurePosixPath(name).as_posix() if safe_name(name) else name


class _Limited(io.RawIOBase):
    """A stream that may not become longer than a limit, and is not read on and on behind its end."""

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream, self._left, self._ends = stream, limit, 0

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read1(size)  # what comes before a damage is not lost
        self._left -= len(data)
        self._ends += not data
        if self._left < 0:
            raise ValueError("a compressed archive that unpacks to more than can be")
        if self._ends > _MOST_ENDS:  # tarfile steps over what a file claims to hold, however much that is
            raise EOFError("a file in the archive is cut")
        return data


@contextlib.contextmanager
def _bounded(archive: Path) -> Iterator[Any]:
    if archive.name.lower().endswith(".tar"):
        with archive.open("rb") as plain:
            yield _Limited(plain, archive.stat().st_size)
        return
    with gzip.open(archive) as stream:
        yield _Limited(stream, _MAX_RATIO * archive.stat().st_size)


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file, or a file in an archive, for reading.

    Args:
        path: As in a cohort: of a file, or of an archive followed by the name of a file in it; where the archive has
            several of this name it is the first, as in `members`.

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
        key = str(archive), archive.stat().st_mtime_ns, os.getpid()
        member = _from_zip(name, key) if archive.name.lower().endswith(".zip") else _from_tar(name, key)
    except KeyError as error:
        raise FileNotFoundError(f"no such file in {archive.name}") from error
    except OSError:
        raise
    except (RuntimeError, *DAMAGED) as error:  # RuntimeError: a password is needed
        raise OSError(f"the archive {archive.name} is damaged or encrypted") from error
    with member:
        try:
            yield member
        except (EOFError, zlib.error, zipfile.BadZipFile) as error:  # shows only while it is read
            raise OSError(f"the archive {archive.name} is damaged") from error


def _from_zip(name: str, key: tuple[str, int, int]) -> Any:
    opened, names = _zip(*key)
    if names[name].file_size > MAX_MEMBER:
        raise OSError(f"{name} in the archive is larger than a radiograph")
    return opened.open(names[name])  # threads may read at once: a ZipFile has a lock and a position for each file


def _from_tar(name: str, key: tuple[str, int, int]) -> BinaryIO:
    # A TarFile has one position for all its files and no lock: one thread at a time opens and reads.
    with _one_thread:
        opened, names = _tar(*key)
        info = names[name]
        file = opened.extractfile(info) if info.isreg() and info.size <= MAX_MEMBER else None
        if file is None:
            raise OSError(f"{name} in the archive is no file that can be read")
        return io.BytesIO(file.read())


# An open archive is kept, since its list of files is long; one for each process, since a file position is shared.
@lru_cache(maxsize=4)
def _zip(archive: str, changed: int, process: int) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    opened = zipfile.ZipFile(archive)
    return opened, {_tidy(info.filename): info for info in reversed(opened.infolist()) if info.filename[-1:] != "/"}


@lru_cache(maxsize=2)
def _tar(archive: str, changed: int, process: int) -> tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]:
    opened = (
        tarfile.open(archive, "r:", tarinfo=_Member) if archive.lower().endswith(".tar") else _unpacked(Path(archive))  # noqa: SIM115
    )
    names: dict[str, tarfile.TarInfo] = {}
    with contextlib.suppress(*_CUT):  # `members` has told of it; the files before can be read
        for info in opened:
            if not info.isdir():
                names.setdefault(_tidy(info.name), info)
    return opened, names


def _unpacked(archive: Path) -> tarfile.TarFile:
    """Unpack once what is compressed as a whole and so cannot be sought, to a temporary file without a name."""
    plain = tempfile.TemporaryFile(prefix="cxrpair-")  # noqa: SIM115 - it lives as long as the archive is open
    with _bounded(archive) as stream, contextlib.suppress(*_CUT):
        shutil.copyfileobj(stream, plain, 1 << 20)
    plain.seek(0)
    opened = tarfile.open(fileobj=plain, mode="r:", tarinfo=_Member)  # noqa: SIM115
    weakref.finalize(opened, plain.close)  # an archive that is no longer kept gives its disk space back
    return opened
