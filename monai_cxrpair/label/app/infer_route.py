"""`POST /infer/{model}` in the place of MONAI Label's, with the same parameters and answers.

MONAI Label's takes any path that exists for an image, also from within `params`, and works in the event loop, where
nothing else is answered meanwhile.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, Response, UploadFile

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.desk import NotFoundError


class Output(StrEnum):
    """What is sent back."""

    IMAGE = "image"
    JSON = "json"
    ALL = "all"


def infer_router(instance: Callable[[], Any], *, dependencies: Sequence[Any] = ()) -> APIRouter:
    """The route.

    Args:
        instance: gives the app.
        dependencies: FastAPI's, such as who may ask.
    """
    router = APIRouter(tags=["Infer"], dependencies=list(dependencies))

    @router.post("/infer/{model}", response_model=None)
    def infer(
        model: str,
        image: str = "",
        session_id: str = "",
        output: Output | None = None,
        params: Annotated[str, Form()] = "{}",
        file: Annotated[UploadFile | None, File()] = None,
    ) -> Response | dict[str, Any]:
        """Predict a study of the server (`image`, its id or that of a radiograph), or a file that is sent.

        `output=json`: the result; `output=image`: the heat map; otherwise both, as multipart/form-data.
        """
        request = _params(params) | {"model": model, "heat_map": output != Output.JSON}
        if session_id:
            raise HTTPException(406, "sessions are switched off: send the file itself")
        if file is None and not image:
            raise HTTPException(422, "no image: give image=ID, or send a file")
        if file is None:
            return _answer(instance().infer(request | {"image": image}), output)
        with tempfile.TemporaryDirectory(prefix="cxrpair-") as folder:
            with (Path(folder) / "radiograph").open("wb") as target:
                shutil.copyfileobj(file.file, target)
            return _answer(instance().infer(request | {"image": Path(folder)}), output)

    return router


def _params(text: str) -> dict[str, Any]:
    try:
        params = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise CxrPairError("params is not JSON") from error
    if not isinstance(params, dict):
        raise CxrPairError("params should be a JSON table")
    return params


def _answer(result: dict[str, Any], output: Output | None) -> Response | dict[str, Any]:
    said: dict[str, Any] = result["params"]
    if result["file"] is None:
        if output == Output.IMAGE:
            raise NotFoundError("this classifier has no heat map of this study")
        return said
    path = Path(result["file"])
    content = path.read_bytes()
    path.unlink()
    if output == Output.IMAGE:
        return Response(content, media_type="image/png")
    from requests_toolbelt import MultipartEncoder

    parts = MultipartEncoder(
        fields={
            "params": (None, json.dumps(said), "application/json"),
            "image": ("heatmap.png", content, "image/png"),
        }
    )
    return Response(parts.to_string(), media_type=parts.content_type)
