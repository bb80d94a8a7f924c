"""The in-batch variant against NT-Xent as SimCLR defines it, written with loops."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from monai_cxrpair.contrast import InBatch, Negatives
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import Affinity
from monai_cxrpair.pairing.codes import CODES

T = 0.2


class Flat(nn.Module):
    """The first pixels of a view are its features."""

    def forward(self, x):
        return x.flatten(1)[:, :5]


def make(**settings):
    network = InBatch(encoder=Flat(), dim=5, temperature=T, **settings).double()
    network.query_head = nn.Identity()
    return network


def batch(n=6, keys=1, seed=0, patients=None):
    rng = torch.Generator().manual_seed(seed)
    views = torch.randn(n, 1 + keys, 1, 64, 64, generator=rng, dtype=torch.float64)
    codes = torch.full((n, 1 + keys, len(CODES)), -1)
    codes[..., 0] = torch.arange(n)[:, None] if patients is None else torch.tensor(patients)[:, None]
    codes[..., 1] = codes[..., 0] * 10 + torch.arange(n)[:, None]
    codes[..., 3] = torch.arange(n)[:, None]
    return {"query": views[:, 0], "key": views[:, 1:], "affinity": torch.ones(n, keys), "codes": codes}


def vectors(b):
    """Unit length, (B, 1 + K, D)."""
    views = torch.cat([b["query"][:, None], b["key"]], dim=1)
    z = views.flatten(2)[..., :5].numpy()
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def term(query, positive, others):
    """-log of one positive's share."""
    s = [math.exp(float(query @ other) / T) for other in others]
    return -math.log(math.exp(float(query @ positive) / T) / sum(s))


def test_one_key_is_nt_xent_over_both_directions():
    """Equation 1 of Chen et al. 2020: of 2 N views each meets the other 2 N - 1, one of which is its partner."""
    b = batch()
    z = vectors(b)
    views = [(i, j) for i in range(6) for j in (0, 1)]
    losses = [term(z[i, j], z[i, 1 - j], [z[v] for v in views if v != (i, j)]) for i, j in views]
    output = make(negatives=Negatives(ignore="none"))(**b)
    assert output.loss.item() == pytest.approx(np.mean(losses), abs=1e-12)
    assert output.ignored.item() == 0
    assert output.positives.item() == 1


def test_views_that_are_all_alike_have_the_logarithm_of_how_many_others_there_are():
    b = batch(n=7)
    b["query"][:], b["key"][:] = 1.0, 1.0
    assert make()(**b).loss.item() == pytest.approx(math.log(2 * 7 - 1))


def test_several_keys_attract_by_their_affinity_and_the_patients_other_views_are_ignored():
    """Keys of one query never meet each other; a key of affinity 0 is left out, and its query has but the others."""
    b = batch(keys=2, patients=[0, 1, 2, 0, 4, 5])
    weight = torch.tensor([[1.0, 0.5], [1.0, 0.0], [0.3, 0.3], [1.0, 1.0], [0.0, 0.0], [1.0, 0.25]])
    b["affinity"] = weight
    z, patient, losses = vectors(b), [0, 1, 2, 0, 4, 5], []
    for i in range(6):
        others = [z[o, v] for o in range(6) if patient[o] != patient[i] for v in range(3)]
        drawn = [(float(weight[i, j]), z[i, 1 + j]) for j in range(2) if weight[i, j] > 0]
        if drawn:
            total = sum(w for w, _ in drawn)
            all_keys = [k for _, k in drawn] + others
            losses.append(sum(w / total * term(z[i, 0], k, all_keys) for w, k in drawn))
        losses += [term(k, z[i, 0], [z[i, 0], *others]) for _, k in drawn]
    output = make()(**b)
    assert output.loss.item() == pytest.approx(np.mean(losses), abs=1e-7)  # the affinities are float32
    # Of the 15 views of other queries three are of the same patient, for two of the six queries.
    assert output.ignored.item() == pytest.approx(2 / 6 * 3 / 15)


def test_other_pairs_of_the_patient_attract_by_the_rule():
    """Patient 0 has three studies, numbers 0, 1 and 3: with at most one between, two of them attract each other."""
    b = batch(n=4, patients=[0, 0, 2, 0])
    rule = Affinity(kernel="step", cutoff_studies=1, threshold=0.2)
    z, losses = vectors(b), []
    near = {0: [1], 1: [0], 2: [], 3: []}
    patient = [0, 0, 2, 0]
    for i in range(4):
        for v in (0, 1):
            positives = [z[i, 1 - v], *(z[o, w] for o in near[i] for w in (0, 1))]
            others = [z[o, w] for o in range(4) if patient[o] != patient[i] for w in (0, 1)]
            losses.append(np.mean([term(z[i, v], p, positives + others) for p in positives]))
    output = make(affinity=rule)(**b)
    assert output.loss.item() == pytest.approx(np.mean(losses), abs=1e-10)
    assert output.positives.item() == pytest.approx((3 + 3 + 1 + 1) / 4)


@pytest.mark.parametrize("strategy", ["same", "reweighted", "appended", "synthetic"])
def test_the_strategies_of_the_queue_hold_for_the_batch_too(strategy):
    b = batch(n=8)
    b["codes"][..., CODES.index("laterality")] = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])[:, None]
    torch.manual_seed(0)
    network = make(negatives=Negatives(strategy=strategy, share=0.5))
    loss, plain = network(**b).loss, make()(**b).loss
    assert loss.isfinite()
    assert loss.item() != pytest.approx(plain.item(), abs=1e-3)


def test_the_gradient_is_that_of_finite_differences():
    b = batch(n=3, keys=2, patients=[0, 0, 2])
    network = make(affinity=Affinity(kernel="exponential", cutoff_studies=3))

    def loss(query, key):
        return network(query, key, affinity=b["affinity"].double(), codes=b["codes"]).loss

    b["query"], b["key"] = b["query"][..., :1, :5], b["key"][..., :1, :5]
    assert torch.autograd.gradcheck(loss, (b["query"].requires_grad_(), b["key"].requires_grad_()))


def test_the_variance_term_pushes_embeddings_that_are_alike_apart():
    b = batch(n=16)
    plain, term = make()(**b).loss, make(variance_weight=2.0)(**b).loss - make()(**b).loss
    z = vectors(b).reshape(32, 5) * math.sqrt(5)
    expected = np.mean([max(0.0, 1 - math.sqrt(column.var(ddof=1) + 1e-4)) for column in z.T])
    assert term.item() == pytest.approx(2 * expected, abs=1e-12)
    assert plain.item() > 0
    b["query"][:], b["key"][:] = 1.0, 1.0
    assert (make(variance_weight=2.0)(**b).loss - make()(**b).loss).item() == pytest.approx(2 * 0.99)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"temperature": 0.0}, "temperature"), ({"queue_size": 64}, "queue_size is 64, but"), ({"bn_groups": 2}, "bn_gr"),
     ({"variance_weight": -1.0}, "variance_weight"),
     ({"negatives": Negatives(ignore="none"), "affinity": Affinity(kernel="step")}, "negatives#ignore is none")],
)  # fmt: skip
def test_a_wrong_setting_is_an_error_that_names_it(settings, named):
    with pytest.raises(CxrPairError, match=named):
        InBatch(encoder=Flat(), **settings)
