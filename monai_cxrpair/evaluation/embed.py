"""Frozen embeddings, computed once per radiograph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from monai_cxrpair.contrast.encoders import channels_last
from monai_cxrpair.evaluation.encoders import FrozenEncoder


@torch.inference_mode()
def embed(
    encoders: Mapping[str, FrozenEncoder], loader: Iterable[Mapping[str, Tensor]], *, device: torch.device | str
) -> dict[str, npt.NDArray[np.float32]]:
    """The features of every radiograph under every encoder, in the dataset's row order.

    Frozen means frozen: the networks are in eval mode, batch normalisation uses its running statistics (the paper's
    code leaves it live).

    Args:
        encoders: name -> encoder.
        loader: batches of a `RadiographCacheDataset`, not shuffled.
        device: to compute on.

    Returns:
        Name -> float32 (N, F).
    """
    networks = {name: channels_last(encoder.network.eval().to(device)) for name, encoder in encoders.items()}
    parts: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in encoders}
    for batch in loader:
        pixels = batch["image"].to(device).float() / 255.0  # (B, 1, S, S)
        for name, encoder in encoders.items():
            views = ((pixels - encoder.mean) / encoder.std).contiguous(memory_format=torch.channels_last)
            parts[name].append(networks[name](views).float().cpu().numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
