"""The one exception that a user may see: one line that names the file, column or key, and what to do next."""

from __future__ import annotations

import errno

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class CxrPairError(Exception):
    """A mistake in the input or the settings; the command line shows it as one line and exits with 1."""


def disk_error(error: BaseException) -> str | None:
    """The line for a disk that is full or that nobody may write to; None for another error."""
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"cannot write {error.filename or 'a file'}: {error.strerror}"
    return None
