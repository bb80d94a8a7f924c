"""Associations: one for each thread, opened anew where it is gone."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pynetdicom import AE, _config, evt, sop_class
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.presentation import build_context, build_role

from monai_cxrpair.pacs.access import Access, Address
from monai_cxrpair.pacs.dimse_store import STORAGE_CLASSES, SYNTAXES, Receiver, send_at_once
from monai_cxrpair.pacs.retry import RefusedError, TransientError, UnavailableError

# pynetdicom makes these names at run time.
FIND = str(sop_class.StudyRootQueryRetrieveInformationModelFind)  # type: ignore[attr-defined]
GET = str(sop_class.StudyRootQueryRetrieveInformationModelGet)  # type: ignore[attr-defined]
MOVE = str(sop_class.StudyRootQueryRetrieveInformationModelMove)  # type: ignore[attr-defined]
_MOST_CLASSES = (128 - 2) // len(SYNTAXES)  # an association has at most 128 contexts (PS3.8 9.3.2.2)
_PERMANENT = 1  # PS3.8 9.3.4, result of a rejection

# The library logs identifiers of queries and answers, and formats them for that even when nobody listens.
logging.getLogger("pynetdicom").propagate = False
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
# A C-STORE sends a file's bytes as they are: decoded and encoded anew, they might be others.
_config.STORE_SEND_CHUNKED_DATASET = True


class Links:
    """The associations with a server.

    Args:
        address: Its address.
        access: Credentials and certificates.
        receiver: Takes what a C-GET sends; None where nothing is fetched.
        aet: Our own AE title.
        method: `get` or `move` to fetch, `store` to send.
        timeout: Seconds without an answer after which a request has failed.
    """

    def __init__(
        self,
        address: Address,
        access: Access,
        receiver: Receiver | None,
        *,
        aet: str,
        method: Literal["get", "move", "store"],
        timeout: float,
    ) -> None:
        self._address = address
        self._access = access
        self._receiver = receiver
        self._method = method
        self._tls = (access.client_context(), address.host) if address.encrypted else None
        self._ae = AE(ae_title=aet)
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.network_timeout = timeout
        self._ae.connection_timeout = timeout
        self._own = threading.local()
        self._lock = threading.Lock()
        self._open: set[Association] = set()

    @contextmanager
    def use(self, classes: set[str]) -> Iterator[Association]:
        """Give this thread's association.

        Args:
            classes: Storage classes that a C-GET may bring or that are to be sent, beside those of radiographs.

        Raises:
            RefusedError: The server does not want us, or does not offer what we need.
            UnavailableError: It does not take such an object.
            TransientError: It cannot be reached now, or the connection broke.
        """
        association = self._opened(classes)
        try:
            yield association
        except ValueError:  # pynetdicom: the server did not accept the context
            raise self._not_offered() from None
        except RuntimeError:  # pynetdicom: the association ended meanwhile
            raise TransientError("the connection broke") from None
        except BaseException:
            # Answers may still be on their way, which a later request would take for its own.
            if association.is_established:
                association.abort()
            raise

    def close(self) -> None:
        """Release all associations."""
        with self._lock:
            associations, self._open = self._open, set()
        for association in associations:
            if association.is_established:
                association.release()

    def _opened(self, classes: set[str]) -> Association:
        association: Association | None = getattr(self._own, "association", None)
        if association is not None and association.is_established and classes <= self._own.offered:
            return association
        if association is not None:
            if association.is_established:
                association.release()
            with self._lock:
                self._open.discard(association)
        self._own.association = None
        others = sorted(classes - set(STORAGE_CLASSES))[: _MOST_CLASSES - len(STORAGE_CLASSES)]
        association = self._associate([*STORAGE_CLASSES, *others] if self._method != "move" else [])
        self._own.association, self._own.offered = association, {*STORAGE_CLASSES, *classes}
        with self._lock:
            self._open.add(association)
        return association

    def _associate(self, storage: list[str]) -> Association:
        contexts = []
        if self._method != "store":
            contexts = [build_context(FIND), build_context(GET if self._method == "get" else MOVE)]
        # One context for each class and syntax: in a context of several the server would choose and transcode.
        contexts += [build_context(each, syntax) for each in storage for syntax in SYNTAXES]
        extra: list[Any] = [build_role(each, scp_role=True) for each in storage if self._method == "get"]
        if self._access.user:
            identity = UserIdentityNegotiation()
            identity.user_identity_type = 2  # name and passcode
            identity.primary_field = self._access.user.encode()
            identity.secondary_field = self._access.password.encode()
            extra.append(identity)
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, send_at_once)]
        if self._receiver is not None:
            handlers.append(self._receiver.handler)
        association = self._ae.associate(
            self._address.host,
            self._address.port,
            contexts=contexts,
            ae_title=self._address.aet,
            ext_neg=extra,
            tls_args=self._tls,
            evt_handlers=handlers,
        )
        if association.is_established:
            return association
        rejection = association.acceptor.primitive
        if association.is_rejected and rejection is not None:
            words = f"the server rejects the association ({rejection.reason_str.lower()})"
            if rejection.result == _PERMANENT:
                raise RefusedError(f"{words}: check the AE titles, dimse://AET@host:port and --aet")
            raise TransientError(words)
        if association.rejected_contexts:  # it answered, and pynetdicom gave up as nothing was accepted
            raise self._not_offered()
        raise TransientError("no association with the server" + (" (are the certificates right?)" if self._tls else ""))

    def _not_offered(self) -> RefusedError | UnavailableError:
        if self._method == "store":
            return UnavailableError("the server takes no objects of this kind, or not in this encoding")
        return RefusedError(
            f"the server does not accept C-FIND or C-{self._method.upper()} from us: is our AE title (--aet) known "
            "there? Perhaps it offers the other --method only"
        )
