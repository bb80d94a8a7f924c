"""The queue of keys (MoCo, He et al. 2020, section 3.2), with the metadata codes of each key."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.codes import CODES

EMPTY = -1


class KeyQueue(nn.Module):
    """A ring of the last `size` keys. All buffers are persistent: a resumed run goes on with the same negatives.

    Args:
        size: K, how many keys it holds (paper: 24,576).
        dim: D of a key.

    Attributes:
        keys: (K, D), unit length where filled.
        codes: int64 (K, C), metadata of each key, columns as in `pairing.codes.CODES`; -1 where it is not yet filled.
        count: int64 scalar, how many keys ever came in.
    """

    keys: Tensor
    codes: Tensor
    count: Tensor

    def __init__(self, *, size: int, dim: int) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise CxrPairError(f"queue_size is {size}, dim is {dim}: both must be at least 1")
        self.size = size
        self.register_buffer("keys", torch.zeros(size, dim))
        self.register_buffer("codes", torch.full((size, len(CODES)), EMPTY, dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def code(self, name: str) -> Tensor:
        """One of `CODES` of every key, int64 (K,)."""
        return self.codes[:, CODES.index(name)].contiguous()  # compared with every query: one after another is faster

    @property
    def filled(self) -> Tensor:
        """Which places hold a key, bool (K,)."""
        return self.code("patient") != EMPTY

    @property
    def pointer(self) -> Tensor:
        """Where the next key goes, int64 scalar."""
        return self.count % self.size

    @property
    def age(self) -> Tensor:
        """How many keys came in after each, int64 (K,); meant where a place is filled. In steps: divide by B K."""
        return (self.pointer - 1 - torch.arange(self.size, device=self.count.device)) % self.size

    @torch.no_grad()
    def enqueue(self, keys: Tensor, codes: Tensor) -> None:
        """Put N keys in, the oldest go out; N need not divide K, and of more than K keys the last K stay.

        Args:
            keys: (N, D).
            codes: int64 (N, C); patients are numbered from 0.
        """
        self.count += len(keys)
        keys, codes = keys[-self.size :], codes[-self.size :]
        places = (self.count - len(keys) + torch.arange(len(keys), device=keys.device)) % self.size
        self.keys[places] = keys.to(self.keys.dtype)
        self.codes[places] = codes

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, what in (("codes", "metadata codes"), ("count", "count of its keys")):
            if prefix + name not in state_dict:
                raise CxrPairError(
                    f"the queue of this checkpoint has no {what}: an earlier version of this package wrote it; start "
                    "the run anew, in another output_dir"
                )
        super()._load_from_state_dict(state_dict, prefix, *rest)
