"""Where instances arrive: only what was asked for, whole, once.

An instance is written to a temporary name, flushed to disk and renamed before the ledger marks it; whatever a killed
pull leaves is either not there or complete. The folder itself need not be flushed: a file that a power failure takes
back is missed by the next pull, which looks at the disk.
"""

import os
import threading
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from monai_cxrpair.cohort.files import PRIVATE, PULL_FOLDER
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs.ledger import Entry, Ledger
from monai_cxrpair.pacs.query import Instance
from monai_cxrpair.pacs.retry import StoppedError, TransientError


class Verdict(Enum):
    """What became of an instance that arrived."""

    NEW = "new"
    AGAIN = "again"  # it is there already: thrown away
    UNWANTED = "unwanted"  # nobody asked for it: thrown away


class Inbox:
    """The export's folder: `<study UID>/<instance UID>.dcm`, beside a hidden folder with ledger and parts.

    Args:
        folder: The export's folder; made with mode 0700 where there is none.
        stop: When set, receiving ends with StoppedError.

    Raises:
        CxrPairError: It cannot be written, or another pull is at it.
    """

    def __init__(self, folder: Path, *, stop: threading.Event) -> None:
        self.folder = folder
        self.unwanted = 0
        self._state = folder / PULL_FOLDER
        self._parts = self._state / "parts"
        self._stop = stop
        self._lock = threading.Lock()
        self._expected: dict[str, Instance] = {}
        self._receiving: set[str] = set()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            for private in (folder, self._state, self._parts):
                private.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise CxrPairError(f"cannot write {folder}: {error.strerror or error}") from error
        self.ledger = Ledger(self._state / "ledger.sqlite")
        for part in self._parts.iterdir():  # of a killed pull; the ledger's lock says that no other one runs
            part.unlink()

    def path(self, instance: Instance) -> Path:
        """Where an instance lies, or would."""
        return self.folder / instance.study / f"{instance.uid}.dcm"

    def has(self, entry: Entry) -> bool:
        """Say whether an instance is on disk; the ledger is put right where it disagrees."""
        path = self.path(entry.instance)
        try:
            size = path.stat().st_size
        except OSError:
            size = -1
        if entry.bytes is not None and size == entry.bytes:
            return True
        # Killed between rename and mark, or a ledger that was deleted: the file is whole, as the rename came last.
        # A file whose size is not the marked one was changed by others.
        if entry.bytes is None and size >= 0 and _uid_of(path) == entry.instance.uid:
            self.ledger.mark(entry.instance.uid, size)
            return True
        if entry.bytes is not None:
            self.ledger.mark(entry.instance.uid, None)
        return False

    def expect(self, instances: Iterable[Instance]) -> None:
        """Let instances in."""
        with self._lock:
            self._expected.update((instance.uid, instance) for instance in instances)

    def forget(self, instances: Iterable[Instance]) -> None:
        """Let instances in no longer."""
        with self._lock:
            for instance in instances:
                self._expected.pop(instance.uid, None)

    def missing(self, instances: Iterable[Instance]) -> list[Instance]:
        """Those of some expected instances that have not arrived."""
        with self._lock:
            return [instance for instance in instances if instance.uid in self._expected]

    def receive(self, uid: str, chunks: Iterable[bytes]) -> Verdict:
        """Take an instance in.

        Args:
            uid: The instance that the server says this is.
            chunks: The bytes of a DICOM file; not looked at where the instance is not wanted.

        Raises:
            TransientError: The bytes are not that instance or not a DICOM file.
            CxrPairError: The disk does not take it.
        """
        with self._lock:
            instance = self._expected.get(uid)
            if instance is None or uid in self._receiving:
                known = instance is not None or self.ledger.arrived(uid)
                self.unwanted += not known
                return Verdict.AGAIN if known else Verdict.UNWANTED
            self._receiving.add(uid)
        part = self._parts / f"{uid}.part"
        try:
            size = self._write(part, chunks)
            # Not the study's UID: archives that merged two studies may still send the old one.
            if _uid_of(part) != uid:
                raise TransientError("the server sent another object than the one asked for")
            self._keep(part, self.path(instance))
            self.ledger.mark(uid, size)
            self.forget([instance])
            return Verdict.NEW
        finally:
            with self._lock:
                self._receiving.discard(uid)
            part.unlink(missing_ok=True)

    def _write(self, part: Path, chunks: Iterable[bytes]) -> int:
        """Write and flush; the chunks' own failures are no OSError, so what is one here comes from the disk."""
        size = 0
        try:
            with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, PRIVATE), "wb") as file:
                for chunk in chunks:
                    if self._stop.is_set():
                        raise StoppedError
                    file.write(chunk)
                    size += len(chunk)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._cannot_write(error) from error
        return size

    def _keep(self, part: Path, path: Path) -> None:
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            part.replace(path)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> CxrPairError:
        """The folder's name only: the names of files are identifiers."""
        return CxrPairError(f"cannot write to {self.folder}: {error.strerror or type(error).__name__}")


def _uid_of(path: Path) -> str | None:
    """The SOPInstanceUID of a DICOM file; None where it is none."""
    try:
        header = pydicom.dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True)
        return str(header.SOPInstanceUID)
    except (InvalidDicomError, AttributeError, ValueError, KeyError, EOFError, OSError, NotImplementedError):
        return None
