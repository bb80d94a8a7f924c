"""The contrastive loss over keys with affinities; one key of affinity 1 is InfoNCE (paper equation 1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from monai_cxrpair.contrast.distributed import gather_rows_with_gradient, mean_of_ranks


class Found(NamedTuple):
    """Positives among the keys of `negative`, each an entry: query `rows` (P,), `similarity` (P,), `affinity` (P,)."""

    rows: Tensor
    similarity: Tensor
    affinity: Tensor


def contrastive_loss(
    positive: Tensor,
    affinity: Tensor,
    negative: Tensor,
    ignored: Tensor,
    *,
    temperature: float,
    log_weight: Tensor | None = None,
    found: Found | None = None,
) -> Tensor:
    """L_i = - sum_j (w_ij / sum_j w_ij) log( exp(s_ij / t) / sum_{k not ignored} exp(s_ik / t) ).

    Positives stay in the denominator (SupCon's L_out, Khosla et al. 2020, equation 2). A drawn key of affinity 0 is
    ignored; a query whose affinities are all 0 contributes nothing.

    Args:
        positive: cosine similarities to the drawn keys, (B, K).
        affinity: w in [0, 1] of the drawn keys, (B, K).
        negative: cosine similarities to the queue, (B, Q).
        ignored: bool (B, Q), keys of the queue that are neither attracted nor repelled.
        temperature: t above 0 (paper: 0.2).
        log_weight: added to the logits of `negative`, (B, Q): the logarithm of how often each counts.
        found: the keys of `negative` that are positives too, none of them ignored.

    Returns:
        The mean over the queries that have a positive, a scalar. On several ranks it is the queries' sum over how many
        a rank has on average, so that the mean over the ranks is the mean over all queries. All ranks must call it.
    """
    positive, affinity = positive / temperature, affinity.to(positive.dtype)
    total = affinity.sum(dim=1)  # (B,)
    if found is not None:
        total = total.index_add(0, found.rows, found.affinity.to(total.dtype))
    drawn = positive.masked_fill((affinity == 0) & (total > 0)[:, None], float("-inf"))  # (B, K)
    negatives: Tensor = _QueueLogSumExp.apply(negative, ignored, log_weight, temperature)
    denominator = drawn.logsumexp(dim=1).logaddexp(negatives)  # (B,)
    weights = affinity / total.clamp_min(1e-12)[:, None]  # (B, K)
    per_query = -(weights * (positive - denominator[:, None])).sum(dim=1)  # (B,)
    if found is not None:
        share = found.affinity.to(total.dtype) / total[found.rows]  # (P,)
        per_query = per_query.index_add(
            0, found.rows, share * (denominator[found.rows] - found.similarity / temperature)
        )
    has_positive = (total > 0).to(per_query.dtype)
    counted = mean_of_ranks(has_positive.sum())
    return (per_query * has_positive).sum() / counted.masked_fill(counted == 0, 1.0)


def variance_hinge(vectors: Tensor) -> Tensor:
    """mean_d max(0, 1 - sd_d) with sd_d of sqrt(D) times the vectors, over all ranks' rows (B, D) -> scalar.

    The variance term of VICReg (Bardes et al. 2022, equation 1, epsilon 1e-4), on vectors of unit length: sqrt(D) times
    those that fill the sphere have a standard deviation of 1 in each direction, those that are all alike of 0.
    """
    everyone = gather_rows_with_gradient(vectors)
    variance = everyone.var(dim=0) * vectors.shape[1]  # (D,)
    return (1.0 - (variance + 1e-4).sqrt()).relu().mean()


class _QueueLogSumExp(torch.autograd.Function):
    """log sum_k exp(s_ik / t + log_weight_ik) over the keys that are not ignored, (B, Q) -> (B,).

    What autograd would make of the same steps, bit for bit, with one (B, Q) matrix kept instead of four: with a queue
    of 65,536 keys these matrices are most of the cost of a step's loss.
    """

    @staticmethod
    def forward(ctx: Any, similarity: Tensor, ignored: Tensor, log_weight: Tensor | None, temperature: float) -> Tensor:
        logits = similarity / temperature
        if log_weight is not None:
            logits += log_weight
        logits.masked_fill_(ignored, float("-inf"))
        out = logits.logsumexp(dim=1)
        ctx.save_for_backward(logits, out)
        ctx.temperature = temperature
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        logits, out = ctx.saved_tensors
        finite = out.masked_fill(out == float("-inf"), 0.0)  # a query whose keys are all ignored: exp(-inf) = 0
        softmax = (logits - finite[:, None]).exp_()
        return softmax.mul_(grad[:, None]).div_(ctx.temperature), None, None, None
