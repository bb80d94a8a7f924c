"""MoCo v2 (Chen et al. 2020) on pairs chosen by metadata; the whole algorithm is `MoCo.forward`."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_cxrpair.contrast.encoders import feature_dim
from monai_cxrpair.contrast.loss import contrastive_loss
from monai_cxrpair.contrast.negatives import Negatives
from monai_cxrpair.contrast.queue import KeyQueue
from monai_cxrpair.contrast.relatives import Relatives, find_relatives
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import Affinity


class MoCoOutput(NamedTuple):
    """Of one batch, all scalars.

    `accuracy` is the share of queries whose nearest drawn key is nearer than every negative; the similarities are mean
    cosines, of drawn keys and of the queue's negatives; `ignored` is the share of the queue's keys that were neither
    attracted nor repelled; `positives` is how many keys, drawn or in the queue, attracted a query on average.
    """

    loss: Tensor
    accuracy: Tensor
    positive_similarity: Tensor
    negative_similarity: Tensor
    ignored: Tensor
    positives: Tensor


class MoCo(nn.Module):
    """Query encoder, momentum encoder, heads and queue.

    Args:
        encoder: yields features (B, F); the momentum encoder starts as its copy.
        in_channels: of the encoder.
        queue_size: K.
        dim: D of query and key (paper: 128).
        momentum: m of the momentum encoder (paper: 0.999).
        temperature: of the loss (paper: 0.2).
        negatives: which keys of the queue are repelled and how hard; None: all but those of the query's own patient.
        affinity: how strongly keys of the query's own patient attract; None: drawn keys alone, as the batch says.
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
        negatives: Negatives | None = None,
        affinity: Affinity | None = None,
        bn_groups: int = 2,
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise CxrPairError(f"momentum is {momentum}: use at least 0 and below 1")
        if temperature <= 0:
            raise CxrPairError(f"temperature is {temperature}: it must be above 0")
        self.negatives, self.affinity = negatives or Negatives(), affinity
        _check_together(self.negatives, affinity, queue_size)
        if bn_groups < 1:
            raise CxrPairError(f"bn_groups is {bn_groups}: it must be at least 1")
        self.momentum, self.temperature, self.bn_groups = momentum, temperature, bn_groups
        self.query_encoder = encoder
        self.query_head = projection_head(feature_dim(encoder, in_channels=in_channels), dim)
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.key_head = copy.deepcopy(self.query_head).requires_grad_(False)
        self.queue = KeyQueue(size=queue_size, dim=dim)

    def forward(self, query: Tensor, key: Tensor, *, affinity: Tensor, codes: Tensor) -> MoCoOutput:
        """One step; the queue takes the new keys in.

        Args:
            query: normalised views (B, C, H, W).
            key: normalised views (B, K, C, H, W).
            affinity: (B, K) in [0, 1].
            codes: int64 (B, 1 + K, C), metadata of the query and of its keys, columns as in `pairing.codes.CODES`.
        """
        q = unit(self.query_head(self.query_encoder(query)))  # (B, D)
        with torch.no_grad():
            self._update_momentum_encoder()
            k = self._encode_keys(key.flatten(0, 1)).unflatten(0, key.shape[:2])  # (B, K, D)
        with torch.autocast(q.device.type, enabled=False):  # similarities in full precision
            positive = torch.einsum("bd,bkd->bk", q, k)  # (B, D) x (B, K, D) -> (B, K)
            # A copy, since the queue changes below while autograd still needs what was read.
            keys = self.queue.keys.clone()
            negative = q @ keys.T  # (B, D) x (D, Q) -> (B, Q)
            own = find_relatives(codes[:, 0], self.queue, ignore=self.negatives.ignore, affinity=self.affinity)
            terms = self.negatives.terms(negative, own, keys, codes[:, 0], self.queue.codes)  # (B, Q or more)
            loss = contrastive_loss(
                positive, affinity, terms.similarity, terms.ignored,
                temperature=self.temperature, log_weight=terms.log_weight, found=own.found(q, keys),
            )  # fmt: skip
        output = self._describe(loss, positive.detach(), affinity, negative.detach(), own)
        self.queue.enqueue(k.flatten(0, 1), codes[:, 1:].flatten(0, 1))
        return output

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
    def _describe(
        self, loss: Tensor, positive: Tensor, affinity: Tensor, negative: Tensor, own: Relatives
    ) -> MoCoOutput:
        found = 0 if own.attracted is None else len(own.attracted.rows)
        counted = (~own.set_aside).sum()
        hardest = negative.masked_fill(own.set_aside, -1.0).amax(dim=1)  # (B,)
        mean_negative = negative.masked_fill(own.set_aside, 0.0).sum() / counted.clamp_min(1)
        filled = self.queue.filled.sum() * len(negative)
        return MoCoOutput(
            loss=loss,
            accuracy=(positive.amax(dim=1) > hardest).float().mean(),
            positive_similarity=positive.mean(),
            negative_similarity=mean_negative,
            ignored=1.0 - (counted + found) / filled.clamp_min(1),
            positives=((affinity > 0).sum() + found) / len(affinity),
        )


def _check_together(negatives: Negatives, affinity: Affinity | None, queue_size: int) -> None:
    if affinity is not None and affinity.in_queue and negatives.ignore != "patient":
        raise CxrPairError(
            f"negatives#ignore is {negatives.ignore}, but affinity#in_queue decides about the patient's own keys: set "
            "affinity#in_queue false, or negatives#ignore patient"
        )
    if negatives.strategy in ("appended", "synthetic") and int(negatives.share * queue_size) < 1:
        raise CxrPairError(f"negatives#share is {negatives.share}: of a queue of {queue_size} that is not one key")


def unit(vectors: Tensor) -> Tensor:
    """Unit length, at least in float32: bf16 has too few digits for similarities that are divided by 0.2."""
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=1)


def projection_head(features: int, dim: int) -> nn.Sequential:
    """MoCo v2's head: "a 2-layer MLP head (hidden layer 2048-d, with ReLU)"; hidden = F, as in the paper's code."""
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, dim))
