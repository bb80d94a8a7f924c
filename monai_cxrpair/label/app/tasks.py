"""MONAI Label's tasks on the label core."""

from __future__ import annotations

import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.desk import ANONYMOUS, Desk
from monai_cxrpair.label.history import read_refits
from monai_cxrpair.label.refit import refit
from monai_cxrpair.label.strategies import closeness
from monai_cxrpair.label.worklist import NO_THRESHOLD


class ClassifyStudy(InferTask):
    """The probability of the finding in a study, and a heat map of its first radiograph.

    The weights are loaded strictly, and again when they change; the pixels come from our loader alone.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__(
            type=InferType.CLASSIFICATION,
            labels=[desk.finding],
            dimension=2,
            description=f"Probability of {desk.finding} in a chest radiograph study",
        )
        self.desk = desk

    def is_valid(self) -> bool:
        """Whether it can be used."""
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Predict.

        Args:
            request: `image`, the id of a study or radiograph, or the path (a `Path`) of a folder with the files of one;
                `heat_map`, False for none.

        Returns:
            The path of a PNG, which is the caller's to delete, and the result as MONAI Label's clients know it, with
            our own fields beside it.
        """
        image, wanted = request["image"], bool(request.get("heat_map", True))
        if isinstance(image, Path):
            said, heat = self.desk.predict_files(image, heat_map=wanted)
        else:
            said, heat = self.desk.predict(str(image), heat_map=wanted)
        if said["probability"] is None:
            raise CxrPairError(f"study {said['study']}: none of its radiographs can be read")
        score = {"idx": 0, "label": said["finding"], "score": said["probability"]}
        result = {"prediction": [score], "label_names": [said["finding"]], **said}
        return None if heat is None else _as_file(heat), result


class RefitHead(TrainTask):
    """A new linear head from the answers; the encoder stays as it is."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(f"Refit the head for {desk.finding} on the answers of the readers")
        self.desk = desk

    def config(self) -> dict[str, Any]:
        """What a client may set."""
        return {"fine_tune": False, "seed": 0}

    def stats(self) -> dict[str, Any]:
        """The last refit."""
        refits = read_refits(self.desk.model.model_file.parent)
        return {name: value for name, value in refits[-1].items() if name != "answers"} if refits else {}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Refit, and tell what came of it.

        Raises:
            CxrPairError: fine-tuning is asked for, a setting is wrong, or see `refit`.
        """
        if request.get("fine_tune", False) is not False:
            raise CxrPairError("fine_tune: the server refits the head only; the whole network learns by `evaluating`")
        seed = request.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise CxrPairError(f"seed is {str(seed)[:40]!r}: use a whole number from 0")
        return asdict(refit(self.desk.model, self.desk.answers, seed=seed))


class NextStudy(Strategy):
    """One of the worklist's strategies; `reader` (or `client_id`) in the request says who reads."""

    def __init__(self, desk: Desk, strategy: str) -> None:
        super().__init__(f"The next study to read: {strategy}")
        self.desk, self.strategy = desk, strategy

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """A study, leased to the reader; None when none is left."""
        reader = request.get("reader") or request.get("client_id")
        # Two clients that do not say who they are must not get the same study: each call leases another one then.
        found = self.desk.next_study(str(reader or ANONYMOUS), self.strategy, another=not reader)
        return None if found["study"] is None else {"id": found["study"], "reader": found["reader"]}


class Score(ScoringMethod):
    """All studies by the classifier's `probability`, or by their `uncertainty` (0: at the threshold, below: surer)."""

    def __init__(self, desk: Desk, method: str) -> None:
        super().__init__(f"The {method} of each study")
        self.desk, self.method = desk, method

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """The scores of the studies that can be read."""
        scores = self.desk.model.scores()
        values = scores.probabilities
        if self.method == "uncertainty":
            values = closeness(values, NO_THRESHOLD if scores.threshold is None else scores.threshold)
        said = {study: float(value) for study, value in zip(scores.studies, values, strict=True) if value == value}
        return {"executed": len(said), "unreadable": len(values) - len(said), "scores": said}


def _as_file(content: bytes) -> str:
    handle, name = tempfile.mkstemp(suffix=".png")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    return name
