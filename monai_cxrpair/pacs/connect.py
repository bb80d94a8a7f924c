"""From an address to a pull: which protocol, which connection, which folder."""

import ipaddress
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from monai_cxrpair.cohort.files import PULL_FOLDER, atomic_path
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs.access import Access, ae_title, read_access, read_address
from monai_cxrpair.pacs.inbox import Inbox
from monai_cxrpair.pacs.pull import Puller, PullResult
from monai_cxrpair.pacs.query import Query, Server
from monai_cxrpair.pacs.retry import Retry

NOT_FOUND_FILE = Path(PULL_FOLDER, "accessions-not-found.txt")


def pull(
    address: str,
    out: Path,
    query: Query,
    *,
    aet: str = "CXRPAIR",
    method: Literal["get", "move"] = "get",
    bind: str | None = None,
    port: int = 11112,
    parallel: int = 4,
    retries: int = 6,
    timeout: float = 60.0,
    backoff: float = 1.0,
    access: Access | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PullResult:
    """Pull studies into a folder; what is there already is not fetched again.

    Args:
        address: `https://host/dicom-web`, `dimse://AET@host:port` or `dimses://...` (TLS).
        out: The folder; `<study UID>/<instance UID>.dcm`, mode 0700.
        query: What is wanted.
        aet: DIMSE: our own AE title.
        method: DIMSE: C-GET or C-MOVE.
        bind: C-MOVE: the address of this machine at which the server reaches us; 127.0.0.1 for a server on it.
        port: C-MOVE: the port there (11112 is the one registered for DICOM).
        parallel: How many studies at a time; so many connections are open at most.
        retries: Attempts after a first that failed.
        timeout: Seconds without an answer after which a request has failed.
        backoff: Upper end of the first waiting time in seconds; it doubles with each attempt.
        access: Credentials and certificates; from the environment where they are not given.
        progress: Called with (studies done, studies in all).

    Returns:
        The counts; `failed` may be above 0, and another pull tries those again.

    Raises:
        CxrPairError: The server refuses or is gone, a setting is wrong, or the folder cannot be written.
    """
    server_address = read_address(address)
    access = read_access() if access is None else access
    access.check(server_address)
    own_title = ae_title(aet)
    if method == "move" and not server_address.web:
        bind = _bind_address(bind, loopback=server_address.loopback)
    retry = Retry(retries, first=backoff, stop=threading.Event())
    with warnings.catch_warnings():
        # pydicom's warnings name the values they complain about.
        warnings.simplefilter("ignore")
        inbox = Inbox(out, stop=retry.stop)
        server: Server | None = None
        try:
            if server_address.web:
                server = _web()(server_address, access, inbox, retry=retry, parallel=parallel, timeout=timeout)
            else:
                server = _dimse()(
                    server_address,
                    access,
                    inbox,
                    aet=own_title,
                    method=method,
                    listen=(bind or "", port),
                    retry=retry,
                    parallel=parallel,
                    timeout=timeout,
                )
            result = Puller(server, inbox, query, retry=retry, parallel=parallel).run(progress)
            if result.not_found:
                with atomic_path(out / NOT_FOUND_FILE) as path:
                    path.write_text("\n".join(result.not_found) + "\n", encoding="utf-8")
            return result
        finally:
            if server is not None:
                server.close()
            inbox.ledger.close()


def _bind_address(bind: str | None, *, loopback: bool) -> str:
    if bind is None and loopback:
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(bind or ""))
    except ValueError:
        raise CxrPairError(
            "C-MOVE: give with --bind the IP address of this machine at which the server reaches it (0.0.0.0 for any)"
        ) from None


def _web() -> Callable[..., Server]:
    """Imported late: who pulls over the one protocol needs no library of the other."""
    try:
        from monai_cxrpair.pacs.dicomweb import DicomWeb
    except ImportError as error:
        raise CxrPairError('DICOMweb needs dicomweb-client: pip install "monai-cxrpair[pacs]"') from error
    return DicomWeb


def _dimse() -> Callable[..., Server]:
    try:
        from monai_cxrpair.pacs.dimse import Dimse
    except ImportError as error:
        raise CxrPairError('DIMSE needs pynetdicom: pip install "monai-cxrpair[pacs]"') from error
    return Dimse
