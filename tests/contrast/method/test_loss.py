"""The loss against closed forms, against numpy, and against what it was before it was fused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import logsumexp

from monai_cxrpair.contrast import Found, contrastive_loss

RNG = np.random.default_rng(0)


def random_case(batch=5, keys=3, queue=11):
    positive, negative = RNG.uniform(-1, 1, (batch, keys)), RNG.uniform(-1, 1, (batch, queue))
    return positive, RNG.uniform(0.1, 1, (batch, keys)), negative, RNG.random((batch, queue)) < 0.3


def random_found(negative, ignored, share=0.3):
    """Positives among the keys that are not ignored."""
    rows, columns = np.nonzero(~ignored & (RNG.random(ignored.shape) < share))
    return rows, columns, RNG.uniform(0.1, 1, len(rows))


def tensors(*arrays):
    return [torch.from_numpy(np.asarray(array)) for array in arrays]


def loss_of(positive, affinity, negative, ignored, temperature=0.2, found=None, log_weight=None):
    if found is not None:
        rows, columns, weight = tensors(*found)
        found = Found(rows, torch.from_numpy(negative)[rows, columns], weight)
    return contrastive_loss(
        *tensors(positive, affinity, negative, ignored), temperature=temperature, found=found,
        log_weight=None if log_weight is None else torch.from_numpy(log_weight),
    )  # fmt: skip


def by_hand(positive, affinity, negative, ignored, found=((), (), ()), weight=None, temperature=0.2):
    """One query after the other, one term after the other."""
    losses = []
    for i in range(len(positive)):
        w = {("drawn", j): affinity[i][j] for j in range(positive.shape[1])}
        s = {("drawn", j): positive[i][j] for j in range(positive.shape[1])}
        s |= {("queue", k): negative[i][k] for k in range(negative.shape[1]) if not ignored[i][k]}
        w |= {("queue", k): a for r, k, a in zip(*found, strict=True) if r == i}
        total = sum(w.values())
        if total == 0:
            continue
        gone = {key for key, value in w.items() if key[0] == "drawn" and value == 0}
        times = {key: weight[i][key[1]] if weight is not None and key[0] == "queue" else 1.0 for key in s}
        denominator = sum(times[key] * np.exp(s[key] / temperature) for key in s if key not in gone)
        losses.append(-sum(w[key] / total * np.log(np.exp(s[key] / temperature) / denominator) for key in w))
    return np.mean(losses) if losses else 0.0


def test_one_key_of_affinity_1_is_info_nce():
    positive, _, negative, _ = random_case(keys=1)
    logits = torch.from_numpy(np.concatenate([positive, negative], axis=1)) / 0.2
    info_nce = F.cross_entropy(logits, torch.zeros(5, dtype=torch.long))
    ours = loss_of(positive, np.ones((5, 1)), negative, np.zeros((5, 11), bool))
    assert ours.item() == pytest.approx(info_nce.item(), abs=1e-12)


def test_one_positive_in_the_queue_alone_is_info_nce_too():
    _, _, negative, _ = random_case()
    at = RNG.integers(0, 11, 5)
    info_nce = F.cross_entropy(torch.from_numpy(negative) / 0.2, torch.from_numpy(at))
    found = (np.arange(5), at, np.ones(5))
    ours = loss_of(np.zeros((5, 1)), np.zeros((5, 1)), negative, np.zeros((5, 11), bool), found=found)
    assert ours.item() == pytest.approx(info_nce.item(), abs=1e-12)


def test_equal_affinities_are_supcon_outside():
    """SupCon's L_out over labels: the drawn key and the queue's keys of the same label are the positives."""
    labels, queue_labels = RNG.integers(0, 3, 6), RNG.integers(0, 3, 20)
    q, k, queue = (RNG.normal(size=(n, 4)) for n in (6, 6, 20))
    q, k, queue = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (q, k, queue))
    expected = []
    for i in range(6):
        everyone = np.concatenate([[k[i]], queue])
        same = np.concatenate([[True], queue_labels == labels[i]])
        log_p = everyone @ q[i] / 0.2 - logsumexp(everyone @ q[i] / 0.2)
        expected.append(-log_p[same].mean())
    rows, columns = np.nonzero(labels[:, None] == queue_labels)
    for affinity in (1.0, 0.3):  # only their ratios matter
        found = (rows, columns, np.full(len(rows), affinity))
        ours = loss_of((q * k).sum(1)[:, None], np.full((6, 1), affinity), q @ queue.T, np.zeros((6, 20), bool),
                       found=found)  # fmt: skip
        assert ours.item() == pytest.approx(np.mean(expected), abs=1e-10)


def test_equal_similarities_give_the_closed_form():
    zeros = np.zeros((4, 9))
    ours = loss_of(np.zeros((4, 1)), np.ones((4, 1)), zeros, zeros > 0)
    assert ours.item() == pytest.approx(np.log(10), abs=1e-12)
    found = (np.array([0, 0, 2]), np.array([1, 2, 3]), np.array([0.5, 0.1, 1.0]))
    assert loss_of(np.zeros((4, 1)), np.ones((4, 1)), zeros, zeros > 0, found=found).item() == pytest.approx(np.log(10))


def test_the_loss_equals_its_formula_written_in_numpy():
    for case in range(30):
        positive, affinity, negative, ignored = random_case(keys=1 + case % 3)
        affinity[RNG.random(affinity.shape) < 0.3] = 0
        found = random_found(negative, ignored, share=0.2) if case % 2 else None
        weight = RNG.uniform(0.1, 3, negative.shape)
        ours = loss_of(positive, affinity, negative, ignored, found=found, log_weight=np.log(weight))
        expected = by_hand(positive, affinity, negative, ignored, found or ((), (), ()), weight)
        assert ours.item() == pytest.approx(expected, abs=1e-10)


def test_a_query_without_any_positive_contributes_nothing_and_gets_no_gradient():
    positive, affinity, negative, ignored = random_case()
    affinity[[1, 3]] = 0
    kept = [0, 2, 4]
    p, n = (torch.from_numpy(x).requires_grad_() for x in (positive, negative))
    loss = contrastive_loss(p, *tensors(affinity), n, torch.from_numpy(ignored), temperature=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(loss_of(positive[kept], affinity[kept], negative[kept], ignored[kept]).item())
    assert p.grad[[1, 3]].abs().max() == n.grad[[1, 3]].abs().max() == 0
    nobody = contrastive_loss(p, torch.zeros(5, 3), n, torch.from_numpy(ignored), temperature=0.2)
    nobody.backward()
    assert nobody.item() == 0
    assert p.grad.isfinite().all()


def test_a_query_with_no_negative_at_all_has_loss_0_and_no_gradient():
    positive, affinity, negative, _ = random_case(keys=1)
    n = torch.from_numpy(negative).requires_grad_()
    loss = contrastive_loss(*tensors(positive, affinity), n, torch.ones(5, 11, dtype=bool), temperature=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert n.grad.abs().max() == 0


@pytest.mark.parametrize("drawn", ["all count", "none counts"])
def test_the_gradient_is_right_also_where_all_negatives_are_ignored(drawn):
    q, k, queue = (torch.from_numpy(RNG.normal(size=shape)) for shape in ((4, 3), (4, 2, 3), (9, 3)))
    affinity = torch.from_numpy(RNG.uniform(0.1, 1, (4, 2)))
    if drawn == "none counts":
        affinity[1:] = 0
    ignored = torch.from_numpy(RNG.random((4, 9)) < 0.3)
    ignored[0] = True
    log_weight = torch.from_numpy(RNG.normal(size=(4, 9)))
    rows, columns, weight = tensors(*random_found(np.zeros((4, 9)), ignored.numpy(), share=0.5))

    def loss(q, k):
        found = Found(rows, (q[rows] * queue[columns]).sum(1), weight)
        positive = torch.einsum("bd,bkd->bk", q, k)
        return contrastive_loss(
            positive, affinity, q @ queue.T, ignored, temperature=0.7, log_weight=log_weight, found=found
        )

    assert torch.autograd.gradcheck(loss, (q.requires_grad_(), k.requires_grad_()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("keys", [1, 4])
def test_without_found_keys_it_is_bit_for_bit_what_it_was_before_positives_were_found(dtype, keys):
    """The composition of plain operations that this loss was in the first version, gradients included."""

    def first_version(positive, affinity, negative, ignored, temperature):
        positive, negative = positive / temperature, (negative / temperature).masked_fill(ignored, float("-inf"))
        denominator = positive.logsumexp(dim=1).logaddexp(negative.logsumexp(dim=1))
        total = affinity.sum(dim=1)
        weights = affinity / total.clamp_min(1e-12)[:, None]
        per_query = -(weights * (positive - denominator[:, None])).sum(dim=1)
        has_positive = (total > 0).to(per_query.dtype)
        return (per_query * has_positive).sum() / has_positive.sum().clamp_min(1.0)

    generator = torch.Generator().manual_seed(1)
    for row in range(5):
        q, k = (F.normalize(torch.randn(n, 16, generator=generator, dtype=dtype), dim=1) for n in (32, 32 * keys))
        queue = F.normalize(torch.randn(512, 16, generator=generator, dtype=dtype), dim=1)
        ignored = torch.rand(32, 512, generator=generator) < 0.1
        ignored[row] = True
        results = []
        for version in (lambda *x: contrastive_loss(*x, temperature=0.2), lambda *x: first_version(*x, 0.2)):
            mine = q.clone().requires_grad_()
            positive = torch.einsum("bd,bkd->bk", mine, k.unflatten(0, (32, keys)))
            loss = version(positive, torch.ones(32, keys, dtype=dtype), mine @ queue.T, ignored)
            loss.backward()
            results.append((loss.detach(), mine.grad))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
