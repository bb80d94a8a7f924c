"""`MyApp`, which `monailabel start_server --app $(cxrpair label-app)` runs."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from monai_cxrpair import __version__
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.app.datastore import StudyDatastore
from monai_cxrpair.label.app.guard import Guard
from monai_cxrpair.label.app.infer_route import infer_router
from monai_cxrpair.label.app.routes import one_line, page_router
from monai_cxrpair.label.app.start import open_desk
from monai_cxrpair.label.app.tasks import ClassifyStudy, LearnFromAnswers, NextStudy, Score
from monai_cxrpair.label.desk import STRATEGY
from monai_cxrpair.label.strategies import STRATEGIES

logger = logging.getLogger(__name__)
_SERVER = "monailabel.app"  # loaded by the server, and not by the processes that it starts for training


class MyApp(MONAILabelApp):  # type: ignore[misc,unused-ignore]
    """Studies are read for one finding.

    Args:
        app_dir: folder with `model/model.pt`; answers and caches go to `state/` in it.
        studies: a folder, or the address of a DICOMweb server.
        conf: see `start.CONF`.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        # Scores are computed when they are asked for; MONAI Label would start a process for them at each question.
        settings.MONAI_LABEL_AUTO_UPDATE_SCORING = False
        settings.MONAI_LABEL_SESSIONS = False  # they take files of any kind to the server's disk
        serves = _SERVER in sys.modules
        try:
            self.desk = open_desk(app_dir, studies, conf, fetch=serves)
        except CxrPairError as error:
            logger.error("the app cannot start: %s", error)
            raise
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="CXR-Pair",
            description=f"Reading of chest radiographs for {self.desk.finding}",
            version=__version__,
            labels=[self.desk.finding],
        )
        Path(app_dir, "logs").mkdir(mode=0o700, exist_ok=True)
        if serves:
            _extend(sys.modules[_SERVER].app)
            self.desk.warm_up()

    def init_datastore(self) -> Datastore:
        """Ours, for folders and DICOMweb alike."""
        return StudyDatastore(self.desk)

    def init_infers(self) -> dict[str, InferTask]:
        """By the finding's name."""
        return {self.desk.finding: ClassifyStudy(self.desk)}

    def init_trainers(self) -> dict[str, TrainTask]:
        """By the finding's name."""
        return {self.desk.finding: LearnFromAnswers(self.desk)}

    def init_strategies(self) -> dict[str, Strategy]:
        """Those of the worklist."""
        return {name: NextStudy(self.desk, name) for name in STRATEGIES}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """What the classifier says of all studies."""
        return {name: Score(self.desk, name) for name in ("probability", "uncertainty")}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Predict. A text as `image` is the id of a study or radiograph, never a path."""
        task = self._infers.get(request.get("model"))
        if task is None:
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, f"no such model: there is {self.desk.finding}")
        file, result = task(request)
        return {"label": None, "tag": "original", "file": file, "params": result}

    def batch_infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """All studies, or the labelled or unlabelled ones, without heat maps; one that cannot be read has an error."""
        store = StudyDatastore(self.desk)
        lists = {"labeled": store.get_labeled_images, "unlabeled": store.get_unlabeled_images}
        wanted = getattr(request.get("images"), "value", request.get("images"))  # MONAI Label's enum, or a list
        images = wanted if isinstance(wanted, list) else lists.get(str(wanted), store.list_images)()
        found: dict[str, Any] = {}
        for image in images:
            try:
                found[image] = self.infer({"model": request.get("model"), "image": str(image), "heat_map": False})
            except CxrPairError as error:
                found[image] = {"error": str(error)}
        return found

    def infer_wsi(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Refused: its own way to images would take any path."""
        raise CxrPairError("there are no whole-slide images here")

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """The study to read next, without its path, which may hold a patient's name."""
        task = self._strategies.get(request.get("strategy") or STRATEGY)
        if task is None:
            known = ", ".join(STRATEGIES)
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, f"no such strategy: there are {known}")
        return dict(task(request, self.datastore()) or {})


def _extend(server: Any) -> None:
    """Put our routes before MONAI Label's, and the guard around them, once; a reload makes a new app only."""
    from fastapi import Depends
    from fastapi.exceptions import RequestValidationError
    from fastapi.middleware import Middleware
    from fastapi.middleware.cors import CORSMiddleware
    from monailabel.endpoints.user.auth import RBAC
    from monailabel.interfaces.utils.app import app_instance

    if getattr(server.state, "cxrpair", False):
        return
    server.state.cxrpair = True
    who = [Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
    theirs = list(server.router.routes)
    server.include_router(infer_router(app_instance, dependencies=who), prefix=settings.MONAI_LABEL_API_STR)
    server.include_router(page_router(lambda: app_instance().desk, dependencies=who))
    ours = [route for route in server.router.routes if route not in theirs]
    server.router.routes[:] = ours + theirs
    if not settings.MONAI_LABEL_CORS_ORIGINS:
        # MONAI Label's default lets every page in the reader's browser ask, with the reader's rights.
        server.user_middleware[:] = [each for each in server.user_middleware if each.cls is not CORSMiddleware]
    server.user_middleware.insert(0, Middleware(Guard))
    server.add_exception_handler(RequestValidationError, one_line)
    server.middleware_stack = None  # built anew at the next request; the one of the start-up is in use
    if settings.MONAI_LABEL_AUTH_ENABLE:
        _take_tokens()
    else:
        logger.warning("whoever reaches the port can read the radiographs: start the server with --host 127.0.0.1")


def _take_tokens() -> None:
    """MONAI Label names no algorithm when it reads a token, and then PyJWT 2 refuses every one."""
    import jwt
    from monailabel.endpoints.user import auth

    auth.jwt = SimpleNamespace(decode=partial(jwt.decode, algorithms=["RS256"]))
