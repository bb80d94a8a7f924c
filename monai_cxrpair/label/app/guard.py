"""Between the network and MONAI Label: every mistake is answered with one line, and the server lives on."""

from __future__ import annotations

import json
import logging
from typing import Any

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.desk import ConflictError, NotFoundError

logger = logging.getLogger(__name__)

LARGEST_BODY = 128 * 2**20  # bytes; the largest detectors give 40 MB uncompressed
# MONAI Label's endpoints that hand requests on to the archive, or take files for the server's disk.
CLOSED = {
    "/proxy": "the PACS is not handed on: ask it itself",
    "/session": "sessions are switched off: send the file itself to /infer",
    "/model": "the classifier is not changed over the network: `cxrpair label-app --model` does that",
    "/wsi": "there are no whole-slide images here",
}


class Guard:
    """ASGI middleware: limits bodies, closes endpoints, and makes one line of JSON of every exception.

    Args:
        app: what is guarded.
        largest: bytes of a body.
    """

    def __init__(self, app: Any, *, largest: int = LARGEST_BODY) -> None:
        self._app, self._largest = app, largest

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, seen = False, 0

        async def counted() -> Any:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._largest:
                raise _TooLargeError
            return message

        async def sent(message: Any) -> None:
            nonlocal started
            if seen > self._largest and not started:  # whatever was made of the exception on its way
                raise _TooLargeError
            started = True
            await send(message)

        try:
            self._refuse(scope)
            await self._app(scope, counted, sent)
        except Exception as error:
            status, line = describe(error)
            if status == 500:
                logger.exception("unexpected error")
            if started:
                raise
            await _send(send, status, line)

    def _refuse(self, scope: dict[str, Any]) -> None:
        for start, why in CLOSED.items():
            if scope["path"] == start or scope["path"].startswith(f"{start}/"):
                raise _RefusedError(why)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._largest:
            raise _TooLargeError


class _TooLargeError(Exception):
    """A body is larger than any radiograph."""


class _RefusedError(Exception):
    """The endpoint is closed."""


def describe(error: Exception) -> tuple[int, str]:
    """Status and line of an exception. Only messages that are ours are shown: others may hold a patient's data."""
    line = " ".join(str(error).split())
    match error:
        case _RefusedError():
            return 403, line
        case _TooLargeError():
            return 413, f"more than {LARGEST_BODY >> 20} MiB were sent"
        case NotFoundError():
            return 404, line
        case ConflictError():
            return 409, line
        case CxrPairError():
            return 422, line
        case json.JSONDecodeError() | UnicodeDecodeError():
            return 400, "what was sent is not JSON"
    if type(error).__name__.startswith("MONAILabel"):
        return 404, " ".join(str(getattr(error, "msg", "")).split()).partition(";")[0]
    return 500, f"unexpected {type(error).__name__}; the server's log says more"


async def _send(send: Any, status: int, line: str) -> None:
    body = json.dumps({"detail": line}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
