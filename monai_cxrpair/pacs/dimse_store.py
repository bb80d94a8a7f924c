"""What a C-GET or C-MOVE sends: taken in as it is encoded, never decoded and encoded anew."""

import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from pynetdicom.transport import ThreadedAssociationServer

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs.inbox import Inbox, Verdict
from monai_cxrpair.pacs.retry import StoppedError, TransientError

# Radiographs: computed and digital (for presentation, for processing), and secondary capture, which some archives
# make of them. Others are added when a search finds them.
STORAGE_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.7",
)
# Every transfer syntax that a single image is stored in, so that the server need not transcode.
SYNTAXES = (
    "1.2.840.10008.1.2.1",  # explicit little endian
    "1.2.840.10008.1.2",  # implicit little endian
    "1.2.840.10008.1.2.2",  # explicit big endian
    "1.2.840.10008.1.2.1.99",  # deflated
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.51",  # JPEG extended, 12 bit
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.201",  # high-throughput JPEG 2000 lossless
    "1.2.840.10008.1.2.5",  # RLE
)
# DICOM PS3.4 B.2.3 and PS3.7 annex C
_SUCCESS, _NOT_AUTHORISED, _OUT_OF_RESOURCES, _CANNOT_UNDERSTAND = 0x0000, 0x0124, 0xA700, 0xC000


class Receiver:
    """Answers C-STORE requests, on the association of a C-GET or at a port of its own.

    Args:
        inbox: Where the instances go.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._error: CxrPairError | None = None
        self._server: ThreadedAssociationServer | None = None

    @property
    def handler(self) -> tuple[Any, Callable[[Any], int]]:
        """For `evt_handlers`."""
        return evt.EVT_C_STORE, self._store

    def listen(
        self, aet: str, address: tuple[str, int], *, tls: ssl.SSLContext | None, parallel: int, timeout: float
    ) -> None:
        """Open the port to which a C-MOVE sends.

        Raises:
            CxrPairError: It cannot be opened.
        """
        ae = AE(ae_title=aet)
        ae.require_called_aet = True
        ae.maximum_associations = 2 * parallel + 2  # an archive may open the next before it has closed the last
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout
        for sop_class in STORAGE_CLASSES:  # not all of DICOM: each association would take 50 ms to negotiate
            ae.add_supported_context(sop_class, list(SYNTAXES))
        handlers: list[Any] = [self.handler, (evt.EVT_CONN_OPEN, send_at_once)]
        try:
            self._server = ae.start_server(address, block=False, ssl_context=tls, evt_handlers=handlers)
        except OSError as error:
            host, port = address
            raise CxrPairError(f"cannot listen at {host}:{port}: {error.strerror or error} (--bind, --port)") from error

    def accept(self, classes: set[str]) -> None:
        """Let further storage classes in at the port, beside those of radiographs."""
        if self._server is not None:
            known = {str(context.abstract_syntax) for context in self._server.contexts}
            self._server.contexts += [build_context(each, list(SYNTAXES)) for each in sorted(classes - known)]

    def check(self) -> None:
        """Raise what went wrong with the disk while a server was sending."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.shutdown()

    def _store(self, event: Any) -> int:
        """Take one instance in; the answer tells the server what became of it."""
        try:
            verdict = self._inbox.receive(str(event.request.AffectedSOPInstanceUID), _encoded(event))
        except TransientError:
            return _CANNOT_UNDERSTAND
        except StoppedError:
            return _OUT_OF_RESOURCES
        except CxrPairError as error:
            self._error = error
            return _OUT_OF_RESOURCES
        # What came twice is here: an error would make the server send it a third time.
        return _NOT_AUTHORISED if verdict is Verdict.UNWANTED else _SUCCESS


def send_at_once(event: Any) -> None:
    """Turn off Nagle's algorithm: a request is two small writes, and the second would wait 40 ms for an answer."""
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _encoded(event: Any) -> Iterator[bytes]:
    """The DICOM file, made when it is asked for: our preamble and file meta, the data set as the server encoded it."""
    yield event.encoded_dataset()
