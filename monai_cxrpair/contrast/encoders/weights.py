"""Weights from a local file, checked key by key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_cxrpair.errors import CxrPairError

# Other names under which published files keep the same weights.
OTHER_NAMES = (
    (re.compile(r"(\.denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),  # torchvision's DenseNet before 2018
    (re.compile(r"(\.denselayer\d+)\.layers\."), r"\1."),  # MONAI's DenseNet
    (re.compile(r"^(?:vit|convnext)\."), ""),  # transformers' networks with a classification layer
)
# The classification layers of torchvision and transformers.
HEADS = ("fc.", "classifier.")


def load_weights(encoder: nn.Module, path: str | Path) -> None:
    """Load a plain state dict, key by key: one of ours, or torchvision's ImageNet weights of a ResNet or DenseNet.

    A classification layer that the encoder does not have is left out, and counters that files of old torch versions
    do not have stay 0. Weights of a first convolution for three colour channels are summed for a one-channel encoder,
    since a grey image has three equal channels.

    Args:
        encoder: takes the weights.
        path: a local file, as written by `torch.save(state_dict)`.

    Raises:
        CxrPairError: the file is missing, is no state dict, its keys or shapes do not match (the first of each
            side are shown), or a number in it is not finite.
    """
    own = encoder.state_dict()
    state = _own_names(read_state_dict(path), own)
    state = {key: value for key, value in state.items() if key in own or not key.startswith(HEADS)}
    # They count batches and nothing is computed from them; torch before 0.4.1 had none.
    state = {**{key: value for key, value in own.items() if key.endswith(".num_batches_tracked")}, **state}
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        raise CxrPairError(
            f"{path}: these are not weights of this encoder; missing {len(missing)} ({', '.join(missing[:3])}), "
            f"not wanted {len(extra)} ({', '.join(extra[:3])}){_prefix_hint(extra, own)}"
        )
    first = next((key for key, value in own.items() if value.ndim == 4), None)
    if first is not None and own[first].shape[1] == 1 and state[first].ndim == 4 and state[first].shape[1] == 3:
        state[first] = state[first].sum(dim=1, keepdim=True)
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise CxrPairError(f"{path}: {key} is {tuple(value.shape)}, the encoder needs {tuple(own[key].shape)}")
        if not value.isfinite().all():
            raise CxrPairError(f"{path}: {key} holds NaN or infinite numbers: the training that wrote it went wrong")
    encoder.load_state_dict(state)


def _prefix_hint(extra: list[str], own: dict[str, Any]) -> str:
    """What to do where the names differ by what a wrapper, such as DataParallel's `module.`, puts before them."""
    prefix = next((key[: -len(name)] for key in extra for name in own if key.endswith(f".{name}")), None)
    if prefix is None or not all(key.startswith(prefix) for key in extra):
        return ""
    return f"; its keys begin with {prefix!r}: save it without, {{key.removeprefix({prefix!r}): ...}}"


def _own_names(state: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The same with each key that the encoder does not have under the name that it does have, where there is one."""
    named = {}
    for key, value in state.items():
        others = (pattern.sub(name, key) for pattern, name in OTHER_NAMES)
        known = next((other for other in others if other in own and other not in state), key)
        named[key if key in own else known] = value
    return named


def read_state_dict(path: str | Path) -> dict[str, Any]:
    """A state dict from a file, nothing unpickled but tensors.

    Raises:
        CxrPairError: the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CxrPairError(f"{path}: there is no such weights file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for damaged or hostile files
        raise CxrPairError(f"{path}: not a weights file ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        nested = [
            key for key in ("state_dict", "model") if isinstance(state, dict) and isinstance(state.get(key), dict)
        ]
        hint = f"; it holds one as {nested[0]!r}: save that alone" if nested else ""
        raise CxrPairError(f"{path}: not a plain state dict of tensors{hint}")
    return state
