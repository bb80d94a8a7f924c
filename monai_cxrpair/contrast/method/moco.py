"""MoCo v2 (Chen et al. 2020) on pairs chosen by metadata; the whole algorithm is `MoCo.forward`."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_cxrpair.contrast.distributed import gather_batch, shuffle_rows, world_size
from monai_cxrpair.contrast.encoders import feature_dim
from monai_cxrpair.contrast.method.figures import StepOutput, describe
from monai_cxrpair.contrast.method.loss import contrastive_loss, variance_hinge
from monai_cxrpair.contrast.method.negatives import Negatives
from monai_cxrpair.contrast.method.queue import KeyQueue
from monai_cxrpair.contrast.method.relatives import find_relatives
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import Affinity


class MoCo(nn.Module):
    """Query encoder, momentum encoder, heads and queue.

    Args:
        encoder: yields features (B, F); the momentum encoder starts as its copy.
        in_channels: of the views.
        image_size: of the views, where the encoder depends on it (ViT).
        queue_size: K.
        dim: D of query and key (paper: 128).
        momentum: m of the momentum encoder (paper: 0.999).
        temperature: of the loss (paper: 0.2).
        negatives: which keys of the queue are repelled and how hard; None: all but those of the query's own patient.
        affinity: how strongly keys of the query's own patient attract; None: drawn keys alone, as the batch says.
        bn_groups: G, in how many groups the permuted keys are normalised, so that batch statistics cannot tell which
            key belongs to which query. On several ranks keys are dealt to all of them, each rank is at least one group
            and further divides its own where G is larger than their number. 1 turns it off, as in the paper.
        symmetric: the keys' views are queries too, of the query's view as their key; the loss is the mean of both ways.
        variance_weight: of a term against collapse, see `variance_hinge`; 0 leaves it out.

    Raises:
        CxrPairError: a setting outside its range, by name.
    """

    moves_keys = True  # the trainer turns it off for all but the first batch of an accumulated step

    def __init__(
        self,
        *,
        encoder: nn.Module,
        queue_size: int,
        in_channels: int = 1,
        image_size: int = 64,
        dim: int = 128,
        momentum: float = 0.999,
        temperature: float = 0.2,
        negatives: Negatives | None = None,
        affinity: Affinity | None = None,
        bn_groups: int = 2,
        symmetric: bool = False,
        variance_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise CxrPairError(f"momentum is {momentum}: use at least 0 and below 1")
        if bn_groups < 1:
            raise CxrPairError(f"bn_groups is {bn_groups}: it must be at least 1")
        self.negatives, self.affinity = negatives or Negatives(), affinity
        check_loss(self.negatives, affinity, temperature=temperature, variance_weight=variance_weight)
        _check_share(self.negatives, queue_size)
        self.dim, self.momentum, self.temperature, self.bn_groups = dim, momentum, temperature, bn_groups
        self.symmetric, self.variance_weight = symmetric, variance_weight
        self.query_encoder = encoder
        self.query_head = projection_head(feature_dim(encoder, in_channels=in_channels, image_size=image_size), dim)
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.key_head = copy.deepcopy(self.query_head).requires_grad_(False)
        self.queue = KeyQueue(size=queue_size, dim=dim)

    def as_dict(self) -> dict[str, Any]:
        """The method and its settings, for a card."""
        names = ("dim", "momentum", "temperature", "bn_groups", "symmetric", "variance_weight")
        return {"name": "MoCo", **{name: getattr(self, name) for name in names}}

    def forward(self, query: Tensor, key: Tensor, *, affinity: Tensor, codes: Tensor) -> StepOutput:
        """One step; the queue takes the new keys in, those of all ranks, in the order of the whole batch.

        With `symmetric` each key view also meets its query's view, with the affinity of the pair, and the same queue;
        the figures beside the loss are of the first way alone. The queue takes in no encoded query views: they are of
        the same patients, and with them it would reach only half as far back.

        Args:
            query: normalised views (B, C, H, W).
            key: normalised views (B, K, C, H, W).
            affinity: (B, K) in [0, 1].
            codes: int64 (B, 1 + K, C), metadata of the query and of its keys, columns as in `pairing.codes.CODES`.
        """
        q = unit(self.query_head(self.query_encoder(query)))  # (B, D)
        if self.moves_keys:
            self._update_momentum_encoder()
        k = self._encode_keys(key.flatten(0, 1)).unflatten(0, key.shape[:2])  # (B, K, D)
        output = self._contrast(q, k, affinity, codes[:, 0])
        if self.symmetric:
            back_q = unit(self.query_head(self.query_encoder(key.flatten(0, 1))))  # (B K, D)
            back_k = self._encode_keys(query).repeat_interleave(key.shape[1], dim=0)[:, None]  # (B K, 1, D)
            back = self._contrast(back_q, back_k, affinity.reshape(-1, 1), codes[:, 1:].flatten(0, 1))
            output = output._replace(loss=(output.loss + back.loss) / 2)
        self.queue.enqueue(gather_batch(k).flatten(0, 1), gather_batch(codes[:, 1:]).flatten(0, 1))
        return output

    def _contrast(self, q: Tensor, k: Tensor, affinity: Tensor, codes: Tensor) -> StepOutput:
        """Queries (B, D) with their drawn keys (B, K, D) against the queue; `codes` (B, C) are the queries'."""
        with torch.autocast(q.device.type, enabled=False):  # similarities in full precision
            positive = torch.einsum("bd,bkd->bk", q, k)  # (B, D) x (B, K, D) -> (B, K)
            # A copy, since the queue changes afterwards while autograd still needs what was read.
            keys, absent = self.queue.keys.clone(), ~self.queue.filled[None]  # (Q, D), (1, Q)
            negative = q @ keys.T  # (B, D) x (D, Q) -> (B, Q)
            own = find_relatives(codes, self.queue.codes, absent, ignore=self.negatives.ignore, affinity=self.affinity)
            # What a strategy draws from the queue, each rank draws for its own queries: `appended` and `synthetic` are
            # alike on one rank and on several, and the same when a run is resumed, but not the same numbers.
            terms = self.negatives.terms(negative, own, keys, codes, self.queue.codes)  # (B, Q or more)
            loss = contrastive_loss(
                positive, affinity, terms.similarity, terms.ignored,
                temperature=self.temperature, log_weight=terms.log_weight, found=own.found(q, keys),
            )  # fmt: skip
            if self.variance_weight:
                loss = loss + self.variance_weight * variance_hinge(q)
        return describe(loss, positive, affinity, negative, own, absent)

    @torch.no_grad()
    def _update_momentum_encoder(self) -> None:
        """Key <- m * key + (1 - m) * query, before the keys are encoded."""
        for mine, theirs in ((self.key_encoder, self.query_encoder), (self.key_head, self.query_head)):
            torch._foreach_lerp_(list(mine.parameters()), list(theirs.parameters()), 1.0 - self.momentum)

    @torch.no_grad()
    def _encode_keys(self, images: Tensor) -> Tensor:
        """Keys of unit length (N, D): permuted, batch-normalised in groups, un-permuted."""
        if self.bn_groups == 1:
            return unit(self.key_head(self.key_encoder(images)))
        shuffled, undo = shuffle_rows(images)
        groups = min(-(-self.bn_groups // world_size()), max(1, len(images) // 2))  # batch norm needs two images
        features = torch.cat([self.key_encoder(part) for part in shuffled.tensor_split(groups)])  # (N, F), permuted
        return unit(self.key_head(undo(features)))


def check_loss(negatives: Negatives, affinity: Affinity | None, *, temperature: float, variance_weight: float) -> None:
    """Settings of a loss, each and together.

    Raises:
        CxrPairError: a setting outside its range, or two that contradict each other, by name.
    """
    if temperature <= 0:
        raise CxrPairError(f"temperature is {temperature}: it must be above 0")
    if variance_weight < 0:
        raise CxrPairError(f"variance_weight is {variance_weight}: it must be at least 0")
    if affinity is not None and affinity.in_queue and negatives.ignore != "patient":
        raise CxrPairError(
            f"negatives#ignore is {negatives.ignore}, but affinity#in_queue decides about the patient's own keys: set "
            "affinity#in_queue false, or negatives#ignore patient"
        )


def _check_share(negatives: Negatives, queue_size: int) -> None:
    if negatives.strategy in ("appended", "synthetic") and int(negatives.share * queue_size) < 1:
        raise CxrPairError(f"negatives#share is {negatives.share}: of a queue of {queue_size} that is not one key")


def unit(vectors: Tensor) -> Tensor:
    """Unit length, at least in float32: bf16 has too few digits for similarities that are divided by 0.2."""
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=1)


def projection_head(features: int, dim: int) -> nn.Sequential:
    """MoCo v2's head: "a 2-layer MLP head (hidden layer 2048-d, with ReLU)"; hidden = F, as in the paper's code."""
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, dim))
