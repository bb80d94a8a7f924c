"""(b), (c): how much longer a training step takes than the computing in it."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.utils import set_determinism
from throughput_parts.common import MEAN, ROUNDS, STD, N, make_jpegs, preprocessing, ratio, row
from torch import Tensor, nn
from torch.utils.data import DataLoader

from monai_cxrpair.contrast import ContrastiveTrainer, MoCo, Monitors, ResumableSampler, build_encoder
from monai_cxrpair.contrast.encoders import channels_last
from monai_cxrpair.imaging import BatchLoader, PairCacheDataset

# Side of the views in pixels -> pairs per step (at 224 as in the paper), and steps in a turn.
SIZES = {224: (16, 1), 64: (32, 3)}
RATE = 1e-4

MakeOther = Callable[[ContrastiveTrainer, PairCacheDataset], Callable[[], Any]]


def make_dataset(folder: Path, size: int) -> PairCacheDataset:
    """Same-study pairs with the default augmentation, from the radiographs in a folder."""
    return PairCacheDataset(
        make_jpegs(folder), transform=preprocessing(size), pairing={"study": "same"}, augmentation={}, image_size=size,
        cache_dir=folder / f"cache{size}",
    )  # fmt: skip


def make_network(dataset: PairCacheDataset, **settings: Any) -> MoCo:
    """With a full queue, by default of a quarter of the radiographs."""
    set_determinism(seed=0)
    settings = {"queue_size": len(dataset) // 4, **settings}
    network = MoCo(encoder=build_encoder("resnet18"), **settings)
    fill_queue(network, dataset)
    channels_last(network)
    return network


def fill_queue(network: MoCo, dataset: PairCacheDataset) -> None:
    """Random keys, as if of radiographs of the cohort: what a step costs does not depend on what they are."""
    size = network.queue.size
    codes = torch.from_numpy(dataset._codes).repeat(-(-size // len(dataset)), 1)[:size]
    network.queue.enqueue(nn.functional.normalize(torch.randn(size, network.dim), dim=1), codes)


def make_loader(dataset: PairCacheDataset, batch: int) -> DataLoader[Any]:
    """As in the bundle."""
    sampler = ResumableSampler(dataset, num_replicas=1, rank=0, seed=0)
    return BatchLoader(dataset, batch_size=batch, sampler=sampler, drop_last=True)


def make_trainer(
    dataset: PairCacheDataset, network: MoCo, batch: int, handlers: Sequence[Any] = ()
) -> ContrastiveTrainer:
    """As in the bundle, for one epoch."""
    return ContrastiveTrainer(
        device="cpu", max_epochs=1, train_data_loader=make_loader(dataset, batch), network=network,
        optimizer=make_optimizer(network), normalisation=(MEAN, STD), train_handlers=handlers,
    )  # fmt: skip


def make_optimizer(network: nn.Module) -> torch.optim.Adam:
    """As in the bundle."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    return torch.optim.Adam(weights, lr=RATE, weight_decay=RATE)


def normalised(views: Tensor) -> Tensor:
    """As in the trainer."""
    return views.float().sub_(255.0 * MEAN).div_(255.0 * STD)


class Turns:
    """Handler: after each turn of the trainer comes one of the other side, or before it (ABBA).

    The trainer's time is all that passes from the end of the other's turn to the end of its own: waiting for batches,
    computing, and what its handlers do. The loader makes a batch while the step before is computed, in the same turn.

    Args:
        other: one step of the other side.
        steps: in a turn.

    Attributes:
        times: seconds per step of the trainer and of the other side, a value per turn, the first one a warm-up.
    """

    def __init__(self, other: Callable[[], Any], *, steps: int) -> None:
        self.other, self.steps = other, steps
        self.times: tuple[list[float], list[float]] = ([], [])

    def attach(self, engine: Any) -> None:
        """Attach it after all others."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.steps), self.take_turns)

    def begin(self) -> None:
        """The trainer's turn begins."""
        self.began = time.perf_counter()

    def take_turns(self, engine: Any) -> None:
        """The trainer's turn is over."""
        mine, others = self.times
        mine.append((time.perf_counter() - self.began) / self.steps)
        if len(mine) % 2:
            others += [seconds_per_step(self.other, self.steps) for _ in range(2)]
        if len(mine) > ROUNDS:
            engine.terminate()
        self.begin()


def seconds_per_step(step: Callable[[], Any], steps: int) -> float:
    """Mean over a turn."""
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - began) / steps


def compare_training(folder: Path, part: str, claim: str, make_other: MakeOther) -> None:
    """Training against another way to do the same steps, made from the trainer."""
    for size, (batch, steps) in SIZES.items():
        network = make_network(dataset := make_dataset(folder, size))
        trainer = make_trainer(dataset, network, batch, [Monitors(network)])
        turns = Turns(make_other(trainer, dataset), steps=steps)
        turns.attach(trainer)
        if (ROUNDS + 1) * steps > len(trainer.data_loader):
            raise SystemExit("fewer rounds, please: all must lie within an epoch")
        trainer.run()
        began = time.perf_counter()
        trainer.fire_event(Events.EPOCH_COMPLETED)
        end = time.perf_counter() - began
        ours, theirs = (times[1 : ROUNDS + 1] for times in turns.times)
        a, b = statistics.median(ours), statistics.median(theirs)
        row(
            f"{part}, {size} px, batch {batch}, {trainer.arithmetic.name}", claim,
            f"{1e3 * a:,.0f} against {1e3 * b:,.0f} ms a step, ratio {ratio(ours, theirs)}; the end of an epoch takes "
            f"{1e3 * end:.0f} ms, {end / (a * (N // batch)):.2%} of an epoch of {N:,} pairs",
        )  # fmt: skip


def fixed_batch(trainer: ContrastiveTrainer, dataset: PairCacheDataset) -> Callable[[], Any]:
    """The same step, again and again on one batch that is there already."""
    pairs = next(iter(make_loader(dataset, trainer.data_loader.batch_size)))
    return lambda: trainer._iteration(trainer, pairs)


def bare_loop(trainer: ContrastiveTrainer, dataset: PairCacheDataset) -> Callable[[], Any]:
    """What one would write by hand, on a copy of the network."""
    network, half = copy.deepcopy(trainer.network), trainer.arithmetic.half
    loader = make_loader(dataset, trainer.data_loader.batch_size)

    def steps() -> Iterator[float]:
        optimizer = make_optimizer(network)
        for batch in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=half, enabled=half is not None):
                query, key = normalised(batch["query"]), normalised(batch["key"])
                output = network(query, key, affinity=batch["affinity"], codes=batch["codes"])
            output.loss.backward()
            optimizer.step()
            yield output.loss.item()

    return partial(next, steps())


def part_b(folder: Path, _workers: int) -> None:
    """Training, its loader and its monitors, against the same step on one batch in memory."""
    compare_training(folder, "b", "training against the same step on one batch in memory", fixed_batch)


def part_c(folder: Path, _workers: int) -> None:
    """The trainer against a bare loop over a loader of the same kind."""
    compare_training(folder, "c", "the trainer against a bare PyTorch loop that does the same", bare_loop)
