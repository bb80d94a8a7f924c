"""What a run leaves behind: checkpoints to go on from, and the encoder with its card."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)

CHECKPOINT = "epoch_{:05d}.pt"


class SaveRun:
    """Handler: after each epoch a checkpoint, `encoder.pt` (a plain state dict) and `encoder.json` (its card).

    Every file is written beside its place and then renamed, so that a killed run never leaves half a file.

    Args:
        output_dir: gets `encoder.pt`, `encoder.json` and `checkpoints/`.
        states: what a checkpoint holds beside the engine's state: name -> object with a `state_dict`.
        encoder: the backbone to save.
        card: called after each epoch, returns what `encoder.json` says beside the training figures.
        keep: how many checkpoints stay.
    """

    def __init__(
        self,
        *,
        output_dir: str | Path,
        states: Mapping[str, Any],
        encoder: nn.Module,
        card: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        keep: int = 2,
    ) -> None:
        if keep < 1:
            raise CxrPairError(f"keep is {keep}: at least one checkpoint must stay")
        self.output_dir, self.states, self.encoder = Path(output_dir), dict(states), encoder
        self.card, self.keep = card, keep

    def attach(self, engine: Engine) -> None:
        """Save at the end of each epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def save(self, engine: Engine) -> None:
        """Write checkpoint, encoder and card."""
        folder = self.output_dir / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.state_dict() for name, value in self.states.items()}
        state["trainer"] = {name: getattr(engine.state, name) for name in ("epoch", "iteration", "epoch_length")}
        save_atomically(state, folder / CHECKPOINT.format(engine.state.epoch))
        for old in sorted(folder.glob("epoch_*.pt"))[: -self.keep]:
            old.unlink()
        save_encoder(self.encoder, self.output_dir / "encoder.pt", self._full_card(engine))

    def _full_card(self, engine: Engine) -> dict[str, Any]:
        card = dict(self.card() if callable(self.card) else self.card)
        metrics = {name: value for name, value in engine.state.metrics.items() if isinstance(value, float)}
        card["training"] = {**card.get("training", {}), "epochs": engine.state.epoch, "last_epoch": metrics}
        return card


def save_encoder(encoder: nn.Module, path: Path, card: Mapping[str, Any]) -> None:
    """Write `encoder.pt` and, beside it, its card `encoder.json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_atomically(encoder.state_dict(), path)
    beside = path.with_suffix(".json.part")
    beside.write_text(json.dumps(card, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(beside, path.with_suffix(".json"))


def save_atomically(state: Mapping[str, Any], path: Path) -> None:
    """`torch.save` into a file beside `path`, flushed to disk, then renamed."""
    beside = path.with_suffix(".part")
    with beside.open("wb") as stream:
        torch.save(dict(state), stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(beside, path)


def load_newest_checkpoint(folder: Path, targets: Mapping[str, Any]) -> int:
    """Load the newest checkpoint of `folder` into `targets` (name -> object), the engine under `trainer`.

    Returns:
        The epoch the run goes on from; 0 where there is no checkpoint.

    Raises:
        CxrPairError: a checkpoint that is damaged or does not fit this network.
    """
    found = sorted(folder.glob("epoch_*.pt"))
    if not found:
        logger.info("no checkpoint in %s, training starts anew", folder)
        return 0
    try:
        state = torch.load(found[-1], map_location="cpu", weights_only=True)
        for name, target in targets.items():
            if name == "trainer":
                progress = state["trainer"]
                if progress["epoch_length"] != target.state.epoch_length:
                    raise CxrPairError(
                        f"{found[-1]}: made with {progress['epoch_length']} batches an epoch, this run has "
                        f"{target.state.epoch_length}; use the same cohort and batch_size, or --resume false"
                    )
                target.state.epoch, target.state.iteration = progress["epoch"], progress["iteration"]
            else:
                target.load_state_dict(state[name])
    except CxrPairError:
        raise
    except Exception as error:  # torch raises many types for damaged files and for weights that do not fit
        reason = " ".join(str(error).split())[:200]
        raise CxrPairError(f"{found[-1]}: cannot go on from this checkpoint ({reason})") from error
    logger.info("going on from %s", found[-1])
    return int(state["trainer"]["epoch"])
