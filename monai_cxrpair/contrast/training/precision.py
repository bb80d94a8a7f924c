"""With how many digits a step is computed, and by which kernels."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from monai_cxrpair.errors import CxrPairError

logger = logging.getLogger(__name__)

Precision = Literal["auto", "bf16", "fp16", "fp32"]

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Arithmetic:
    """How a step computes: made by `choose_arithmetic`.

    `name` is what was chosen, `half` the type that autocast computes in (None: none), `full` that of the weights,
    `scaler` the GradScaler of fp16, whose small numbers would else underflow to 0.
    """

    name: str
    device: torch.device
    full: torch.dtype
    half: torch.dtype | None = None
    scaler: torch.amp.GradScaler | None = None

    def autocast(self) -> torch.autocast:
        """Context in which the forward pass is computed."""
        return torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None)

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss; under fp16 they are scaled until `step`."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def step(self, optimizer: torch.optim.Optimizer, *, clip_grad_norm: float | None) -> None:
        """Clip the gradient's norm over all weights, and move them; under fp16 not where a gradient overflowed."""
        if clip_grad_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(optimizer)
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            nn.utils.clip_grad_norm_(weights, clip_grad_norm)
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()


def choose_arithmetic(precision: str, *, network: nn.Module, device: torch.device) -> Arithmetic:
    """What `precision` means for a network on a device.

    Args:
        precision: `bf16`, `fp16` (CUDA only), `fp32`, or `auto`: bf16 where the hardware has it, where it is about
            twice as fast; emulated, it is several times slower than fp32.
        network: one of float64 weights stays in float64.
        device: that trains.

    Raises:
        CxrPairError: an unknown word, or fp16 on another device than CUDA.
    """
    if precision not in get_args(Precision):
        raise CxrPairError(f"precision is {precision!r}: use auto, bf16, fp16 or fp32")
    if precision == "fp16" and device.type != "cuda":
        raise CxrPairError(f"precision is fp16, which needs CUDA, and this is {device.type}: use auto, bf16 or fp32")
    full = next((weight.dtype for weight in network.parameters()), torch.float32)
    if full == torch.float64:
        return Arithmetic("fp64", device, full)
    name = ("bf16" if has_bf16(device) else "fp32") if precision == "auto" else precision
    if precision == "bf16" and device.type in ("cpu", "cuda") and not has_bf16(device):
        logger.warning("precision is bf16, which is emulated here, several times slower than fp32: use auto")
    scaler = torch.amp.GradScaler("cuda") if name == "fp16" else None
    return Arithmetic(name, device, full, HALF.get(name), scaler)


def has_bf16(device: torch.device) -> bool:
    """Whether `device` computes in bf16 natively."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def kernels(*, deterministic: bool) -> Iterator[None]:
    """Context with kernels that give the same result every time, or else the fastest; torch's flags are put back.

    On a CPU all kernels in use give the same result every time anyway; on CUDA the first convolutions are timed to
    find the fastest kernel for each, unless deterministic.
    """
    backend = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = backend.deterministic, backend.benchmark
    same = deterministic or before[0]
    if same:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(same, warn_only=before[1] and not deterministic)
    backend.deterministic, backend.benchmark = same, not same
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        backend.deterministic, backend.benchmark = cudnn


def compile_encoders(network: nn.Module) -> None:
    """`torch.compile` the encoders, in place: the names of their weights stay what they are.

    The loss stays as it is: it is a small part of a step, and what it does depends on the data.
    """
    for name in ("query_encoder", "key_encoder"):
        encoder = getattr(network, name, None)
        if isinstance(encoder, nn.Module):
            encoder.compile()


def no_compiler(error: BaseException) -> CxrPairError | None:
    """The error of a step of compiled encoders as one line; None where it has nothing to do with compiling."""
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return None
    lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
    reason = lines[0] if lines else type(error).__name__
    return CxrPairError(
        f"compile is true, but the encoder cannot be compiled here ({reason.strip()[:150]}): torch.compile needs a C++ "
        "compiler on a CPU and Triton on CUDA; set compile false"
    )
