"""The refits: which answers each one learned from, and the files of those before."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.cards import read_classifier_card
from monai_cxrpair.evaluation.classifier import save_classifier

REFITS = "refits.jsonl"
FIRST, PREVIOUS = "first", "previous"  # folders beside model.pt: as it came, and as it was before the last refit


def read_refits(folder: Path) -> list[dict[str, Any]]:
    """All refits of the classifier in a folder, also those that were not taken; the oldest first.

    Raises:
        CxrPairError: the file is damaged.
    """
    path = folder / REFITS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise CxrPairError(f"{path} cannot be read: put the file right, or start again from {FIRST}/") from error


def add_refit(folder: Path, said: Mapping[str, Any]) -> None:
    """Write a refit down; for the owner only, since it has the pseudonyms of studies with their answers."""
    path = folder / REFITS
    before = path.read_bytes() if path.exists() else b""
    with atomic_path(path) as temporary:
        temporary.write_bytes(before + json.dumps(dict(said), allow_nan=False).encode() + b"\n")


def present_refit(card: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
    """What the history says of the refit that made the present classifier; None where it is as `evaluating` wrote it.

    Its `answers` (study -> label) are what it learned from; after a fine-tuning there is `held_out`, too: study ->
    what networks said that saw no answer of its patient.

    Raises:
        CxrPairError: it was refitted, but the history does not say on what.
    """
    number = (card.get("refit") or {}).get("number")
    if number is None:
        return None
    for said in read_refits(folder):
        if said.get("number") == number and said.get("swapped"):
            return said
    raise CxrPairError(
        f"the present head is of refit {number}, which {folder / REFITS} does not know: no honest comparison is "
        f"possible; copy model.pt and model.json of {FIRST}/ back"
    )


def swap_in(network: nn.Module, model_file: Path, card: dict[str, Any]) -> None:
    """Replace the classifier, each file at once or not at all, and keep what was there.

    Args:
        network: the new one.
        model_file: of the present one.
        card: of the new one.

    Raises:
        CxrPairError: a file cannot be written, or `model.pt` has another name.
    """
    folder = model_file.parent
    if model_file.name != "model.pt":
        raise CxrPairError(f"{model_file}: a classifier that is refitted must be called model.pt")
    if "refit" not in read_classifier_card(model_file):
        _keep(model_file, folder / FIRST)
    _keep(model_file, folder / PREVIOUS)
    save_classifier(network, folder, {key: value for key, value in card.items() if key != "format"})


def _keep(model_file: Path, folder: Path) -> None:
    """As a second name of the same file where that can be: the files are replaced, never written into."""
    try:
        folder.mkdir(exist_ok=True)
        for path in (model_file, model_file.with_suffix(".json")):
            temporary = folder / f".{path.name}.tmp"
            temporary.unlink(missing_ok=True)
            try:
                os.link(path, temporary)
            except OSError:
                shutil.copy2(path, temporary)
            temporary.replace(folder / path.name)
    except OSError as error:
        raise CxrPairError(f"cannot keep the present classifier in {folder}: {error.strerror or error}") from error
