"""What the reading page asks for. Needs FastAPI but no MONAI Label: `page_router` takes any desk.

All ids are pseudonyms. An error is `{"detail": "one line"}` with status 400 (not understood), 404 (no such study,
radiograph), 409 (another reader has the study), 413 (too large), 422 (a value is wrong) or 500.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse

from monai_cxrpair.label.desk import LARGEST, STRATEGY, Desk, NotFoundError, png

PAGE = Path(__file__).parents[1] / "page"
_PRIVATE = {"Cache-Control": "private, max-age=600"}  # pictures of patients: in no proxy
# The page loads nothing from elsewhere, and no other page shows it in a frame.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
}
ReaderField = Annotated[str, Body(embed=True, min_length=1, max_length=128)]


def page_router(desk: Callable[[], Desk], *, dependencies: Sequence[Any] = ()) -> APIRouter:
    """The routes below `/cxrpair`.

    Args:
        desk: gives the desk, at each request.
        dependencies: FastAPI's, such as who may ask.
    """
    router = APIRouter(prefix="/cxrpair", tags=["CXR-Pair"], dependencies=list(dependencies))

    # Plain functions, not `async`: FastAPI runs them in threads, so that one reader's large picture stops nobody else.
    @router.get("", include_in_schema=False)
    def to_page() -> RedirectResponse:
        return RedirectResponse("cxrpair/")

    @router.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return _static("index.html")

    @router.get("/{name}", include_in_schema=False)
    def static(name: str) -> FileResponse:
        return _static(name)

    # POST: it leases, and what a browser or a proxy fetches ahead or again must not.
    @router.post("/api/worklist")
    def worklist(
        reader: ReaderField,
        strategy: Annotated[str, Body()] = STRATEGY,
        another: Annotated[bool, Body()] = False,
    ) -> dict[str, Any]:
        """Send `{"reader": "kim", "strategy": "mixed", "another": false}`: the next study to read, leased for 15 min.

        The one that the reader has not answered yet comes again, unless `another`. Strategies: uncertain, diverse,
        mixed, random.

        `{"finding": "pleural_effusion", "reader": "kim", "strategy": "mixed", "study": "3f..." or null when nothing is
        left, "progress": see /api/progress}`
        """
        return desk().next_study(reader, strategy, another=another)

    @router.get("/api/study/{study}")
    def one_study(study: str) -> dict[str, Any]:
        """A study; `k` numbers its radiographs, frontal ones first.

        `{"study": "3f...", "finding": "pleural_effusion", "probability": 0.83 or null,
        "calibrated": 0.79 or null, "threshold": 0.4 or null, "positive": true or null,
        "radiographs": [{"k": 0, "image": "9c...", "laterality": "frontal" | "lateral" |
        "unknown", "view_position": "PA", "probability": 0.83 or null when it cannot be read}], "answer": null or
        {"answer": "present" | "absent" | "uncertain", "reader": "kim", "time": "2024-05-06T07:08:09.123+00:00"}}`
        """
        return desk().study(study)

    @router.get("/api/study/{study}/image/{k}.png", response_class=Response)
    def image(study: str, k: int, size: Annotated[int, Query(ge=0, le=LARGEST)] = 0) -> Response:
        """A radiograph as an 8-bit grey PNG, bone bright; the longer side at most `size` (0: as it is)."""
        return Response(png(desk().picture(study, k, size=size)), media_type="image/png", headers=_PRIVATE)

    @router.get("/api/study/{study}/image/{k}.raw", response_class=Response)
    def raw(study: str, k: int, size: Annotated[int, Query(ge=0, le=LARGEST)] = 0) -> Response:
        """The same with all grey levels, for window and level: 16 bits each, little-endian, row by row.

        The headers `X-Rows` and `X-Columns` tell the size; in JavaScript `new Uint16Array(await answer.arrayBuffer())`.
        """
        pixels = desk().picture(study, k, size=size)
        shape = {"X-Rows": str(pixels.shape[0]), "X-Columns": str(pixels.shape[1])}
        content = pixels.astype("<u2").tobytes()
        return Response(content, media_type="application/octet-stream", headers=shape | _PRIVATE)

    @router.get("/api/study/{study}/heatmap/{k}.png", response_class=Response)
    def heat_map(study: str, k: int) -> Response:
        """A PNG with transparency to lay over the whole radiograph, stretched to its size."""
        return Response(desk().heat_map(study, k), media_type="image/png", headers={"Cache-Control": "no-cache"})

    @router.post("/api/study/{study}/answer")
    def answer(study: str, answer: Annotated[str, Body(embed=True)], reader: ReaderField) -> dict[str, Any]:
        """Send `{"answer": "present" | "absent" | "uncertain", "reader": "kim"}`.

        Gives back `{"study", "finding", "answer", "reader", "time", "progress"}`. 409 when another reader has it.
        """
        return desk().answer(study, answer, reader)

    @router.post("/api/undo")
    def undo(reader: ReaderField) -> dict[str, Any]:
        """Send `{"reader": "kim"}`: the reader's last answer is taken back, and its study is theirs again.

        Gives back `{"undone": null or {"study", "finding", "answer", "reader", "time"}, "progress"}`.
        """
        return desk().undo(reader)

    @router.get("/api/progress")
    def progress() -> dict[str, Any]:
        """How far the reading is.

        `{"studies": 120, "answered": 40, "being_read": 2, "unreadable": 1, "answers": {"present": 11, "absent": 28,
        "uncertain": 1}}`
        """
        return desk().progress()

    return router


async def one_line(request: Request, error: Any) -> JSONResponse:
    """FastAPI's complaint of a parameter as one line, without what was sent."""
    first = error.errors()[0]
    where = " ".join(str(part) for part in first["loc"][1:])
    return JSONResponse({"detail": f"{where}: {first['msg']}" if where else first["msg"]}, status_code=422)


def _static(name: str) -> FileResponse:
    """A file of the page; only names that are in the folder, so no path leads out of it."""
    files = {path.name: path for path in PAGE.iterdir() if path.is_file()} if PAGE.is_dir() else {}
    if name not in files:
        raise NotFoundError(f"the reading page has no file {name[:64]!r}")
    return FileResponse(files[name], headers=_PAGE_HEADERS)
