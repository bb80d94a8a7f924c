"""One run at a time in an output folder."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path
from types import TracebackType

from monai_cxrpair.cohort.files import PRIVATE, check_folder
from monai_cxrpair.contrast.distributed import rank
from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)

LOCK = ".lock"


class RunLock:
    """Context in which no other run writes to the folder; of several processes the first one holds it.

    A POSIX lock: it ends with the process however that ends, and forked workers do not inherit it. Where the file
    system has no locks, the run goes on without.

    Args:
        folder: made where it does not exist.

    Raises:
        CxrPairError: on entering: another run has it, or it cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = None

    def __enter__(self) -> RunLock:
        if rank() == 0:
            check_folder(self.folder, what=f"to output_dir {self.folder}")
            try:
                self._handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, PRIVATE)
                fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if self._handle is not None and error.errno in (errno.EACCES, errno.EAGAIN):
                    self.__exit__(None, None, None)
                    raise CxrPairError(
                        f"another run is writing to {self.folder}: wait for it, or use another output_dir"
                    ) from error
                logger.info("no lock in %s (%s): see to it that no other run writes there", self.folder, error.strerror)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file stays: removed, it could be locked by one run and made anew by the next.
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
