"""What a classifier says about a radiograph, who says it, and the UIDs that follow from both."""

from __future__ import annotations

import hashlib
import importlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

import monai_cxrpair
from monai_cxrpair.errors import CxrPairError

NAME = "CXR-Pair"
RESEARCH_ONLY = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS"
# A namespace of our own, so that nobody else's name-based UUIDs meet ours (RFC 9562 6.5).
_NAMESPACE = uuid.UUID("7d1c40c6-52a1-5c8f-9a55-3f0c6b1f2e11")


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """Who says it.

    Attributes:
        finding: What it looks for, a name of a label column.
        model_hash: SHA-256 of the classifier: weights and card.
        threshold: Its operating point: the finding is said to be present from this probability on; None: it says none.
        rule: How that was chosen, such as `youden`.
        version: Of this package.
    """

    finding: str
    model_hash: str
    threshold: float | None = None
    rule: str = ""
    version: str = monai_cxrpair.__version__

    def __post_init__(self) -> None:
        if not self.finding.strip():
            raise CxrPairError("finding is empty: name what the classifier looks for")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise CxrPairError(f"threshold is {self.threshold!r}: a probability between 0 and 1, or None")

    @property
    def words(self) -> str:
        """The finding as a person writes it."""
        return " ".join(self.finding.replace("_", " ").split())

    def present(self, probability: float) -> bool | None:
        """What is decided at the operating point; None where there is none."""
        return None if self.threshold is None else probability >= self.threshold


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What it says about one radiograph.

    Attributes:
        source: The radiograph's header, see `read_source`.
        probability: That the finding is there, in [0, 1], as the network gives it; the threshold is one of it.
        calibrated: The same after calibration, where the classifier has one.
        remark: What a reader should know, such as that the radiograph is unlike those of the training.
    """

    source: Dataset
    probability: float
    calibrated: float | None = None
    remark: str = ""

    def __post_init__(self) -> None:
        for name in ("probability", "calibrated"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:  # not a number neither
                raise CxrPairError(f"{name} is {value!r}: a number between 0 and 1")

    def sentence(self, algorithm: Algorithm) -> str:
        """The answer in words, ASCII, for people who see no codes."""
        said = f"{algorithm.words}: {percent(self.probability):.2f} %"
        present = algorithm.present(self.probability)
        if present is None or algorithm.threshold is None:
            return f"{said}, no decision (no operating point)"
        return f"{said}, {'present' if present else 'absent'} at threshold {percent(algorithm.threshold):.2f} %"


def percent(probability: float) -> float:
    """As the objects have it: two digits, far below what a repeated measurement would differ by."""
    return round(100 * probability, 2)


def read_algorithm(model_file: str | Path) -> Algorithm:
    """Who answers: the classifier `model.pt` with its card `model.json`.

    Raises:
        CxrPairError: One of them cannot be read, or is no classifier.
    """
    path = Path(model_file)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        text = path.with_suffix(".json").read_bytes()
        card = json.loads(text)
        # The card too: another operating point is another answer.
        digest.update(hashlib.sha256(text).digest())
        if not str(card["format"]).startswith("cxrpair-classifier/"):
            raise ValueError
        point = card.get("operating_point") or {}
        return Algorithm(
            finding=str(card["finding"]),
            model_hash=digest.hexdigest(),
            threshold=point.get("threshold"),
            rule=str(point.get("rule") or ""),
        )
    except OSError as error:
        raise CxrPairError(f"{error.filename}: the classifier cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CxrPairError(
            f"{path.with_suffix('.json')}: not a card of a classifier that `evaluating` wrote"
        ) from error


def derived_uid(*parts: object) -> str:
    """A UID that is the same whenever it is made from the same parts (DICOM PS3.5 B.2, from a name-based UUID)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, json.dumps([str(part) for part in parts])).int}"


def highdicom() -> Any:
    """The library that makes the objects; only who writes them needs it.

    Raises:
        CxrPairError: It is not installed.
    """
    try:
        for part in ("sr", "sc", "coding_schemes"):
            importlib.import_module(f"highdicom.{part}")
        return importlib.import_module("highdicom")
    except ImportError as error:
        raise CxrPairError('DICOM answers need highdicom: pip install "monai-cxrpair[reporting]"') from error
