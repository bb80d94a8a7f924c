"""The guard around an ASGI app that is made up; no server, no FastAPI."""

import asyncio
import json
from typing import Any

import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.app.guard import Guard
from monai_cxrpair.label.desk import ConflictError, NotFoundError


def _ask(
    app: Any, *, path: str = "/infer/x", body: list[bytes] | None = None, declared: int | None = None
) -> tuple[int, Any]:
    """Status and body of a request to the guarded app; the body comes in parts."""
    parts, sent = list(body or [b""]), []

    async def receive() -> dict[str, Any]:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [] if declared is None else [(b"content-length", str(declared).encode())]
    scope = {"type": "http", "path": path, "headers": headers}
    asyncio.run(Guard(app, largest=100)(scope, receive, send))
    text = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(text)


async def _reads_all(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'"read"'})


def _raising(error: Exception) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    return app


class MONAILabelException(Exception):  # noqa: N818  # as MONAI Label's looks
    msg = "no model 'x' available; {'image': '/patients/DOE^JANE'}"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFoundError("no study 'x'"), 404),
        (ConflictError("another reader has it"), 409),
        (CxrPairError("size is -1"), 422),
        (json.JSONDecodeError("x", "", 0), 400),
        (MONAILabelException(), 404),
        (KeyError("/patients/DOE^JANE"), 500),
    ],
)
def test_an_exception_becomes_one_line_and_never_shows_what_is_not_ours(error: Exception, status: int) -> None:
    found, said = _ask(_raising(error))
    assert found == status
    assert "\n" not in said["detail"]
    assert said["detail"]
    assert "DOE" not in said["detail"]


@pytest.mark.parametrize("declared", [101, None])
def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(declared: int | None) -> None:
    status, said = _ask(_reads_all, body=[b"x" * 60, b"x" * 60], declared=declared)
    assert (status, set(said)) == (413, {"detail"})
    assert _ask(_reads_all, body=[b"x" * 60, b"x" * 40], declared=100) == (200, "read")


def test_a_body_stays_refused_when_the_app_makes_its_own_answer_of_the_exception() -> None:
    async def swallows(scope: Any, receive: Any, send: Any) -> None:
        try:
            await _reads_all(scope, receive, send)
        except Exception:
            await send({"type": "http.response.start", "status": 400, "headers": []})

    assert _ask(swallows, body=[b"x" * 101])[0] == 413


@pytest.mark.parametrize("path", ["/proxy/dicom/studies", "/session/", "/wsi/infer/x", "/model/pleural_effusion"])
def test_what_would_open_the_archive_or_the_disk_is_closed(path: str) -> None:
    assert _ask(_reads_all, path=path)[0] == 403
    assert _ask(_reads_all, path=path.replace("/", "/my", 1)) == (200, "read")
