"""The cards: the JSON beside weights that says what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai_cxrpair.errors import CxrPairError

ENCODER, CLASSIFIER = "cxrpair-encoder/1", "cxrpair-classifier/1"
# What the report's card of an encoder says under `test_patients` where it is certain.
HELD_OUT = "test patients were held out of pre-training"
# How it begins where it is certain that they were not, and the user wanted the evaluation nevertheless.
SEEN = "test patients were seen"


def read_encoder_card(encoder_file: str | Path) -> dict[str, Any]:
    """The card `encoder.json` beside `encoder.pt`.

    Raises:
        CxrPairError: there is none, or it is not an encoder's card.
    """
    path = Path(encoder_file).with_suffix(".json")
    card = _read(path, form=ENCODER, advice="an encoder's card stays beside its weights")
    _check_encoder_card(card, path)
    return card


def read_classifier_card(model_file: str | Path) -> dict[str, Any]:
    """The card `model.json` beside `model.pt`: encoder, preprocessing, finding, operating point.

    Raises:
        CxrPairError: there is none, or it is not a classifier's card.
    """
    path = Path(model_file).with_suffix(".json")
    card = _read(path, form=CLASSIFIER, advice="run `evaluating` first, or set model_file to the classifier's model.pt")
    _check_encoder_card(card.get("encoder_card"), path)
    return card


def _read(path: Path, *, form: str, advice: str) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CxrPairError(f"{path}: the card cannot be read ({error.strerror}); {advice}") from error
    except (ValueError, RecursionError) as error:
        raise CxrPairError(f"{path}: the card is damaged ({error})") from error
    if not isinstance(card, dict) or card.get("format") != form:
        raise CxrPairError(f"{path}: not a card of the form {form}")
    return card


def _check_encoder_card(card: Any, path: Path) -> None:
    """That what the network and its input are made from is there."""
    said = card if isinstance(card, dict) else {}
    sizes = said.get("preprocessing")
    sizes = sizes if isinstance(sizes, dict) else {}
    lacking = [] if "encoder" in said else ["encoder"]
    lacking += [f"preprocessing#{name}" for name in ("image_size", "mean", "std") if name not in sizes]
    if lacking:
        raise CxrPairError(f"{path}: the encoder's card lacks {', '.join(lacking)}: take the card that training wrote")
