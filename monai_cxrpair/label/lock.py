"""One at a time: what several servers, their training processes and their threads write together."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monai_cxrpair.cohort.files import PRIVATE
from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def locked(path: Path, *, busy: str | None = None, reading: bool = False) -> Iterator[None]:
    """Context that one thread of one process at a time is in.

    `flock` and not the POSIX lock of a training run: that one is the whole process's, and does not keep the threads of
    a server apart. It ends with the process however that ends. Where the file system has no locks, one goes on without.

    Args:
        path: the lock's file, made where there is none. It stays: removed, it could be locked by one and made anew by
            the next.
        busy: the error where another one is in it; None: wait, which is for work of milliseconds.
        reading: nothing is written within, so a folder that cannot be written to needs no lock.

    Raises:
        CxrPairError: another one is in it, or the file cannot be made.
    """
    handle = None
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE)
        except OSError as error:
            if not (reading and error.errno in READ_ONLY):
                raise CxrPairError(f"cannot write {path}: {error.strerror or error}") from error
        if handle is not None:
            _take(handle, path, busy)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _take(handle: int, path: Path, busy: str | None) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if busy is None else fcntl.LOCK_NB))
    except OSError as error:
        if busy is not None and error.errno in (errno.EAGAIN, errno.EACCES):
            raise CxrPairError(busy) from error
        if error.errno not in NO_LOCKS:
            raise CxrPairError(f"cannot lock {path}: {error.strerror or error}") from error
        logger.info("no lock in %s (%s): see to it that no other server writes there", path.parent, error.strerror)
