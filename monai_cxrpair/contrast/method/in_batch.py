"""SimCLR (Chen et al. 2020) on pairs chosen by metadata: the negatives are the batch's other views, no queue."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from monai_cxrpair.contrast.distributed import gather_rows, gather_rows_with_gradient, rank
from monai_cxrpair.contrast.encoders import feature_dim
from monai_cxrpair.contrast.method.figures import StepOutput, describe
from monai_cxrpair.contrast.method.loss import contrastive_loss, variance_hinge
from monai_cxrpair.contrast.method.moco import check_loss, projection_head, unit
from monai_cxrpair.contrast.method.negatives import Negatives
from monai_cxrpair.contrast.method.relatives import find_relatives
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import Affinity


class InBatch(nn.Module):
    """One encoder and its head; every view of the batch is a query, and those of other queries are its negatives.

    With one key of affinity 1 per query and nothing ignored the loss is NT-Xent over both directions (equation 1).
    Batches must be large: SimCLR's have 256 to 8,192 pairs. On several ranks the views of all ranks are negatives, and
    `wrap` makes them share the statistics of batch normalisation, which would tell the ranks apart otherwise; torch can
    do that on accelerators only.

    Args:
        encoder: yields features (B, F).
        in_channels: of the views.
        image_size: of the views, where the encoder depends on it (ViT).
        dim: D of the embeddings (SimCLR: 128).
        temperature: of the loss (SimCLR on ImageNet: 0.1; its batches are larger. As MoCo here: 0.2).
        negatives: which views are repelled and how hard; None: all but those of the query's own patient.
        affinity: how strongly views of the query's own patient attract; None: drawn keys alone, as the batch says.
        variance_weight: of a term against collapse, see `variance_hinge`; 0 leaves it out.
        queue_size, bn_groups: None. They are settings of MoCo, and named here so that nobody sets them in vain.

    Raises:
        CxrPairError: a setting outside its range, or one of MoCo, by name.
    """

    queue: None = None
    sync_batch_norm = True

    def __init__(
        self,
        *,
        encoder: nn.Module,
        in_channels: int = 1,
        image_size: int = 64,
        dim: int = 128,
        temperature: float = 0.2,
        negatives: Negatives | None = None,
        affinity: Affinity | None = None,
        variance_weight: float = 0.0,
        queue_size: None = None,
        bn_groups: None = None,
    ) -> None:
        super().__init__()
        for name, value in (("queue_size", queue_size), ("bn_groups", bn_groups)):
            if value is not None:
                raise CxrPairError(f"{name} is {value}, but the in-batch method has no queue: set {name} null")
        self.negatives, self.affinity = negatives or Negatives(), affinity
        check_loss(self.negatives, affinity, temperature=temperature, variance_weight=variance_weight)
        self.dim, self.temperature, self.variance_weight = dim, temperature, variance_weight
        self.query_encoder = encoder
        self.query_head = projection_head(feature_dim(encoder, in_channels=in_channels, image_size=image_size), dim)

    def as_dict(self) -> dict[str, Any]:
        """The method and its settings, for a card."""
        names = ("dim", "temperature", "variance_weight")
        return {"name": "InBatch", **{name: getattr(self, name) for name in names}}

    def forward(self, query: Tensor, key: Tensor, *, affinity: Tensor, codes: Tensor) -> StepOutput:
        """One step.

        A query attracts its K keys with their affinities, each of its keys attracts the query with the same; the keys
        of one query do not meet each other.

        Args:
            query: normalised views (B, C, H, W).
            key: normalised views (B, K, C, H, W).
            affinity: (B, K) in [0, 1].
            codes: int64 (B, 1 + K, C), metadata of the query and of its keys, columns as in `pairing.codes.CODES`.
        """
        batch, group = codes.shape[:2]  # B, 1 + K
        views = torch.cat([query[:, None], key], dim=1).flatten(0, 1)  # (B (1 + K), C, H, W)
        z = unit(self.query_head(self.query_encoder(views)))  # (N, D), N = B (1 + K)
        with torch.autocast(z.device.type, enabled=False):  # similarities in full precision
            keys, codes = gather_rows_with_gradient(z), codes.flatten(0, 1)  # (M, D), M = ranks * N; (N, C)
            key_codes = gather_rows(codes)  # (M, C)
            pair = torch.arange(len(keys), device=z.device) // group  # (M,)
            absent = pair[rank() * len(z) :][: len(z), None] == pair  # (N, M), the views of the same pair
            similarity = z @ keys.T  # (N, D) x (D, M) -> (N, M)
            own = find_relatives(codes, key_codes, absent, ignore=self.negatives.ignore, affinity=self.affinity)
            grouped = z.unflatten(0, (batch, group))  # (B, 1 + K, D)
            positive = torch.einsum("bid,bjd->bij", grouped, grouped).flatten(0, 1)  # (N, 1 + K)
            weight = positive.new_zeros(batch, group, group)
            weight[:, 0, 1:], weight[:, 1:, 0] = affinity, affinity
            weight = weight.flatten(0, 1)  # (N, 1 + K); the loss leaves out those of 0
            terms = self.negatives.terms(similarity, own, keys, codes, key_codes)  # (N, M or more)
            loss = contrastive_loss(
                positive, weight, terms.similarity, terms.ignored,
                temperature=self.temperature, log_weight=terms.log_weight, found=own.found(z, keys),
            )  # fmt: skip
            if self.variance_weight:
                loss = loss + self.variance_weight * variance_hinge(z)
        return describe(loss, positive, weight, similarity, own, absent)
