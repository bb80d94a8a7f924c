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
from monai_cxrpair.label.fine_tuning import FineTuning
from monai_cxrpair.label.history import read_refits
from monai_cxrpair.label.refit import refit
from monai_cxrpair.label.strategies import closeness
from monai_cxrpair.label.worklist import NO_THRESHOLD

EPOCHS, MINUTES = 10, 60  # of a fine-tuning


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


class LearnFromAnswers(TrainTask):
    """A new linear head from the answers, in seconds; or, where `fine_tune` is true, the whole network, in minutes."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(f"Learn {desk.finding} from the answers of the readers")
        self.desk = desk

    def config(self) -> dict[str, Any]:
        """What a client may set."""
        return {"fine_tune": False, "max_epochs": EPOCHS, "minutes": MINUTES, "seed": 0}

    def stats(self) -> dict[str, Any]:
        """The last refit."""
        refits = read_refits(self.desk.model.model_file.parent)
        return {name: value for name, value in refits[-1].items() if name != "answers"} if refits else {}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Refit, and tell what came of it.

        Raises:
            CxrPairError: a setting is wrong, or see `refit`.
        """
        fine_tune = request.get("fine_tune", False)
        if not isinstance(fine_tune, bool):
            raise CxrPairError(f"fine_tune is {str(fine_tune)[:40]!r}: use true or false")
        seed = _whole(request, "seed", 0, least=0, most=2**32 - 1)
        learning = None
        if fine_tune:
            epochs = _whole(request, "max_epochs", EPOCHS, least=1, most=1000)
            minutes = _whole(request, "minutes", MINUTES, least=1, most=10_000)
            learning = FineTuning(self.desk.model, max_epochs=epochs, minutes=minutes)
        return asdict(refit(self.desk.model, self.desk.answers, seed=seed, learning=learning))


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


def _whole(request: dict[str, Any], name: str, default: int, *, least: int, most: int) -> int:
    value = request.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise CxrPairError(f"{name} is {str(value)[:40]!r}: use a whole number from {least} to {most}")
    return value


def _as_file(content: bytes) -> str:
    handle, name = tempfile.mkstemp(suffix=".png")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    return name
