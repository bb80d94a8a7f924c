"""The training loop on MONAI's Ignite engine: one iteration is one batch through the network, forth and back."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Trainer, Workflow
from monai.utils import CommonKeys
from torch import Tensor, nn
from torch.utils.data import DataLoader

from monai_cxrpair.contrast.checkpoints.resume import load_newest_checkpoint
from monai_cxrpair.contrast.checkpoints.signals import shielded_workers
from monai_cxrpair.contrast.distributed import mean_of_ranks, rank, unwrap, world_size, wrap
from monai_cxrpair.contrast.encoders import channels_last
from monai_cxrpair.contrast.training.precision import (
    Precision,
    choose_arithmetic,
    compile_encoders,
    kernels,
    no_compiler,
)
from monai_cxrpair.contrast.training.progress import EpochSums
from monai_cxrpair.contrast.training.throughput import Throughput
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.augment_device import make_views

logger = logging.getLogger(__name__)

# Looking at the loss makes a CUDA device wait for the host: there, only once in so many batches.
CHECK_EVERY = 50


class ContrastiveTrainer(Trainer):
    """Trains a `MoCo`, or another contrastive network, on batches of a `PairCacheDataset`.

    After each epoch `state.metrics` holds the means over its batches, and over all ranks, of the figures that the
    network gives and of `self_pair_rate`; `pairs_per_second`, and `data_wait`, see `Throughput`.

    With several processes each trains on its share of every batch, and gradients are averaged.

    Args:
        device: to train on.
        max_epochs: passes over the radiographs; each is a query once per pass (paper: 20).
        train_data_loader: over a `PairCacheDataset`.
        network: `forward(query, key, *, affinity, codes)` gives a NamedTuple of scalars with a `loss`; `queue` may be
            None. It is wrapped here where there are several processes, `self.network` is what is inside.
        optimizer: over `network.parameters()`.
        normalisation: (mean, standard deviation) that views in [0, 1] are normalised with.
        precision: see `choose_arithmetic`.
        accumulation_steps: n, the weights move after every n-th batch of an epoch, and after its last, by the mean of
            the gradients since then; the momentum encoder moves once for them too, and is the same for all of their
            keys. Keys are enqueued batch by batch, so that those of the first are negatives of the next.
        clip_grad_norm: the largest norm of the gradient of all weights together; None: as it is.
        compile_network: compile the encoders with `torch.compile`.
        deterministic: see `kernels`.
        train_handlers: MONAI or Ignite handlers.
        states: what a checkpoint holds beside the engine's own state: name -> object with a `state_dict`.
        settings: what the checkpoints to resume from must have been made with; see `SaveRun`.
        resume_from: folder of checkpoints; the newest is loaded before training where there is one.

    Raises:
        CxrPairError: a queue with more keys than there are radiographs, or a setting out of range, by name.
    """

    def __init__(
        self,
        *,
        device: torch.device | str,
        max_epochs: int,
        train_data_loader: DataLoader[Any],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        normalisation: tuple[float, float],
        precision: Precision = "auto",
        accumulation_steps: int = 1,
        clip_grad_norm: float | None = None,
        compile_network: bool = False,
        deterministic: bool = False,
        train_handlers: Sequence[Any] | None = None,
        states: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        resume_from: str | Path | None = None,
    ) -> None:
        radiographs = len(train_data_loader.dataset)  # type: ignore[arg-type]
        if len(train_data_loader) == 0:
            raise CxrPairError(f"batch_size is larger than the {radiographs} radiographs: no batch can be made")
        self.network: Any = unwrap(network)
        queue_size = getattr(self.network.queue, "size", 0)
        if queue_size > radiographs:
            raise CxrPairError(
                f"queue_size is {queue_size} but there are only {radiographs} radiographs: every query would "
                f"meet itself as a negative; set queue_size to {max(1, radiographs // 4)} or less"
            )
        if isinstance(accumulation_steps, bool) or not isinstance(accumulation_steps, int) or accumulation_steps < 1:
            raise CxrPairError(f"accumulation_steps is {accumulation_steps!r}: use a whole number of at least 1")
        if clip_grad_norm is not None and not _positive(clip_grad_norm):
            raise CxrPairError(f"clip_grad_norm is {clip_grad_norm!r}: use a finite number above 0, or null")
        self.arithmetic = choose_arithmetic(precision, network=self.network, device=torch.device(device))
        self.optimizer, self.normalisation = optimizer, normalisation
        self.accumulation_steps, self.clip_grad_norm = accumulation_steps, clip_grad_norm
        self.compile_network, self.deterministic = compile_network, deterministic
        self.wrapped: Any = self.network
        self.states, self.settings, self.resume_from = dict(states or {}), dict(settings or {}), resume_from
        self.epoch_sums = EpochSums()
        # See `SaveRun`: what a signal does while training, and what keeps other runs out of the folder.
        self.stopping: AbstractContextManager[Any] = nullcontext()
        self.alone: AbstractContextManager[Any] = nullcontext()
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            epoch_length=len(train_data_loader),
            decollate=False,
            handlers=None,
        )
        self.scaler = self.arithmetic.scaler
        self.logger.setLevel(logging.WARNING)  # Ignite's: it repeats what is said here, and of a resumed run wrongly
        self.logger.addFilter(_is_no_mistake)
        if accumulation_steps > len(train_data_loader):
            logger.warning(
                "accumulation_steps is %d, but an epoch has only %d batches: it is one step",
                accumulation_steps, len(train_data_loader),
            )  # fmt: skip
        # Ours first, so that a handler given here already finds the epoch's metrics.
        self.throughput = Throughput()
        self.throughput.attach(self)
        self.add_event_handler(Events.EPOCH_STARTED, _start_epoch)
        self.add_event_handler(Events.ITERATION_COMPLETED, _add_iteration)
        self.add_event_handler(Events.EPOCH_COMPLETED, _finish_epoch)
        if train_handlers is not None:
            self._register_handlers(train_handlers)

    def run(self) -> None:
        """Train from the newest checkpoint, or from the start, to `max_epochs`."""
        device, queue = self.state.device, self.network.queue
        logger.info(
            "training on %s in %s with channels_last, %d batches an epoch%s%s",
            device, self.arithmetic.name, self.state.epoch_length,
            f" in each of {world_size()} processes" if world_size() > 1 else "",
            "" if queue is None else f", queue of {queue.size}",
        )  # fmt: skip
        channels_last(self.network.to(device))
        with self.alone:  # also while a checkpoint is loaded: another run might remove it
            if self.resume_from is not None:
                load_newest_checkpoint(Path(self.resume_from), self.states, trainer=self, settings=self.settings)
                if self.state.epoch >= self.state.max_epochs:  # Ignite would start a finished run anew
                    logger.info("all %d epochs are done already", self.state.max_epochs)
                    return
            self._train()

    def _train(self) -> None:
        if self.compile_network:
            compile_encoders(self.network)
        self.wrapped = wrap(self.network.train())
        try:
            with kernels(deterministic=self.deterministic), self.stopping, shielded_workers(self.data_loader):
                Workflow.run(self)  # MONAI's Trainer.run would put the scaler away
        except RuntimeError as error:
            if self.compile_network and (known := no_compiler(error)):
                raise known from error
            raise
        finally:
            self.throughput.close()

    def place_in_step(self) -> tuple[int, int]:
        """Which batch of the current optimiser step this iteration is, from 1, and how many batches the step has."""
        place, n = (self.state.iteration - 1) % self.state.epoch_length, self.accumulation_steps
        return place % n + 1, min(n, self.state.epoch_length - place + place % n)

    def check_loss(self) -> None:
        """Stop where the loss of this or an earlier batch of the epoch is no number; before anything is saved.

        Raises:
            CxrPairError: it is not.
        """
        loss = float(self.epoch_sums.sums[CommonKeys.LOSS])
        if not math.isfinite(loss):
            raise CxrPairError(
                f"the loss became {'NaN' if math.isnan(loss) else 'infinite'} in epoch {self.state.epoch}: lower "
                "learning_rate, set clip_grad_norm 1, or use precision fp32"
            )

    def _iteration(self, engine: Any, batchdata: dict[str, Tensor]) -> dict[str, Any]:
        # Seeded per step: neither the number of workers, which draw from the same generator when they start, nor a
        # resumed run changes how keys are permuted.
        seed = self.data_loader.dataset.seed * 1_000_003 + engine.state.iteration + rank() * 2**40
        torch.manual_seed(seed % 2**63)
        batch = {name: value.to(engine.state.device, non_blocking=True) for name, value in batchdata.items()}
        if "query" not in batch:  # the views are made here: see `pack_sources`
            batch = make_views(batch, size=self.data_loader.dataset.image_size)
        place, batches = self.place_in_step()
        self.network.moves_keys = place == 1
        if place == 1:
            self.optimizer.zero_grad(set_to_none=True)
        with self.wrapped.no_sync() if place < batches and world_size() > 1 else nullcontext():
            with self.arithmetic.autocast():
                output = self.wrapped(
                    self._normalise(batch["query"]), self._normalise(batch["key"]),
                    affinity=batch["affinity"], codes=batch["codes"],
                )  # fmt: skip
            self.arithmetic.backward(output.loss if batches == 1 else output.loss / batches)
        if place == batches:
            self.arithmetic.step(self.optimizer, clip_grad_norm=self.clip_grad_norm)
        numbers = {name: value.detach() for name, value in output._asdict().items()}
        numbers["self_pair_rate"] = (batch["key_row"] == batch["row"][:, None]).float().mean()
        pairs = batch["key_row"].numel() * world_size()
        return {CommonKeys.LOSS: numbers["loss"], "numbers": numbers, "pairs": pairs}

    def _normalise(self, views: Tensor) -> Tensor:
        """uint8 (..., 1, S, S) -> float of about zero mean and unit variance."""
        mean, std = self.normalisation
        # In place: on a CPU each further copy costs as much as the resampling of the views.
        scaled = views.to(self.arithmetic.full, copy=True).sub_(255.0 * mean).div_(255.0 * std)
        return scaled.contiguous(memory_format=torch.channels_last) if scaled.ndim == 4 else scaled


def _is_no_mistake(record: logging.LogRecord) -> bool:
    """Ignite logs every error that ends a run, twice; a user's mistake is said once, by whoever catches it."""
    return not isinstance(sys.exc_info()[1], CxrPairError)


def _positive(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def _start_epoch(engine: ContrastiveTrainer) -> None:
    engine.data_loader.dataset.set_epoch(engine.state.epoch)
    engine.epoch_sums.start(fresh=engine.state.iteration % engine.state.epoch_length == 0)


def _add_iteration(engine: ContrastiveTrainer) -> None:
    engine.epoch_sums.add(engine.state.output["numbers"], engine.state.output["pairs"])
    if engine.state.device.type == "cpu" or engine.state.iteration % CHECK_EVERY == 0:
        engine.check_loss()


def _finish_epoch(engine: ContrastiveTrainer) -> None:
    engine.check_loss()
    sums, wait = engine.epoch_sums, torch.tensor(engine.throughput.data_wait())
    total = torch.stack([*sums.sums.values(), wait.to(engine.state.device) * engine.state.epoch_length])
    means = (mean_of_ranks(total) / engine.state.epoch_length).tolist()
    engine.state.metrics.update(zip([*sums.sums, "data_wait"], means, strict=True))
    engine.state.metrics["pairs_per_second"] = sums.pairs / sums.seconds
    engine.throughput.log(engine)
