"""What a run leaves behind: checkpoints to go on from, and the encoder with its card."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)

CHECKPOINT = "epoch_{:05d}.pt"


class SaveRun:
    """Handler: after each epoch `encoder.pt` (a plain state dict), `encoder.json` (its card) and a checkpoint.

    Every file is written beside its place and then renamed, so that a killed run never leaves half a file; the
    checkpoint comes last: where it is, the encoder is of the same epoch or later. Checkpoints of an earlier run in the
    same folder are moved aside when a new run starts.

    Args:
        output_dir: gets `encoder.pt`, `encoder.json` and `checkpoints/`.
        states: what a checkpoint holds beside the engine's state: name -> object with a `state_dict`.
        encoder: the backbone to save.
        card: what `encoder.json` says beside the training figures; it is also kept in the checkpoints as the
            settings that a resumed run must share.
        keep: how many checkpoints stay.
    """

    def __init__(
        self,
        *,
        output_dir: str | Path,
        states: Mapping[str, Any],
        encoder: nn.Module,
        card: Mapping[str, Any],
        keep: int = 2,
    ) -> None:
        if keep < 1:
            raise CxrPairError(f"keep is {keep}: at least one checkpoint must stay")
        self.output_dir, self.states, self.encoder = Path(output_dir), dict(states), encoder
        self.card, self.keep = dict(card), keep
        self.folder = self.output_dir / "checkpoints"

    def attach(self, engine: Engine) -> None:
        """Save at the end of each epoch."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def start(self, engine: Engine) -> None:
        """Move the checkpoints of an earlier run aside, unless this run goes on from them."""
        if engine.state.iteration > 0 or not list(self.folder.glob("epoch_*.pt")):
            return
        number = 1
        while (aside := self.folder.with_name(f"checkpoints.{number}")).exists():
            number += 1
        self.folder.rename(aside)
        logger.warning("a new run starts: the checkpoints of an earlier one are now in %s", aside)

    def save(self, engine: Engine) -> None:
        """Write encoder, card and checkpoint."""
        save_encoder(self.encoder, self.output_dir / "encoder.pt", self._full_card(engine))
        state: dict[str, Any] = {name: value.state_dict() for name, value in self.states.items()}
        state["trainer"] = {name: getattr(engine.state, name) for name in ("epoch", "iteration", "epoch_length")}
        state["settings"] = flat(self.card)
        save_atomically(state, self.folder / CHECKPOINT.format(engine.state.epoch))
        for old in sorted(self.folder.glob("epoch_*.pt"))[: -self.keep]:
            old.unlink()

    def _full_card(self, engine: Engine) -> dict[str, Any]:
        card = dict(self.card)
        metrics = {name: value for name, value in engine.state.metrics.items() if isinstance(value, float)}
        card["training"] = {**card.get("training", {}), "epochs": engine.state.epoch, "last_epoch": metrics}
        return card


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `section#name` -> value; sequences become text, since tuples and lists are the same."""
    out: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            out.update(flat(value, f"{prefix}{name}#"))
        else:
            out[prefix + name] = str(list(value)) if isinstance(value, (list, tuple)) else value
    return out


def save_encoder(encoder: nn.Module, path: Path, card: Mapping[str, Any]) -> None:
    """Write `encoder.pt` and, beside it, its card `encoder.json`."""
    save_atomically(encoder.state_dict(), path)
    with atomic_path(path.with_suffix(".json"), mode=None) as temporary:
        temporary.write_text(json.dumps(card, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def save_atomically(state: Mapping[str, Any], path: Path) -> None:
    """`torch.save`, all or nothing."""
    with atomic_path(path, mode=None) as temporary:
        torch.save(dict(state), temporary)


def load_newest_checkpoint(folder: Path, targets: Mapping[str, Any], *, settings: Mapping[str, Any]) -> int:
    """Load the newest checkpoint of `folder` into `targets` (name -> object), the engine under `trainer`.

    Returns:
        The epoch the run goes on from; 0 where there is no checkpoint.

    Raises:
        CxrPairError: a checkpoint that is damaged, or was made with other settings (which are named).
    """
    found = sorted(folder.glob("epoch_*.pt"))
    if not found:
        logger.info("no checkpoint in %s, training starts anew", folder)
        return 0
    try:
        state = torch.load(found[-1], map_location="cpu", weights_only=True)
        _check_settings(found[-1], made=state["settings"], now=flat(settings))
        for name, target in targets.items():
            if name == "trainer":
                progress = state["trainer"]
                if progress["epoch_length"] != target.state.epoch_length:
                    raise CxrPairError(
                        f"{found[-1]}: made with {progress['epoch_length']} batches an epoch, this run has "
                        f"{target.state.epoch_length}; use the same cohort and batch_size, or another output_dir"
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


def _check_settings(path: Path, *, made: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    different = [name for name in {**made, **now} if made.get(name) != now.get(name)]
    if different:
        shown = "; ".join(f"{name} was {made.get(name)}, is {now.get(name)}" for name in different[:4])
        raise CxrPairError(f"{path}: this run has other settings: {shown}. Use the same, or another output_dir")
