"""The contrastive loss over keys with affinities; one key of affinity 1 is InfoNCE (paper equation 1)."""

from __future__ import annotations

from torch import Tensor


def contrastive_loss(
    positive: Tensor, affinity: Tensor, negative: Tensor, ignored: Tensor, *, temperature: float
) -> Tensor:
    """L_i = - sum_j (w_ij / sum_j w_ij) log( exp(s_ij / t) / sum_{k not ignored} exp(s_ik / t) ).

    Positives stay in the denominator (SupCon's L_out, Khosla et al. 2020, equation 2). A query whose affinities are
    all 0 contributes nothing.

    Args:
        positive: cosine similarities to the drawn keys, (B, K).
        affinity: w in [0, 1] of the drawn keys, (B, K).
        negative: cosine similarities to the queue, (B, Q).
        ignored: bool (B, Q), keys of the queue that are neither attracted nor repelled.
        temperature: t above 0 (paper: 0.2).

    Returns:
        The mean over the queries that have a positive, a scalar.
    """
    positive, negative = positive / temperature, (negative / temperature).masked_fill(ignored, float("-inf"))
    # (B, K) and (B, Q) -> (B,)
    denominator = positive.logsumexp(dim=1).logaddexp(negative.logsumexp(dim=1))
    total = affinity.sum(dim=1)  # (B,)
    weights = affinity / total.clamp_min(1e-12)[:, None]  # (B, K)
    per_query = -(weights * (positive - denominator[:, None])).sum(dim=1)  # (B,)
    has_positive = (total > 0).to(per_query.dtype)
    return (per_query * has_positive).sum() / has_positive.sum().clamp_min(1.0)
