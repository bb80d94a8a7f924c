"""The queue of keys (MoCo, He et al. 2020, section 3.2), with the metadata codes of each key."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_cxrpair.errors import CxrPairError

EMPTY = -1


class KeyQueue(nn.Module):
    """A ring of the last `size` keys. All buffers are persistent: a resumed run goes on with the same negatives.

    Args:
        size: K, how many keys it holds (paper: 24,576).
        dim: D of a key.

    Attributes:
        keys: (K, D), unit length where filled.
        patient: int64 (K,), the patient code of each key; -1 where the queue is not yet filled.
        study: int64 (K,), the study code.
        pointer: int64 scalar, where the next key goes.
    """

    keys: Tensor
    patient: Tensor
    study: Tensor
    pointer: Tensor

    def __init__(self, *, size: int, dim: int) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise CxrPairError(f"queue_size is {size}, dim is {dim}: both must be at least 1")
        self.size = size
        self.register_buffer("keys", torch.zeros(size, dim))
        self.register_buffer("patient", torch.full((size,), EMPTY, dtype=torch.int64))
        self.register_buffer("study", torch.full((size,), EMPTY, dtype=torch.int64))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """Which places hold a key, bool (K,)."""
        return self.patient != EMPTY

    @torch.no_grad()
    def enqueue(self, keys: Tensor, *, patient: Tensor, study: Tensor) -> None:
        """Put N keys in, the oldest go out; N need not divide K, and of more than K keys the last K stay.

        Args:
            keys: (N, D).
            patient: int64 (N,), codes of at least 0.
            study: int64 (N,).
        """
        keys, patient, study = keys[-self.size :], patient[-self.size :], study[-self.size :]
        places = (self.pointer + torch.arange(len(keys), device=keys.device)) % self.size
        self.keys[places] = keys.to(self.keys.dtype)
        self.patient[places] = patient
        self.study[places] = study
        self.pointer.copy_((self.pointer + len(keys)) % self.size)
