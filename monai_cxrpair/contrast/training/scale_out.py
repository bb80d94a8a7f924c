"""One run on several processes: what `configs/multi_gpu_train.yaml` calls. The processes are started by torchrun."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist

from monai_cxrpair.contrast.distributed import world_size
from monai_cxrpair.errors import CxrPairError


def join(backend: str = "auto") -> None:
    """Join the process group that torchrun describes; from then on only rank 0 logs.

    Args:
        backend: `nccl`, `gloo` (on CPUs, also where there are GPUs), or `auto`: nccl with CUDA, gloo without.

    Raises:
        CxrPairError: not started by torchrun, an unknown backend, or one that cannot be used here.
    """
    if "LOCAL_RANK" not in os.environ:
        raise CxrPairError(
            "configs/multi_gpu_train.yaml is for several processes: start them with `torchrun --standalone "
            "--nproc_per_node=N -m monai.bundle run training ...`, or leave that file out"
        )
    if backend not in ("auto", "nccl", "gloo"):
        raise CxrPairError(f"dist_backend is {backend!r}: use auto, nccl or gloo")
    cuda = torch.cuda.is_available()
    if backend == "nccl" and not cuda:
        raise CxrPairError("dist_backend is nccl, which needs CUDA, and there is none here: use auto or gloo")
    device = local_device(backend)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group(backend="nccl" if device.type == "cuda" else "gloo")


def local_device(backend: str = "auto") -> torch.device:
    """The device of this process: the accelerator with its number on this machine, or the CPU.

    Args:
        backend: see `join`; gloo does not gather what lies on GPUs.

    Raises:
        CxrPairError: more processes than accelerators.
    """
    if backend == "gloo" or not torch.cuda.is_available():
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if number >= torch.cuda.device_count():
        raise CxrPairError(f"nproc_per_node is more than the {torch.cuda.device_count()} GPUs of this machine")
    return torch.device("cuda", number)


def per_rank(batch_size: int) -> int:
    """How many of the pairs of a step are of this rank: `batch_size` means the same on one GPU and on eight.

    Raises:
        CxrPairError: the ranks cannot have the same number of pairs.
    """
    if batch_size % world_size():
        raise CxrPairError(f"batch_size is {batch_size}: it must be a multiple of the {world_size()} processes")
    return batch_size // world_size()


def leave() -> None:
    """Leave the process group: last step of a run."""
    if dist.is_initialized():
        dist.destroy_process_group()
