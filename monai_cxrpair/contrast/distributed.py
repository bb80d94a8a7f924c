"""Several processes that train one network: everything `torch.distributed` that a step needs.

Without a process group there is one rank, and every function here is the identity. All ranks must call these functions
in the same order and with the same number of rows: the loader drops a last batch that is not full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def wrap(network: nn.Module) -> nn.Module:
    """The network as all ranks train it: gradients are averaged over the ranks; on one rank the network itself.

    Buffers are not sent round before each step, as torch does by default. The queue needs none of that, since all ranks
    enqueue the same keys, and the running statistics of batch normalisation do not enter a training step: each rank has
    its own, and those of rank 0 are the network's: a checkpoint and `encoder.pt` hold them, so a resumed run and
    an uninterrupted one have the same ones.
    """
    if world_size() == 1:
        return network
    device = next(network.parameters()).device
    devices = None if device.type == "cpu" else [device]
    if devices and getattr(network, "sync_batch_norm", False):
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # the same weights, under the same names
    return DistributedDataParallel(network, device_ids=devices, broadcast_buffers=False)


def unwrap(network: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel and `torch.compile`, in whichever order; any other as it is."""
    while True:
        inner = network.module if isinstance(network, DistributedDataParallel) else getattr(network, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return network
        network = inner


@torch.no_grad()
def gather_rows(rows: Tensor) -> Tensor:
    """All ranks' rows in the order of the ranks, (N, ...) -> (ranks * N, ...), without gradient."""
    if world_size() == 1:
        return rows.detach()
    everyone = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(everyone, rows.contiguous())
    return torch.cat(everyone)  # ranks * (N, ...) -> (ranks * N, ...)


@torch.no_grad()
def gather_batch(rows: Tensor) -> Tensor:
    """All ranks' rows as one process would have had them, (N, ...) -> (ranks * N, ...), without gradient.

    `DistributedSampler` deals the queries of a batch like cards: query i of the whole goes to rank i % ranks.
    """
    everyone = gather_rows(rows)
    return everyone.reshape(world_size(), -1, *rows.shape[1:]).transpose(0, 1).flatten(0, 1)


def gather_objects(value: Any) -> list[Any]:
    """One small object of each rank, in the order of the ranks."""
    everyone = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(everyone, value)
    return everyone


@torch.no_grad()
def mean_of_ranks(value: Tensor) -> Tensor:
    """The mean over the ranks of a tensor, without gradient."""
    if world_size() == 1:
        return value.detach()
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / world_size()


def gather_rows_with_gradient(rows: Tensor) -> Tensor:
    """As `gather_rows`, and a loss of any rank reaches the rows of all.

    The gradient of a row is the sum over the losses of all ranks; DistributedDataParallel then averages those of the
    weights. So what is minimised is the mean of the ranks' losses.
    """
    if world_size() == 1:
        return rows
    everyone: Tensor = _Gather.apply(rows)
    return everyone


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return gather_rows(rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.tensor_split(world_size())[rank()]


def shuffle_rows(rows: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Permute rows within the rank and, where there are several, deal them evenly to all ranks.

    Each rank draws from torch's global generator, which the trainer seeds at every step. It permutes its own rows and
    then those it was dealt, so that nothing depends on whether the ranks have the same seed. Every row travels once;
    gathering all rows on all ranks and picking from them (He et al. 2020) sends `ranks` times as much.

    Args:
        rows: (N, ...), the same N on all ranks.

    Returns:
        N rows from all ranks in a random order, and the function that brings what was made of them, (N, ...), back to
        the ranks and the order that the rows came from.
    """
    n, ranks, me = len(rows), world_size(), rank()
    order = torch.randperm(n, device=rows.device)
    if ranks == 1:
        return rows[order], lambda made: made[order.argsort()]

    def share(source: int, target: int) -> int:  # as if all ranks' rows were dealt like cards: N for each
        return len(range((target - source * n) % ranks, n, ranks))

    sent, got = [share(me, other) for other in range(ranks)], [share(other, me) for other in range(ranks)]
    mix = torch.randperm(n, device=rows.device)
    dealt = _exchange(rows[order], sent, got)[mix]
    return dealt, lambda made: _exchange(made[mix.argsort()], got, sent)[order.argsort()]


def _exchange(rows: Tensor, sent: list[int], got: list[int]) -> Tensor:
    received = rows.new_empty(sum(got), *rows.shape[1:])
    dist.all_to_all_single(received, rows.contiguous(), got, sent)
    return received
