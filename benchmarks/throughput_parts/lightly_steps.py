"""(d): our step against a loop of lightly's building blocks for MoCo, as its documentation puts them together."""

from __future__ import annotations

import copy
import importlib
import statistics
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from throughput_parts.common import in_turn, ratio, row
from throughput_parts.steps import (
    SIZES,
    make_dataset,
    make_loader,
    make_network,
    make_optimizer,
    make_trainer,
    normalised,
    seconds_per_step,
)
from torch import Tensor, nn

from monai_cxrpair.contrast import ContrastiveTrainer, MoCo, Negatives

NOT_RUN = """not run: part d needs lightly, which needs torchvision. In a folder of their own they do not disturb MONAI:
    pip install --no-deps --target bench lightly==1.6.0 torchvision==0.28.0
    PYTHONPATH=bench python benchmarks/throughput.py --part d"""


def import_lightly() -> SimpleNamespace:
    """What is used of it. Its import needs torchvision, a stub of which does where torch is not what it was built for.

    Raises:
        ModuleNotFoundError: it, or what it needs, is not installed.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # its operators are not there; two are asked for by name, nothing calls them
        library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_lightly.library = library  # type: ignore[attr-defined]  # it lasts as long as this is referred to
    from lightly.loss import NTXentLoss
    from lightly.models import utils
    from lightly.models.modules import MoCoProjectionHead

    return SimpleNamespace(NTXentLoss=NTXentLoss, MoCoProjectionHead=MoCoProjectionHead, utils=utils)


class LightlyMoCo(nn.Module):
    """MoCo v2 of lightly's blocks, with the weights and the queue of ours."""

    def __init__(self, ours: MoCo, lightly: SimpleNamespace) -> None:
        super().__init__()
        features = ours.query_head[0].in_features
        self.utils, self.momentum = lightly.utils, ours.momentum
        self.backbone = copy.deepcopy(ours.query_encoder)
        self.head = lightly.MoCoProjectionHead(features, features, ours.dim)
        with torch.no_grad():
            for mine, theirs in zip(self.head.parameters(), ours.query_head.parameters(), strict=True):
                mine.copy_(theirs)
        self.backbone_momentum, self.head_momentum = copy.deepcopy(self.backbone), copy.deepcopy(self.head)
        self.utils.deactivate_requires_grad(self.backbone_momentum)
        self.utils.deactivate_requires_grad(self.head_momentum)
        self.criterion = lightly.NTXentLoss(temperature=ours.temperature, memory_bank_size=(ours.queue.size, ours.dim))
        self.criterion.memory_bank.bank.copy_(ours.queue.keys)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """The loss of views (B, C, H, W)."""
        self.utils.update_momentum(self.backbone, self.backbone_momentum, m=self.momentum)
        self.utils.update_momentum(self.head, self.head_momentum, m=self.momentum)
        q = self.head(self.backbone(query).flatten(start_dim=1))
        with torch.no_grad():
            shuffled, order = self.utils.batch_shuffle(key)
            k = self.head_momentum(self.backbone_momentum(shuffled).flatten(start_dim=1))
            k = self.utils.batch_unshuffle(k, order)
        loss: Tensor = self.criterion(q, k)
        return loss


Step = Callable[[dict[str, Tensor]], float]


def our_step(trainer: ContrastiveTrainer) -> Step:
    """All that the trainer does with a batch."""
    return lambda batch: float(trainer._iteration(trainer, batch)["loss"])


def lightly_step(network: LightlyMoCo, half: torch.dtype | None) -> Step:
    """The same in a bare loop."""
    optimizer = make_optimizer(network)

    def step(batch: dict[str, Tensor]) -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=half, enabled=half is not None):
            loss = network(normalised(batch["query"]), normalised(batch["key"][:, 0]))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def check_equal(trainer: ContrastiveTrainer, network: LightlyMoCo, batches: list[dict[str, Tensor]]) -> None:
    """Without BN groups and without masking both do the same: three steps from the same weights and queue."""
    ours, theirs = our_step(trainer), lightly_step(network, trainer.arithmetic.half)
    losses = torch.tensor([[ours(batch), theirs(batch)] for batch in batches[:3]])
    exact = trainer.arithmetic.half is None
    torch.testing.assert_close(losses[:, 0], losses[:, 1], rtol=1e-4 if exact else 1e-2, atol=0)


def part_d(folder: Path, _workers: int) -> None:
    """Our step, keys normalised in one group and in two, against lightly's blocks: same batches, encoder and queue."""
    try:
        lightly = import_lightly()
    except ImportError as error:
        print(f"{NOT_RUN}\n    ({error})")
        return
    for size, (batch, steps) in SIZES.items():
        dataset = make_dataset(folder, size)
        batches = list(islice(make_loader(dataset, batch), 4))

        def trainer(**settings: Any) -> ContrastiveTrainer:
            return make_trainer(dataset, make_network(dataset, **settings), batch)  # noqa: B023

        plain = trainer(bn_groups=1, negatives=Negatives(ignore="none"))
        check_equal(plain, LightlyMoCo(plain.network, lightly), batches)
        sides = {f"bn_groups {groups}": our_step(trainer(bn_groups=groups)) for groups in (1, 2)}
        sides["lightly"] = lightly_step(LightlyMoCo(make_network(dataset), lightly), plain.arithmetic.half)

        def run(side: Step, steps: int, source: Any) -> float:
            return seconds_per_step(lambda: side(next(source)), steps)

        times = in_turn({name: partial(run, side, steps, cycle(batches)) for name, side in sides.items()})
        theirs = times.pop("lightly")
        for name, ours in times.items():
            row(
                f"d, {size} px, batch {batch}, {plain.arithmetic.name}",
                f"our step with {name} against lightly's MoCo blocks",
                f"{1e3 * statistics.median(ours):,.0f} against {1e3 * statistics.median(theirs):,.0f} ms, ratio "
                f"{ratio(ours, theirs)}",
            )  # fmt: skip
