"""MoCo v2 (Chen et al. 2020) on pairs chosen by metadata; the whole algorithm is `MoCo.forward`."""

from __future__ import annotations

import copy
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_cxrpair.contrast.encoders import feature_dim
from monai_cxrpair.contrast.loss import contrastive_loss
from monai_cxrpair.contrast.queue import KeyQueue
from monai_cxrpair.errors import CxrPairError

Ignore = Literal["none", "study", "patient"]


class MoCoOutput(NamedTuple):
    """Of one batch, all scalars.

    `accuracy` is the share of queries whose positive is nearer than every negative; the similarities are mean
    cosines; `ignored` is the share of the queue's keys that were neither attracted nor repelled.
    """

    loss: Tensor
    accuracy: Tensor
    positive_similarity: Tensor
    negative_similarity: Tensor
    ignored: Tensor


class MoCo(nn.Module):
    """Query encoder, momentum encoder, heads and queue.

    Args:
        encoder: yields features (B, F); the momentum encoder starts as its copy.
        in_channels: of the encoder.
        queue_size: K.
        dim: D of query and key (paper: 128).
        momentum: m of the momentum encoder (paper: 0.999).
        temperature: of the loss (paper: 0.2).
        ignore: keys of the queue from the query's own `patient` or `study` are neither attracted nor repelled;
            `none` repels them too, as the paper's code does.
        bn_groups: G, in how many groups the permuted keys are normalised on one device, so that batch statistics
            cannot tell which key belongs to which query; 1 turns it off, as in the paper.

    Raises:
        CxrPairError: a setting outside its range, by name.
    """

    def __init__(
        self,
        *,
        encoder: nn.Module,
        queue_size: int,
        in_channels: int = 1,
        dim: int = 128,
        momentum: float = 0.999,
        temperature: float = 0.2,
        ignore: Ignore = "patient",
        bn_groups: int = 2,
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise CxrPairError(f"momentum is {momentum}: use at least 0 and below 1")
        if temperature <= 0:
            raise CxrPairError(f"temperature is {temperature}: it must be above 0")
        if ignore not in get_args(Ignore):
            raise CxrPairError(f"negatives#ignore is {ignore!r}: use none, study or patient")
        if bn_groups < 1:
            raise CxrPairError(f"bn_groups is {bn_groups}: it must be at least 1")
        self.momentum, self.temperature, self.ignore, self.bn_groups = momentum, temperature, ignore, bn_groups
        self.query_encoder = encoder
        self.query_head = projection_head(feature_dim(encoder, in_channels=in_channels), dim)
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.key_head = copy.deepcopy(self.query_head).requires_grad_(False)
        self.queue = KeyQueue(size=queue_size, dim=dim)

    def forward(self, query: Tensor, key: Tensor, *, affinity: Tensor, patient: Tensor, study: Tensor) -> MoCoOutput:
        """One step; the queue takes the new keys in.

        Args:
            query: normalised views (B, C, H, W).
            key: normalised views (B, K, C, H, W).
            affinity: (B, K) in [0, 1].
            patient: int64 (B,), the query's patient, which is the key's too.
            study: int64 (B, 1 + K), of the query and of its keys.
        """
        q = unit(self.query_head(self.query_encoder(query)))  # (B, D)
        with torch.no_grad():
            self._update_momentum_encoder()
            k = self._encode_keys(key.flatten(0, 1)).unflatten(0, key.shape[:2])  # (B, K, D)
        with torch.autocast(q.device.type, enabled=False):  # similarities in full precision
            positive = torch.einsum("bd,bkd->bk", q, k)  # (B, D) x (B, K, D) -> (B, K)
            # A copy, since the queue changes below while autograd still needs what was read.
            negative = q @ self.queue.keys.clone().T  # (B, D) x (D, Q) -> (B, Q)
            ignored = ~self.queue.filled[None] | self._own(patient, study[:, 0])  # (B, Q)
            loss = contrastive_loss(positive, affinity, negative, ignored, temperature=self.temperature)
        output = self._describe(loss, positive.detach(), negative.detach(), ignored)
        self.queue.enqueue(k.flatten(0, 1), patient=patient.repeat_interleave(k.shape[1]), study=study[:, 1:].flatten())
        return output

    def _own(self, patient: Tensor, study: Tensor) -> Tensor:
        """Which keys of the queue are of the query's own patient or study, bool (B, Q)."""
        if self.ignore == "patient":
            return patient[:, None] == self.queue.patient[None]
        if self.ignore == "study":
            return study[:, None] == self.queue.study[None]
        return torch.zeros(len(patient), self.queue.size, dtype=torch.bool, device=patient.device)

    def _update_momentum_encoder(self) -> None:
        """Key <- m * key + (1 - m) * query, before the keys are encoded."""
        for mine, theirs in ((self.key_encoder, self.query_encoder), (self.key_head, self.query_head)):
            torch._foreach_lerp_(list(mine.parameters()), list(theirs.parameters()), 1.0 - self.momentum)

    def _encode_keys(self, images: Tensor) -> Tensor:
        """Keys of unit length (N, D): permuted, batch-normalised in G groups, un-permuted."""
        groups = min(self.bn_groups, max(1, len(images) // 2))  # batch norm needs two images
        if groups == 1:
            return unit(self.key_head(self.key_encoder(images)))
        order = torch.randperm(len(images), device=images.device)
        features = torch.cat(
            [self.key_encoder(images[part]) for part in order.tensor_split(groups)]
        )  # (N, F), permuted
        return unit(self.key_head(features[order.argsort()]))

    @torch.no_grad()
    def _describe(self, loss: Tensor, positive: Tensor, negative: Tensor, ignored: Tensor) -> MoCoOutput:
        counted = (~ignored).sum()
        hardest = negative.masked_fill(ignored, -1.0).amax(dim=1)  # (B,)
        mean_negative = negative.masked_fill(ignored, 0.0).sum() / counted.clamp_min(1)
        filled = self.queue.filled.sum() * len(negative)
        return MoCoOutput(
            loss=loss,
            accuracy=(positive.amax(dim=1) > hardest).float().mean(),
            positive_similarity=positive.mean(),
            negative_similarity=mean_negative,
            ignored=1.0 - counted / filled.clamp_min(1),
        )


def unit(vectors: Tensor) -> Tensor:
    """Unit length, at least in float32: bf16 has too few digits for similarities that are divided by 0.2."""
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=1)


def projection_head(features: int, dim: int) -> nn.Sequential:
    """MoCo v2's head: "a 2-layer MLP head (hidden layer 2048-d, with ReLU)"; hidden = F, as in the paper's code."""
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, dim))
