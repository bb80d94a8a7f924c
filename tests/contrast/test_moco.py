"""MoCo's pieces against numpy and against a plain re-derivation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import logsumexp
from torch import nn

from monai_cxrpair.contrast import KeyQueue, MoCo, build_encoder, contrastive_loss, feature_dim, load_weights
from monai_cxrpair.contrast.settings import queue_size
from monai_cxrpair.errors import CxrPairError

RNG = np.random.default_rng(0)


def random_similarities(batch=5, keys=3, queue=11):
    positive, negative = RNG.uniform(-1, 1, (batch, keys)), RNG.uniform(-1, 1, (batch, queue))
    return positive, RNG.uniform(0.1, 1, (batch, keys)), negative, RNG.random((batch, queue)) < 0.3


def loss_of(positive, affinity, negative, ignored, temperature=0.2):
    tensors = (torch.from_numpy(np.asarray(x)) for x in (positive, affinity, negative, ignored))
    return contrastive_loss(*tensors, temperature=temperature)


def test_the_loss_equals_its_formula_written_in_numpy():
    positive, affinity, negative, ignored = random_similarities()
    expected = []
    for s, w, n, out in zip(positive / 0.2, affinity, negative / 0.2, ignored, strict=True):
        denominator = logsumexp(np.concatenate([s, n[~out]]))
        expected.append(-np.sum(w / w.sum() * (s - denominator)))
    assert loss_of(positive, affinity, negative, ignored).item() == pytest.approx(np.mean(expected), abs=1e-12)


def test_one_key_of_affinity_1_is_info_nce():
    positive, _, negative, _ = random_similarities(keys=1)
    logits = torch.from_numpy(np.concatenate([positive, negative], axis=1)) / 0.2
    info_nce = F.cross_entropy(logits, torch.zeros(5, dtype=torch.long))
    ours = loss_of(positive, np.ones((5, 1)), negative, np.zeros((5, 11), bool))
    assert ours.item() == pytest.approx(info_nce.item(), abs=1e-12)


def test_equal_similarities_give_the_closed_form():
    ours = loss_of(np.zeros((4, 1)), np.ones((4, 1)), np.zeros((4, 9)), np.zeros((4, 9), bool))
    assert ours.item() == pytest.approx(np.log(10), abs=1e-12)


def test_the_gradient_is_right_also_where_all_negatives_are_ignored():
    positive, affinity, negative, ignored = (torch.from_numpy(x) for x in random_similarities())
    ignored[0] = True
    positive.requires_grad_()
    negative.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, n: contrastive_loss(p, affinity, n, ignored, temperature=0.2), (positive, negative)
    )


def test_the_queue_wraps_around_and_forgets_the_oldest():
    queue = KeyQueue(size=5, dim=2)
    for start in (0, 3, 6):
        codes = torch.arange(start, start + 3)
        queue.enqueue(codes[:, None].repeat(1, 2).float(), patient=codes, study=codes * 10)
    assert sorted(queue.patient.tolist()) == [4, 5, 6, 7, 8]
    assert torch.equal(queue.keys[:, 0].long(), queue.patient)
    assert torch.equal(queue.study, queue.patient * 10)
    assert int(queue.pointer) == 9 % 5


def test_a_batch_larger_than_the_queue_leaves_its_last_keys():
    queue = KeyQueue(size=3, dim=1)
    codes = torch.arange(8)
    queue.enqueue(codes[:, None].float(), patient=codes, study=codes)
    assert sorted(queue.patient.tolist()) == [5, 6, 7]


def test_the_queue_is_saved_with_the_model():
    queue = KeyQueue(size=4, dim=2)
    assert set(queue.state_dict()) == {"keys", "patient", "study", "pointer"}


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
        "patient": patient, "study": patient[:, None].repeat(1, 2),
    }  # fmt: skip


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
        network = make(ignore=ignore)
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
    [({"momentum": 1.0}, "momentum"), ({"temperature": 0.0}, "temperature"), ({"ignore": "all"}, "ignore"),
     ({"bn_groups": 0}, "bn_groups")],
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
