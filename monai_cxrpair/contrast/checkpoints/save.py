"""What a run leaves behind: checkpoints to go on from, and the encoder with its card."""

from __future__ import annotations

import errno
import logging
import math
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_cxrpair.cohort.files import check_folder, check_writable
from monai_cxrpair.contrast.checkpoints.encoder_file import EncoderFile
from monai_cxrpair.contrast.checkpoints.files import (
    checkpoint_name,
    checkpoints_in,
    move_aside,
    remove_leftovers,
    save_atomically,
    size_of,
)
from monai_cxrpair.contrast.checkpoints.lock import RunLock
from monai_cxrpair.contrast.checkpoints.random_state import random_state
from monai_cxrpair.contrast.checkpoints.resume import FORMAT, flat
from monai_cxrpair.contrast.checkpoints.signals import StopSignals
from monai_cxrpair.contrast.distributed import gather_objects, gather_rows, rank, world_size
from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)

AGREE_EVERY = 10  # steps after which several GPUs ask each other whether to save or to stop


class SaveRun:
    """Handler: checkpoints while training, and after each epoch `encoder.pt` (a plain state dict) with `encoder.json`.

    A checkpoint is written at the end of each epoch, every `checkpoint_minutes` within, and on SIGTERM or SIGINT, after
    which the process leaves with the code 143 or 130. Every file is written beside its place and then renamed, so that
    a killed run never leaves half a file; a full disk costs that one checkpoint, not the run. With several processes
    the first one writes. While it trains, another run in the same folder is refused. Attach it after every handler
    that changes what is saved.

    Args:
        output_dir: gets `encoder.pt`, `encoder.json` and `checkpoints/`.
        states: what a checkpoint holds beside the trainer's own state: name -> object with a `state_dict`.
        encoder: the backbone to save.
        card: what `encoder.json` says beside the training figures; it is also kept in the checkpoints as the
            settings that a resumed run must share.
        keep: how many checkpoints stay, beside that of the best epoch.
        best_by: a figure of `engine.state.metrics`, higher is better: `encoder.pt` is of the epoch where it was
            highest, rather than of the last. Epochs without the figure, or where it is NaN, are never best.
        checkpoint_minutes: time between two checkpoints within an epoch; 0: at the ends of epochs only.
    """

    def __init__(
        self,
        *,
        output_dir: str | Path,
        states: Mapping[str, Any],
        encoder: nn.Module,
        card: Mapping[str, Any],
        keep: int = 2,
        best_by: str | None = None,
        checkpoint_minutes: float = 10.0,
    ) -> None:
        if keep < 1:
            raise CxrPairError(f"keep is {keep}: at least one checkpoint must stay")
        if isinstance(checkpoint_minutes, bool) or not checkpoint_minutes >= 0:
            raise CxrPairError(f"checkpoint_minutes is {checkpoint_minutes}: use minutes, or 0 for ends of epochs only")
        self.output_dir, self.states, self.card, self.keep = Path(output_dir), dict(states), dict(card), keep
        self.encoder = EncoderFile(self.output_dir / "encoder.pt", encoder, card=card, best_by=best_by)
        self.seconds = 60.0 * checkpoint_minutes or math.inf
        self.folder = self.output_dir / "checkpoints"
        self.signals = StopSignals()
        self._failure: CxrPairError | None = None
        self._last_save = time.monotonic()

    def attach(self, engine: Engine) -> None:
        """Save within and at the end of each epoch, and stop for signals."""
        engine.state.best, engine.stopping, engine.alone = None, self.signals, RunLock(self.output_dir)
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_STARTED, self.encoder.forget)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.within_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Tidy up after earlier runs: their checkpoints move aside, unless this run goes on from them.

        Raises:
            CxrPairError: what the run shall leave behind cannot be written.
        """
        if not hasattr(engine.data_loader.sampler, "start_at"):
            raise CxrPairError("the loader's sampler cannot begin in the middle of an epoch: use ResumableSampler")
        self._last_save = time.monotonic()
        if engine.state.iteration > 0:
            self.encoder.find_best(engine)
        if rank() > 0:
            return
        remove_leftovers(self.folder, "epoch_*.pt")
        remove_leftovers(self.output_dir, "encoder.*")
        files = [self.encoder.path, self.encoder.path.with_suffix(".json")]
        if engine.state.iteration == 0:
            # The encoder too: resumed in its first epochs, this run would take it for its own best one.
            earlier = [*files, self.folder] if checkpoints_in(self.folder) else files
            moved = [move_aside(path) for path in earlier if path.exists()]
            if moved:
                names = ", ".join(path.name for path in moved)
                logger.warning("a new run starts: what an earlier one left in %s is now %s", self.output_dir, names)
        check_folder(self.folder, what=f"checkpoints to {self.folder}")
        for path in files:
            check_writable(path)

    def within_epoch(self, engine: Engine) -> None:
        """Save where it is time to, or stop where a signal asked for it."""
        batch, n = engine.state.iteration % engine.state.epoch_length, engine.accumulation_steps
        # To ask the others makes a GPU wait; on a CPU a step is long.
        every = n * AGREE_EVERY if world_size() > 1 and engine.state.device.type != "cpu" else n
        if batch == 0 or batch % every:
            return  # the end of the epoch saves anyway, and within an accumulated step there are gradients to lose
        stop, due = self._agreed(engine)
        if stop or due:
            engine.check_loss()
            self._save_checkpoint(engine)
        if stop:
            self._stop(engine, stop)

    def end_epoch(self, engine: Engine) -> None:
        """Write encoder, card and checkpoint, in this order: where the checkpoint is, the encoder is too."""
        self._failure = None
        if rank() == 0:
            self._try(lambda: self.encoder.save(engine), self.encoder.size)
        self._save_checkpoint(engine)
        if engine.state.epoch < engine.state.max_epochs and (stop := self._agreed(engine)[0]):
            self._stop(engine, stop)

    def finish(self, engine: Engine) -> None:
        """At the end of the run: what could not be saved is an error after all.

        Raises:
            CxrPairError: the last epoch could not be saved.
        """
        if self._failure is not None:
            remedy = "make room" if _is_full(self._failure) else "mend that"
            raise CxrPairError(f"the end of the run could not be saved: {self._failure}; {remedy}, start it once more")
        if rank() == 0 and self.encoder.best_by and engine.state.best is None:
            logger.warning("no epoch had a value of %s: encoder.pt is of the last epoch", self.encoder.best_by)
        if rank() == 0:
            best = engine.state.best["epoch"] if engine.state.best else engine.state.epoch
            what = f"encoder.pt is of epoch {best} of {engine.state.max_epochs}, in {self.output_dir}"
            logger.info("%s; next: evaluating", what)

    def _agreed(self, engine: Engine) -> tuple[int, bool]:
        """The signal to stop for, 0 for none, and whether a checkpoint is due: the same on all processes."""
        due = time.monotonic() - self._last_save >= self.seconds
        if world_size() == 1:
            return self.signals.received, due
        wishes = gather_rows(torch.tensor([[self.signals.received, due]], device=engine.state.device))
        stop, due_anywhere = wishes.amax(dim=0).tolist()
        return stop, bool(due_anywhere)

    def _stop(self, engine: Engine, stop: int) -> None:
        self.signals.received, self.signals.obeyed = stop, True
        if self._failure is not None:
            raise CxrPairError(f"stopped by {signal.Signals(stop).name} and could not save: {self._failure}")
        if rank() == 0:
            newest = checkpoints_in(self.folder)[-1]
            logger.warning("%s: saved %s; the same command goes on from there", signal.Signals(stop).name, newest)
        engine.terminate(skip_completed=True)

    def _save_checkpoint(self, engine: Engine) -> None:
        state = engine.state
        ranks = gather_objects({"random": random_state(), "sums": engine.epoch_sums.state_dict()})
        if rank() == 0:
            content: dict[str, Any] = {name: value.state_dict() for name, value in self.states.items()}
            content |= {
                "format": FORMAT,
                "settings": flat(self.card),
                "trainer": {
                    "iteration": state.iteration,
                    "epoch_length": state.epoch_length,
                    "processes": world_size(),
                },
                "scaler": engine.scaler.state_dict() if engine.scaler is not None else None,
                "best": state.best,
                "ranks": ranks,
            }
            batch = state.iteration - (state.epoch - 1) * state.epoch_length
            path = self.folder / checkpoint_name(state.epoch, batch)
            if batch < state.epoch_length:
                self._failure = None
            if self._try(lambda: save_atomically(content, path), size_of(content)):
                self._remove_old(engine)
        self._last_save = time.monotonic()

    def _try(self, write: Any, size: int) -> bool:
        """Whether it could be written; if not, a warning says what is missing, and the training goes on."""
        try:
            write()
        except CxrPairError as error:
            self._failure = error
            need = ""
            if _is_full(error):
                missing = size - shutil.disk_usage(self.output_dir).free
                need = f": {missing:,} bytes more" if missing > 0 else f": {size:,} bytes"
                need += f" needed in {self.output_dir}"
            logger.warning("%s%s; training goes on and tries again later, older checkpoints stay", error, need)
            return False
        return True

    def _remove_old(self, engine: Engine) -> None:
        best = engine.state.best and checkpoint_name(engine.state.best["epoch"], engine.state.epoch_length)
        for old in checkpoints_in(self.folder)[: -self.keep]:
            if old.name != best:
                try:
                    old.unlink()
                except OSError as error:
                    logger.warning("cannot remove the old checkpoint %s: %s", old, error.strerror)


def _is_full(error: CxrPairError) -> bool:
    return getattr(error.__cause__, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
