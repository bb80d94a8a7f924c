"""Going on from the newest checkpoint that can be read."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LambdaLR

from monai_cxrpair.contrast.checkpoints.files import DamagedError, checkpoints_in, read_checkpoint, rename
from monai_cxrpair.contrast.checkpoints.random_state import set_random_state
from monai_cxrpair.contrast.distributed import gather_objects, rank, world_size
from monai_cxrpair.errors import CxrPairError

if TYPE_CHECKING:
    from monai_cxrpair.contrast.training.trainer import ContrastiveTrainer

logger = logging.getLogger(__name__)

FORMAT = "cxrpair-checkpoint/2"
ANEW = "or start anew: another output_dir, or resume false, which moves the old checkpoints aside"
SHOWN = 4
PARTS = ("settings", "trainer", "scaler", "best", "ranks")  # of a checkpoint, beside what it shall be loaded into


def resume_folder(output_dir: str | Path, resume: bool | str) -> Path | None:
    """The key `resume`: the folder of checkpoints to go on from, or None for a new run.

    Args:
        output_dir: of the run.
        resume: `auto` or True: go on where there is a checkpoint, else start; False: start.

    Raises:
        CxrPairError: it is something else.
    """
    if resume not in (True, False, "auto"):
        raise CxrPairError(f"resume is {resume!r}: use auto, true or false")
    return Path(output_dir) / "checkpoints" if resume else None


def load_newest_checkpoint(
    folder: Path, targets: Mapping[str, Any], *, trainer: ContrastiveTrainer, settings: Mapping[str, Any]
) -> None:
    """Load the newest readable checkpoint of `folder` into `targets` (name -> object) and the trainer.

    A damaged one, or one that lacks a part, is renamed and the one before it taken. Nothing changes where there is no
    checkpoint.

    Raises:
        CxrPairError: none can be read; or it was made with other settings (which are named) or by another version.
    """
    found = _newest_readable(folder, parts=[*targets, *PARTS]) if rank() == 0 else None
    path = gather_objects(found and found[0])[0]  # all processes take what the first one has found
    if path is None:
        logger.info("no checkpoint in %s: training starts anew", folder)
        return
    state = found[1] if found else read_checkpoint(path)
    try:
        if state.get("format") != FORMAT:
            raise CxrPairError(f"{path}: written by another version of this package; go back to that, {ANEW}")
        _check_settings(path, made=state["settings"], now=flat(settings))
        _check_trainer(path, state["trainer"], trainer)
        for name, target in targets.items():
            target.load_state_dict(state[name])
        for target in targets.values():  # only now: the optimiser comes with a learning rate of its own
            if isinstance(target, LambdaLR):
                _set_learning_rate(target)
        _restore(trainer, state)
    except CxrPairError:
        raise
    except Exception as error:  # torch raises many types for weights that do not fit
        reason = " ".join(str(error).split())[:200]
        raise CxrPairError(f"{path}: cannot go on from this checkpoint ({reason})") from error
    logger.info("going on from %s", path)


def _newest_readable(folder: Path, *, parts: Sequence[str]) -> tuple[Path, dict[str, Any]] | None:
    damaged: list[tuple[Path, DamagedError]] = []
    for path in reversed(checkpoints_in(folder)):
        try:
            state = read_checkpoint(path)
            lacking = [name for name in parts if name not in state]
            if lacking and state.get("format") == FORMAT:
                raise DamagedError(f"{path}: damaged: {lacking[0]} is missing in it")
        except DamagedError as error:
            damaged.append((path, error))
            continue
        for bad, reason in damaged:  # only now: where none can be read, the next start must say so as well
            rename(bad, bad.with_name(bad.name + ".damaged"))
            logger.warning("%s; it is now called %s.damaged, going on from %s", reason, bad.name, path.name)
        return path, state
    if damaged:
        raise CxrPairError(
            f"none of the {len(damaged)} checkpoints can be read ({damaged[0][1]}): bring one back, {ANEW}"
        )
    return None


def _check_settings(path: Path, *, made: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    different = [name for name in {**made, **now} if made.get(name) != now.get(name)]
    if different:
        shown = "; ".join(f"{name} was {made.get(name)}, is {now.get(name)}" for name in different[:SHOWN])
        more = f"; and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        raise CxrPairError(f"{path}: this run has other settings: {shown}{more}. Use the same, {ANEW}")


def _check_trainer(path: Path, made: Mapping[str, Any], trainer: ContrastiveTrainer) -> None:
    if made["epoch_length"] != trainer.state.epoch_length:
        raise CxrPairError(
            f"{path}: made with {made['epoch_length']} batches an epoch, this run has {trainer.state.epoch_length}; "
            f"use the same cohort and batch_size, {ANEW}"
        )
    if made["processes"] != world_size():
        raise CxrPairError(
            f"{path}: made by {made['processes']} processes, this run has {world_size()}; use as many, {ANEW}"
        )


def _restore(trainer: ContrastiveTrainer, state: Mapping[str, Any]) -> None:
    done = state["trainer"]["iteration"]
    # Ignite adds 1 to the epoch when it starts, also in the middle of one.
    trainer.state.epoch, batch = divmod(done, trainer.state.epoch_length)
    trainer.state.iteration = done
    if batch:
        item = batch * (trainer.data_loader.batch_size or 1)
        trainer.data_loader.sampler.start_at(epoch=trainer.state.epoch + 1, item=item)
    if trainer.scaler is not None and state["scaler"] is not None:
        trainer.scaler.load_state_dict(state["scaler"])
    trainer.state.best = state["best"]
    own = state["ranks"][rank()]
    trainer.epoch_sums.load_state_dict(own["sums"])
    set_random_state(own["random"])


def _set_learning_rate(schedule: LambdaLR) -> None:
    """That of this epoch under the `max_epochs` of this run: a cosine that had come to its end goes on above 0."""
    factors = [factor(schedule.last_epoch) for factor in schedule.lr_lambdas]
    schedule._last_lr = [base * factor for base, factor in zip(schedule.base_lrs, factors, strict=True)]
    for group, rate in zip(schedule.optimizer.param_groups, schedule._last_lr, strict=True):
        group["lr"] = rate


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `section#name` -> value; sequences become text, since tuples and lists are the same."""
    out: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            out.update(flat(value, f"{prefix}{name}#"))
        else:
            out[prefix + name] = str(list(value)) if isinstance(value, (list, tuple)) else value
    return out
