"""MoCo's pieces against numpy and against a plain re-derivation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_cxrpair.contrast import MoCo, Negatives, build_encoder, feature_dim, load_weights
from monai_cxrpair.contrast.method.loss import variance_hinge
from monai_cxrpair.contrast.settings import queue_size
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import Affinity
from monai_cxrpair.pairing.codes import CODES


class Flat(nn.Module):
    """A tiny linear encoder."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64 * 64, 6)

    def forward(self, x):
        return self.linear(x.flatten(1))


def batch(n=4, seed=0, patients=None):
    generator = torch.Generator().manual_seed(seed)
    views = torch.rand(2, n, 1, 64, 64, generator=generator, dtype=torch.float64)
    patient = torch.arange(n) + seed * 100 if patients is None else torch.tensor(patients)
    return {
        "query": views[0], "key": views[1][:, None], "affinity": torch.ones(n, 1, dtype=torch.float64),
        "codes": codes_of(patient)[:, None].repeat(1, 2, 1),
    }  # fmt: skip


def codes_of(patient, **others):
    """One study per patient, nothing else known."""
    codes = torch.full((len(patient), len(CODES)), -1)
    codes[:, 0], codes[:, 1], codes[:, 3] = patient, patient, 0
    for name, values in others.items():
        codes[:, CODES.index(name)] = torch.as_tensor(values)
    return codes


def make(**settings):
    torch.manual_seed(0)
    return MoCo(encoder=Flat(), queue_size=8, dim=3, **settings).double()


def test_three_steps_equal_a_plain_moco_written_here():
    ours = make(momentum=0.9)
    query, key = nn.Sequential(Flat(), *make().query_head).double(), nn.Sequential(Flat(), *make().query_head).double()
    for mine in (query, key):
        mine[0].load_state_dict(ours.query_encoder.state_dict())
        for layer, source in zip(mine[1:], ours.query_head, strict=True):
            layer.load_state_dict(source.state_dict())
    our_sgd = torch.optim.SGD([p for p in ours.parameters() if p.requires_grad], lr=0.5)
    plain_sgd = torch.optim.SGD(query.parameters(), lr=0.5)
    queue = torch.zeros(0, 3, dtype=torch.float64)
    for step in range(4):
        b = batch(seed=step)
        output = ours(**b)
        our_sgd.zero_grad()
        output.loss.backward()
        our_sgd.step()

        q = F.normalize(query(b["query"]), dim=1)
        with torch.no_grad():
            for mine, theirs in zip(key.parameters(), query.parameters(), strict=True):
                mine.mul_(0.9).add_(theirs, alpha=0.1)
            k = F.normalize(key(b["key"][:, 0]), dim=1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], dim=1) / 0.2
        loss = F.cross_entropy(logits, torch.zeros(4, dtype=torch.long))
        plain_sgd.zero_grad()
        loss.backward()
        plain_sgd.step()
        queue = torch.cat([queue, k])[-8:]
        assert output.loss.item() == pytest.approx(loss.item(), abs=1e-12)
    assert ours.queue.filled.all()


def test_keys_of_the_same_patient_are_ignored_unless_told_otherwise():
    first, second = batch(seed=0, patients=[0, 1, 2, 3]), batch(seed=1, patients=[0, 1, 8, 9])
    losses = {}
    for ignore in ("patient", "none"):
        network = make(negatives=Negatives(ignore=ignore))
        network(**first)
        output = network(**second)
        losses[ignore] = output.loss.item()
        assert output.ignored.item() == pytest.approx({"patient": 2 / 16, "none": 0.0}[ignore])
    assert losses["patient"] < losses["none"]


def test_the_momentum_encoder_gets_no_gradient_and_moves_towards_the_query_encoder():
    network = make(momentum=0.5)
    with torch.no_grad():
        network.query_encoder.linear.weight.add_(1.0)
    before = network.key_encoder.linear.weight.clone()
    network(**batch()).loss.backward()
    assert network.key_encoder.linear.weight.grad is None
    torch.testing.assert_close(network.key_encoder.linear.weight, before + 0.5)


def test_positives_in_the_queue_attract_by_their_affinity_and_far_ones_are_ignored():
    """Against a derivation from the vectors: two studies of each patient, three keys per query, a queue that wraps."""
    affinity = Affinity(kernel="step", cutoff_studies=1, other_laterality=0.25, threshold=0.2)
    network = make(affinity=affinity, bn_groups=1)
    rng = torch.Generator().manual_seed(5)
    for step in range(4):
        patient = torch.tensor([0, 1, 2])[torch.randperm(3, generator=rng)]
        order = torch.randint(0, 4, (3, 4), generator=rng)
        codes = torch.stack([codes_of(patient) for _ in range(4)], dim=1)  # (3, 1 + 3, C)
        codes[..., 3], codes[..., 1] = order, patient[:, None] * 10 + order
        codes[..., 4] = torch.randint(-1, 2, (3, 4), generator=rng)
        views = torch.rand(3, 4, 1, 64, 64, generator=rng, dtype=torch.float64)
        queue, known = network.queue.keys.clone(), network.queue.codes.clone()
        drawn = torch.rand(3, 3, generator=rng, dtype=torch.float64)
        output = network(views[:, 0], views[:, 1:], affinity=drawn, codes=codes)
        q = F.normalize(network.query_head(network.query_encoder(views[:, 0])), dim=1)
        k = torch.stack([F.normalize(network.key_head(network.key_encoder(views[:, j])), dim=1) for j in (1, 2, 3)], 1)
        losses, found = [], 0
        for i in range(3):
            logits, weights = [*(q[i] @ k[i].T / 0.2)], [*drawn[i]]
            for key, other in zip(queue, known, strict=True):
                if other[0] == -1:
                    continue
                weight = 0.0
                if other[0] == codes[i, 0, 0]:
                    weight = 1.0 if abs(other[3] - codes[i, 0, 3]) <= 1 else 0.0
                    if {int(other[4]), int(codes[i, 0, 4])} == {0, 1}:
                        weight *= 0.25
                    if other[1] == codes[i, 0, 1]:
                        weight = 1.0
                    if weight == 0:
                        continue
                    found += 1
                logits.append(q[i] @ key / 0.2)
                weights.append(torch.tensor(weight, dtype=torch.float64))
            logits, weights = torch.stack(logits), torch.stack(weights)
            losses.append(-(weights / weights.sum() * logits.log_softmax(0)).sum())
        assert output.loss.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-10)
        assert output.positives.item() == pytest.approx(3 + found / 3)
        assert found > 0 or step == 0
    assert network.queue.filled.all()


def test_the_symmetric_loss_is_the_mean_of_both_ways_against_one_queue():
    """Two keys per query, one of them of affinity 0: on the way back it has no positive, and does not count."""
    network = make(symmetric=True, momentum=0.5)
    network(**batch(seed=7))  # half the queue is filled
    b = batch(n=3, seed=1, patients=[700, 1, 2])  # the first is of a patient whose key is in the queue
    key = torch.stack([b["key"][:, 0], batch(n=3, seed=2)["query"]], dim=1)
    affinity = torch.tensor([[1.0, 0.5], [1.0, 0.0], [0.25, 1.0]], dtype=torch.float64)
    queue, patients = network.queue.keys[:4].clone(), network.queue.codes[:4, 0].clone()
    output = network(b["query"], key, affinity=affinity, codes=b["codes"][:, [0, 1, 1]])

    def embed(side, views):
        return F.normalize(getattr(network, f"{side}_head")(getattr(network, f"{side}_encoder")(views)), dim=1)

    q, slow_q = embed("query", b["query"]), embed("key", b["query"])
    k, slow_k = (torch.stack([embed(side, key[:, j]) for j in (0, 1)], dim=1) for side in ("query", "key"))
    there, back = [], []
    for i in range(3):
        others = queue[patients != b["codes"][i, 0, 0]]
        drawn = [j for j in (0, 1) if affinity[i, j] > 0]
        logits = torch.cat([slow_k[i, drawn] @ q[i], others @ q[i]]) / 0.2
        there.append(-(affinity[i, drawn] / affinity[i].sum() * logits.log_softmax(0)[: len(drawn)]).sum())
        back += [-(torch.cat([slow_q[i : i + 1], others]) @ k[i, j] / 0.2).log_softmax(0)[0] for j in drawn]
    expected = (sum(there) / 3 + sum(back) / 5) / 2
    assert len(back) == 5
    assert output.loss.item() == pytest.approx(expected.item(), abs=1e-12)
    assert int(network.queue.count) == 4 + 6  # the keys alone, once
    torch.testing.assert_close(network.queue.keys[[4, 5, 6, 7, 0, 1]], slow_k.flatten(0, 1))


def test_the_variance_term_comes_on_top_of_the_loss_and_is_all_but_0_for_vectors_that_fill_the_sphere():
    plain, more = (make(variance_weight=weight)(**batch(n=8)) for weight in (0.0, 3.0))
    q = make().query_encoder  # the same weights
    vectors = F.normalize(make().query_head(q(batch(n=8)["query"])), dim=1).detach().numpy() * 3**0.5
    expected = np.maximum(0, 1 - np.sqrt(vectors.var(axis=0, ddof=1) + 1e-4)).mean()
    assert (more.loss - plain.loss).item() == pytest.approx(3 * expected, abs=1e-12)
    assert expected > 0.5  # a random encoder of random noise is collapsed
    sphere = F.normalize(torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    assert variance_hinge(sphere).item() < 0.01


@pytest.mark.parametrize("strategy", ["same", "reweighted", "appended", "synthetic"])
def test_a_strategy_changes_the_loss_from_the_second_batch_on_and_never_makes_it_0(strategy):
    """The second batch meets a queue half full, of two lateralities."""
    losses = {}
    for name in ("none", strategy):
        network = make(negatives=Negatives(strategy=name, share=0.5))
        for seed in (0, 1):
            b = batch(seed=seed)
            b["codes"][..., CODES.index("laterality")] = torch.tensor([0, 0, 0, 1])[:, None]
            torch.manual_seed(seed)
            losses[name] = network(**b).loss
        assert losses[name].item() > 0
    assert losses[strategy].item() != losses["none"].item()


class Batched(nn.Module):
    """Batch normalisation alone: whoever shares a group shares statistics."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4096, affine=False)

    def forward(self, x):
        return self.norm(x.flatten(1))


def test_keys_are_normalised_in_shuffled_groups_and_come_back_in_order():
    torch.manual_seed(0)
    network = MoCo(encoder=Batched(), queue_size=8, dim=3, bn_groups=4, in_channels=1).double()
    network.key_head = nn.Identity()
    images = torch.rand(16, 1, 64, 64, dtype=torch.float64)
    changed = images.clone()
    changed[3] += torch.rand(64, 64, dtype=torch.float64)
    moved = set()
    for seed in range(20):
        torch.manual_seed(seed)
        one = network._encode_keys(images)
        torch.manual_seed(seed)
        two = network._encode_keys(changed)
        touched = (one - two).abs().amax(dim=1) > 1e-9
        assert touched[3]
        assert touched.sum() == 4  # its own group only
        moved |= set(torch.nonzero(touched)[:, 0].tolist())
    assert len(moved) > 8  # and another group each time


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"momentum": 1.0}, "momentum"), ({"temperature": 0.0}, "temperature"), ({"bn_groups": 0}, "bn_groups"),
     ({"variance_weight": -0.1}, "variance_weight"),
     ({"negatives": Negatives(ignore="none"), "affinity": Affinity(kernel="step")}, "negatives#ignore is none"),
     ({"negatives": Negatives(strategy="appended")}, "negatives#share is 0.1: of a queue of 8")],
)  # fmt: skip
def test_a_wrong_setting_is_an_error_that_names_it(settings, named):
    with pytest.raises(CxrPairError, match=named):
        make(**settings)


def test_a_torchvision_state_dict_loads_key_by_key_with_the_first_convolution_summed(tmp_path):
    torch.manual_seed(0)
    colour = build_encoder("resnet18", in_channels=3)
    path = tmp_path / "imagenet.pt"
    torch.save({**colour.state_dict(), "fc.weight": torch.rand(1000, 512), "fc.bias": torch.rand(1000)}, path)
    grey = build_encoder("resnet18")
    load_weights(grey, path)
    image = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(grey.eval()(image), colour.eval()(image.repeat(1, 3, 1, 1)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("content", [b"not torch", None, {"a": torch.rand(2)}, [1, 2]])
def test_wrong_weights_are_one_line_that_names_the_file(tmp_path, content):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CxrPairError, match=r"weights\.pt") as caught:
        load_weights(build_encoder(), path)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_an_error_that_shows_keys_of_both(tmp_path):
    torch.save(build_encoder("resnet50").state_dict(), tmp_path / "r50.pt")
    with pytest.raises(CxrPairError, match=r"bn3|conv3|downsample"):
        load_weights(build_encoder("resnet18"), tmp_path / "r50.pt")


@pytest.mark.parametrize(("name", "features"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048)])
def test_an_encoder_yields_features(name, features):
    assert feature_dim(build_encoder(name)) == features


@pytest.mark.parametrize(
    ("setting", "radiographs", "expected"), [("auto", 1000, 224), ("auto", 20, 32), ("auto", 10**6, 16384), (7, 9, 7)]
)
def test_an_automatic_queue_is_a_quarter_of_the_radiographs_in_whole_batches(setting, radiographs, expected):
    assert queue_size(setting, radiographs=radiographs, batch_size=32) == expected
