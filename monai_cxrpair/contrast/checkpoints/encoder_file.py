"""`encoder.pt` and its card: of the last epoch, or of the best one."""

from __future__ import annotations

import json
import logging
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from torch import nn

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.contrast.checkpoints.files import save_atomically, size_of
from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)


class EncoderFile:
    """Writes the encoder where an epoch is the best so far, or after every epoch.

    The best so far is in `engine.state.best`: its figure `by`, `value` and `epoch`; None before there is one.

    Args:
        path: of `encoder.pt`.
        encoder: the backbone.
        card: what `encoder.json` says beside the training figures.
        best_by: see `SaveRun`.

    Raises:
        CxrPairError: the card has a value that JSON cannot hold.
    """

    def __init__(self, path: Path, encoder: nn.Module, *, card: Mapping[str, Any], best_by: str | None) -> None:
        self.path, self.encoder, self.card, self.best_by = path, encoder, dict(card), best_by
        _check_card(self.card)

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return size_of(self.encoder.state_dict())

    def forget(self, engine: Engine) -> None:
        """Before an epoch: the figure of an earlier one is not that of this one, which may have none."""
        engine.state.metrics.pop(self.best_by, None)

    def save(self, engine: Engine) -> None:
        """After an epoch. Until one has a figure to go by, `encoder.pt` is of the last.

        Raises:
            CxrPairError: it cannot be written; then the epoch is not the best one either.
        """
        value: Any = engine.state.metrics.get(self.best_by) if self.best_by else None
        better = _better(value, engine.state.best)
        if self.best_by and engine.state.best is not None and not better:
            return
        save_encoder(self.encoder, self.path, self._full_card(engine, self.best_by if better else None))
        if better:
            engine.state.best = {"by": self.best_by, "value": float(value), "epoch": engine.state.epoch}
            logger.info("best so far: epoch %d, %s %.4f", engine.state.epoch, self.best_by, value)

    def find_best(self, engine: Engine) -> None:
        """Of a resumed run. An encoder better than the checkpoint knows of was saved after it, and stays the best."""
        best = engine.state.best
        engine.state.best = best if best and best["by"] == self.best_by else None
        try:
            training = json.loads(self.path.with_suffix(".json").read_text(encoding="utf-8"))["training"]
            if self.best_by and training["chosen_by"] == self.best_by:
                found = {"by": self.best_by, "value": training["last_epoch"][self.best_by], "epoch": training["epoch"]}
                if _better(found["value"], engine.state.best):
                    engine.state.best = found
        except (OSError, ValueError, KeyError, TypeError):
            return  # no encoder yet, or no card of ours

    def _full_card(self, engine: Engine, chosen_by: str | None) -> dict[str, Any]:
        numbers = {name: value for name, value in engine.state.metrics.items() if isinstance(value, float)}
        training = {
            "epochs": engine.state.epoch,
            "epoch": engine.state.epoch,
            "chosen_by": chosen_by or "last epoch",
            "last_epoch": {name: value if math.isfinite(value) else None for name, value in numbers.items()},
        }
        return {**self.card, "training": {**self.card.get("training", {}), **training}}


def _check_card(card: Mapping[str, Any], prefix: str = "") -> None:
    for name, value in card.items():
        if isinstance(value, dict):
            _check_card(value, f"{prefix}{name}#")
            continue
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CxrPairError(
                f"{prefix}{name} is {' '.join(repr(value).split())[:100]}, which encoder.json cannot hold: use text, "
                "finite numbers, lists and dicts"
            ) from error


def _better(value: Any, best: Mapping[str, Any] | None) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and (best is None or value > best["value"])


def save_encoder(encoder: nn.Module, path: Path, card: Mapping[str, Any]) -> None:
    """Write `encoder.pt` and, beside it, its card `encoder.json`, which also says with which versions it was made."""
    save_atomically(on_cpu(encoder), path)
    with atomic_path(path.with_suffix(".json"), mode=None) as temporary:
        card = {**card, "versions": _versions(encoder)}
        temporary.write_text(json.dumps(card, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def on_cpu(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict, so that it loads on a machine without the accelerator it was made on."""
    return {name: value.cpu() for name, value in network.state_dict().items()}


def _versions(encoder: nn.Module) -> dict[str, str]:
    # Beside the settings, not among them: a run may be resumed after an update of Python or torch.
    names = ["monai-cxrpair", "monai", "torch"]
    if type(encoder).__module__.startswith("transformers."):
        names.append("transformers")  # whose versions may name weights differently
    return {**{name: version(name) for name in names}, "python": platform.python_version()}
