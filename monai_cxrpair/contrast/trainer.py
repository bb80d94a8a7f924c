"""The training loop on MONAI's Ignite engine: one iteration is one `MoCo.forward` and one optimiser step."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from ignite.engine import Events
from ignite.handlers import ProgressBar
from monai.engines import Trainer
from monai.utils import CommonKeys
from torch import Tensor
from torch.utils.data import DataLoader

from monai_cxrpair.contrast.checkpoints import load_newest_checkpoint
from monai_cxrpair.contrast.encoders import channels_last
from monai_cxrpair.contrast.moco import MoCo
from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)

Precision = Literal["auto", "bf16", "fp32"]

# What StatsHandler prints after each epoch: means over its batches.
EPOCH_METRICS = (
    "loss",
    "accuracy",
    "positive_similarity",
    "negative_similarity",
    "ignored",
    "positives",
    "self_pair_rate",
)


class ContrastiveTrainer(Trainer):
    """Trains a `MoCo` on batches of a `PairCacheDataset`.

    After each epoch `state.metrics` holds the means of `EPOCH_METRICS` and `pairs_per_second`.

    Args:
        device: to train on.
        max_epochs: passes over the radiographs; each is a query once per pass (paper: 20).
        train_data_loader: over a `PairCacheDataset`.
        network: the MoCo.
        optimizer: over `network.parameters()`.
        normalisation: (mean, standard deviation) that views in [0, 1] are normalised with.
        precision: `bf16` (autocast), `fp32`, or `auto`: bf16 where the hardware has it, where it is about twice as
            fast; emulated, it is several times slower than fp32.
        train_handlers: MONAI or Ignite handlers.
        states: what a checkpoint holds beside the engine's own state: name -> object with a `state_dict`.
        settings: what the checkpoints to resume from must have been made with; see `SaveRun`.
        resume_from: folder of checkpoints; the newest is loaded before training where there is one.

    Raises:
        CxrPairError: a queue with more keys than there are radiographs, or an unknown precision.
    """

    def __init__(
        self,
        *,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: DataLoader[Any],
        network: MoCo,
        optimizer: torch.optim.Optimizer,
        normalisation: tuple[float, float],
        precision: Precision = "auto",
        train_handlers: Sequence[Any] | None = None,
        states: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        resume_from: str | Path | None = None,
    ) -> None:
        radiographs = len(train_data_loader.dataset)  # type: ignore[arg-type]
        if len(train_data_loader) == 0:
            raise CxrPairError(f"batch_size is larger than the {radiographs} radiographs: no batch can be made")
        if network.queue.size > radiographs:
            raise CxrPairError(
                f"queue_size is {network.queue.size} but there are only {radiographs} radiographs: every query would "
                f"meet itself as a negative; set queue_size to {max(1, radiographs // 4)} or less"
            )
        if precision not in get_args(Precision):
            raise CxrPairError(f"precision is {precision!r}: use auto, bf16 or fp32")
        self.network, self.optimizer, self.normalisation = network, optimizer, normalisation
        self.bf16 = has_bf16(torch.device(device)) if precision == "auto" else precision == "bf16"
        self.states, self.settings, self.resume_from = dict(states or {}), dict(settings or {}), resume_from
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            epoch_length=len(train_data_loader),
            decollate=False,
            handlers=None,
        )
        # Ours first, so that a handler given here already finds the epoch's metrics.
        self.add_event_handler(Events.EPOCH_STARTED, _start_epoch)
        self.add_event_handler(Events.ITERATION_COMPLETED, _add_iteration)
        self.add_event_handler(Events.EPOCH_COMPLETED, _finish_epoch)
        if sys.stderr.isatty():
            ProgressBar(persist=False).attach(self, output_transform=lambda output: {"loss": output[CommonKeys.LOSS]})
        if train_handlers is not None:
            self._register_handlers(train_handlers)

    def run(self) -> None:
        """Train from the newest checkpoint, or from the start, to `max_epochs`."""
        device = self.state.device
        logger.info(
            "training on %s in %s with channels_last, %d pairs an epoch, queue of %d",
            device, "bf16" if self.bf16 else "fp32",
            self.state.epoch_length * (self.data_loader.batch_size or 1), self.network.queue.size,
        )  # fmt: skip
        channels_last(self.network.to(device))
        if self.resume_from is not None:
            targets = {**self.states, "trainer": self}
            done = load_newest_checkpoint(Path(self.resume_from), targets, settings=self.settings)
            if done >= self.state.max_epochs:  # Ignite would start a finished run anew
                logger.info("all %d epochs are done already", self.state.max_epochs)
                return
        self.network.train()
        super().run()

    def _iteration(self, engine: Any, batchdata: dict[str, Tensor]) -> dict[str, Any]:
        # Seeded per step: neither the number of workers, which draw from the same generator when they start, nor a
        # resumed run changes how keys are permuted.
        torch.manual_seed(self.data_loader.dataset.seed * 1_000_003 + engine.state.iteration)
        batch = {name: value.to(engine.state.device, non_blocking=True) for name, value in batchdata.items()}
        with torch.autocast(engine.state.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            output = self.network(
                self._normalise(batch["query"]), self._normalise(batch["key"]),
                affinity=batch["affinity"], codes=batch["codes"],
            )  # fmt: skip
        self.optimizer.zero_grad(set_to_none=True)
        output.loss.backward()
        self.optimizer.step()
        numbers = {name: value.detach() for name, value in output._asdict().items()}
        numbers["self_pair_rate"] = (batch["key_row"] == batch["row"][:, None]).float().mean()
        return {CommonKeys.LOSS: float(numbers["loss"]), "numbers": numbers, "pairs": batch["key_row"].numel()}

    def _normalise(self, views: Tensor) -> Tensor:
        """uint8 (..., 1, S, S) -> float of about zero mean and unit variance."""
        mean, std = self.normalisation
        scaled = (views.float() - 255.0 * mean) / (255.0 * std)
        return scaled.contiguous(memory_format=torch.channels_last) if scaled.ndim == 4 else scaled


def has_bf16(device: torch.device) -> bool:
    """Whether `device` computes in bf16 natively."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _start_epoch(engine: ContrastiveTrainer) -> None:
    engine.data_loader.dataset.set_epoch(engine.state.epoch)
    engine.state.epoch_sums, engine.state.epoch_pairs = {}, 0
    engine.state.epoch_started = time.perf_counter()


def _add_iteration(engine: ContrastiveTrainer) -> None:
    loss = engine.state.output[CommonKeys.LOSS]
    if loss != loss:  # NaN
        raise CxrPairError(
            f"the loss became NaN in epoch {engine.state.epoch}: lower learning_rate, or use precision fp32"
        )
    sums = engine.state.epoch_sums
    for name, value in engine.state.output["numbers"].items():
        sums[name] = sums.get(name, 0.0) + value
    engine.state.epoch_pairs += engine.state.output["pairs"]


def _finish_epoch(engine: ContrastiveTrainer) -> None:
    seconds = time.perf_counter() - engine.state.epoch_started
    means = {name: float(engine.state.epoch_sums[name]) / engine.state.epoch_length for name in EPOCH_METRICS}
    engine.state.metrics.update(means, pairs_per_second=engine.state.epoch_pairs / seconds)
