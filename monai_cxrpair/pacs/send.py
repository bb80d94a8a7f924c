"""Send DICOM objects to an archive, by STOW-RS or C-STORE, as they lie on the disk."""

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs.access import Access, ae_title, read_access, read_address
from monai_cxrpair.pacs.outgoing import Outgoing, find_outgoing
from monai_cxrpair.pacs.retry import Retry, TransientError, UnavailableError

_HOPELESS = 3  # objects in a row that the server did not answer for, each tried several times


class Sender(Protocol):
    """What sends an object: True where it is stored now, False where the server says that it had it already."""

    def send(self, item: Outgoing) -> bool:
        """Send one object; raises one of the failures of `retry`."""

    def close(self) -> None:
        """Give back connections."""


@dataclass
class SendResult:
    """What became of the objects."""

    files: int = 0
    stored: int = 0
    already_there: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, int]:
        """The counts."""
        return {name: getattr(self, name) for name in ("files", "stored", "already_there", "failed")}


def send(
    address: str,
    paths: Iterable[Path],
    *,
    aet: str = "CXRPAIR",
    parallel: int = 4,
    retries: int = 6,
    timeout: float = 60.0,
    backoff: float = 1.0,
    access: Access | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SendResult:
    """Send DICOM files; sent once more, an object is the same object, as its UID is the same.

    Args:
        address: `https://host/dicom-web` (STOW-RS); `AET@host:port`, the same with `dimse://` before it, or
            `dimses://...` with TLS (C-STORE).
        paths: Files, and folders of which every DICOM file is sent.
        aet: C-STORE: our own AE title.
        parallel: How many objects, and so connections, at a time.
        retries: Attempts after a first that failed.
        timeout: Seconds without an answer after which a request has failed.
        backoff: Upper end of the first waiting time in seconds; it doubles with each attempt.
        access: Credentials and certificates; from the environment where they are not given.
        progress: Called with (objects done, objects in all).

    Returns:
        The counts; `failed` may be above 0, and sending again tries those again.

    Raises:
        CxrPairError: The server refuses or is gone, a setting is wrong, or a file is no DICOM object.
    """
    server = read_address(address if "://" in address or "@" not in address else f"dimse://{address.strip()}")
    access = read_access() if access is None else access
    access.check(server)
    own_title = ae_title(aet)
    with warnings.catch_warnings():
        # pydicom's warnings name the values they complain about.
        warnings.simplefilter("ignore")
        items, skipped = find_outgoing(paths)
        result = SendResult(files=len(items))
        if skipped:
            result.notes.append(f"{skipped} files of the folders are no DICOM objects and were not sent")
        retry = Retry(retries, first=backoff, stop=threading.Event())
        sender: Sender
        if server.web:
            sender = _web()(server, access, parallel=parallel, timeout=timeout)
        else:
            classes = {item.sop_class for item in items}
            sender = _dimse()(server, access, classes, aet=own_title, timeout=timeout)
        try:
            _Run(sender, retry, result, progress).all(items, parallel)
        finally:
            sender.close()
    return result


class _Run:
    """The work of one call: some threads, one result."""

    def __init__(self, sender: Sender, retry: Retry, result: SendResult, progress: Callable[[int, int], None]) -> None:
        self._sender, self._retry, self._result, self._progress = sender, retry, result, progress
        self._lock = threading.Lock()
        self._in_a_row = 0

    def all(self, items: list[Outgoing], parallel: int) -> None:
        """Send them; the first error that concerns all of them ends it."""
        with ThreadPoolExecutor(parallel) as pool:
            tasks = [pool.submit(self._one, item) for item in items]
            try:
                for task in tasks:
                    task.result()
            except BaseException:
                self._retry.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                # The others ended with StoppedError, of which one may come first: the cause is what the user needs.
                causes = [task.exception() for task in tasks if task.done() and not task.cancelled()]
                for cause in causes:
                    if isinstance(cause, CxrPairError):
                        raise cause from None
                raise

    def _one(self, item: Outgoing) -> None:
        result = self._result
        stored, failure = False, None
        try:
            stored = self._retry.call(lambda: self._sender.send(item))
        except (TransientError, UnavailableError) as error:
            failure = error
        except CxrPairError:
            self._retry.stop.set()
            raise
        with self._lock:
            result.stored += failure is None and stored
            result.already_there += failure is None and not stored
            result.failed += failure is not None
            if failure is not None:
                result.reasons[str(failure)] += 1
            self._in_a_row = self._in_a_row + 1 if isinstance(failure, TransientError) else 0
            self._progress(result.stored + result.already_there + result.failed, result.files)
            if self._in_a_row >= _HOPELESS:
                self._retry.stop.set()
                raise CxrPairError(f"{self._in_a_row} objects in a row failed ({failure}): send again later")


def _web() -> Callable[..., Any]:
    """Imported late: who sends over the one protocol needs no library of the other."""
    try:
        from monai_cxrpair.pacs.stow import Stow
    except ImportError as error:
        raise CxrPairError('STOW-RS needs dicomweb-client: pip install "monai-cxrpair[pacs]"') from error
    return Stow


def _dimse() -> Callable[..., Any]:
    try:
        from monai_cxrpair.pacs.store import Store
    except ImportError as error:
        raise CxrPairError('C-STORE needs pynetdicom: pip install "monai-cxrpair[pacs]"') from error
    return Store
