"""What a step says about itself, beside its loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from monai_cxrpair.contrast.method.relatives import Relatives


class StepOutput(NamedTuple):
    """Of one batch, all scalars; on several ranks of this rank's queries.

    `accuracy` is the share of queries whose nearest drawn key is nearer than every negative; the similarities are mean
    cosines, of the drawn keys that attract and of the negatives; `ignored` is the share of the queue's keys (or of the
    batch's other views) that were neither attracted nor repelled; `positives` is how many keys, drawn or among those,
    attracted a query on average. `loss` has a gradient; see `contrastive_loss` for its mean over ranks.
    """

    loss: Tensor
    accuracy: Tensor
    positive_similarity: Tensor
    negative_similarity: Tensor
    ignored: Tensor
    positives: Tensor


@torch.no_grad()
def describe(
    loss: Tensor, positive: Tensor, affinity: Tensor, negative: Tensor, own: Relatives, absent: Tensor
) -> StepOutput:
    """The figures of a step.

    Args:
        loss: scalar.
        positive: cosine similarities to the drawn keys, (B, K).
        affinity: of the drawn keys, (B, K); those of 0 do not attract.
        negative: cosine similarities to the other keys, (B, Q).
        own: which of those are not repelled.
        absent: which of those are not there, bool (1, Q) or (B, Q).
    """
    drawn, found = affinity > 0, 0 if own.attracted is None else len(own.attracted.rows)
    counted = (~own.set_aside).sum()
    there = (~absent).sum() * (len(negative) // len(absent))
    nearest = positive.masked_fill(~drawn, -1.0).amax(dim=1)  # (B,)
    hardest = negative.masked_fill(own.set_aside, -1.0).amax(dim=1)  # (B,)
    return StepOutput(
        loss=loss,
        accuracy=(nearest > hardest).float().mean(),
        positive_similarity=positive.masked_fill(~drawn, 0.0).sum() / drawn.sum().clamp_min(1),
        negative_similarity=negative.masked_fill(own.set_aside, 0.0).sum() / counted.clamp_min(1),
        ignored=1.0 - (counted + found) / there.clamp_min(1),
        positives=(drawn.sum() + found) / len(affinity),
    )
