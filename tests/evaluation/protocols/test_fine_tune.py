"""Fine-tuning on 64 pixels, with a network of a few hundred weights, against a plain loop and for what it promises."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.evaluation.protocols.fine_tune import FineTuneLearner, make_optimiser
from monai_cxrpair.evaluation.protocols.paper_probe import first_layer
from monai_cxrpair.evaluation.protocols.tune_settings import PRESETS, TuneSettings, tune_settings

N, SIZE = 90, 64


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        # No bias: its gradient before the normalisation is nothing but rounding, which Adam would magnify.
        self.convolution = nn.Conv2d(1, 6, 7, stride=6, bias=False)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x):
        return self.norm(self.convolution(x)).relu().mean((2, 3))


class Radiographs:
    """What a `RadiographCacheDataset` offers: a bright lower half is the finding."""

    image_size = SIZE

    def __init__(self, labels):
        rng = np.random.default_rng(0)
        self.images = rng.integers(60, 120, (N, SIZE, SIZE)).astype(np.uint8)
        self.images[labels == 1, SIZE // 2 :] += 60

    def radiographs(self, rows):
        return [self.images[row] for row in rows]

    def __getitems__(self, rows):
        return {"image": self.images[np.asarray(rows)][:, None]}


@pytest.fixture
def material():
    labels = (np.arange(N) % 3 == 0).astype(float)
    torch.manual_seed(0)
    encoders = {"e": FrozenEncoder(network=Encoder().eval(), mean=0.4, std=0.2, card={})}
    return encoders, Radiographs(labels), labels, np.arange(N) // 2


def learner(material, settings, seed=0):
    return FineTuneLearner(*material, seed=seed, settings=settings)


FAST = TuneSettings(epochs=3, learning_rate=0.01, holdout=0.0)


def test_without_augmentation_it_is_a_plain_loop_with_torchs_adam(material):
    encoders, dataset, labels, _ = material
    own, rows = np.arange(35), np.arange(60, 90)
    learned = learner(material, FAST, seed=4).learn("e", [own], rows)

    start = torch.as_tensor(first_layer(6, [4, 0]), dtype=torch.float32)
    head = nn.Linear(6, 1)
    head.load_state_dict({"weight": start[None, :-1], "bias": start[-1:]})
    network = nn.Sequential(copy.deepcopy(encoders["e"].network), head)
    adam = torch.optim.Adam(network.parameters(), lr=0.01)

    def pixels(part):
        return (torch.as_tensor(dataset.images[part][:, None]).float() / 255 - 0.4) / 0.2

    for epoch in range(3):
        network.train()
        order = own[np.random.default_rng([4, 0, epoch]).permutation(35)]
        for part in np.split(order, [16, 32]):
            adam.zero_grad()
            truth = torch.as_tensor(labels[part]).float()
            nn.functional.binary_cross_entropy(network(pixels(part))[:, 0].sigmoid(), truth).backward()
            adam.step()
    network.eval()
    np.testing.assert_allclose(learned.scores[0], network(pixels(rows))[:, 0].sigmoid().detach(), atol=2e-4)
    assert learned.held_out == [None]


@pytest.mark.parametrize("preset", ["paper", "modern"])
def test_both_presets_learn_a_finding_that_is_there(material, preset):
    settings = replace(PRESETS[preset], learning_rate=0.01, epochs=8)
    learned = learner(material, settings).learn("e", [np.arange(60)], np.arange(60, 90))
    assert roc_auc_score(material[2][60:], learned.scores[0]) > 0.9
    held, scores = learned.held_out[0]
    assert 0 < len(held) < 30
    assert scores.shape == held.shape


def test_the_same_seed_gives_the_same_scores_and_the_encoder_is_left_alone(material):
    before = copy.deepcopy(material[0]["e"].network.state_dict())
    settings = replace(PRESETS["modern"], epochs=3)
    torch.manual_seed(1)
    one = learner(material, settings).learn("e", [np.arange(40)], np.arange(60, 90)).scores
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    two = learner(material, settings).learn("e", [np.arange(40)], np.arange(60, 90)).scores
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(
        one, learner(material, settings, seed=1).learn("e", [np.arange(40)], np.arange(60, 90)).scores
    )
    for name, value in material[0]["e"].network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_held_out_patients_have_no_part_in_the_training(material):
    """Other pictures of the held-out radiographs change which epoch is best, never what an epoch has learned."""
    encoders, dataset, labels, patients = material
    settings = replace(FAST, epochs=1, holdout=0.2)
    own, rows = np.arange(60), np.arange(60, 90)
    first = learner(material, settings).learn("e", [own], rows)
    held = first.held_out[0][0]
    assert not set(patients[held]) & set(patients[np.setdiff1d(own, held)])
    changed = copy.deepcopy(dataset)
    changed.images[held] = 0
    second = learner((encoders, changed, labels, patients), settings).learn("e", [own], rows)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert not np.array_equal(first.held_out[0][1], second.held_out[0][1])


def test_only_the_head_learns_where_asked_for_and_batch_normalisation_lives_or_not(material):
    own, rows = np.arange(40), np.arange(60, 90)
    frozen = replace(FAST, train="head", batch_norm="frozen", learning_rate=1e-9)
    live = replace(frozen, batch_norm="live")
    encoders = material[0]
    layer = first_layer(6, [0, 0])
    with torch.no_grad():
        pixels = (torch.as_tensor(material[1].images[rows][:, None]).float() / 255 - 0.4) / 0.2
        features = encoders["e"].network(pixels).numpy()
    expected = 1 / (1 + np.exp(-(features @ layer[:-1] + layer[-1])))
    found = learner(material, frozen).learn("e", [own], rows).scores[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)  # hardly a step, and the embeddings of pre-training
    assert np.abs(learner(material, live).learn("e", [own], rows).scores[0] - expected).max() > 0.01


def test_the_head_learns_faster_and_biases_do_not_decay():
    network = nn.Module()
    network.encoder, network.fc = Encoder(), nn.Linear(6, 1)
    groups = make_optimiser(network, PRESETS["modern"]).param_groups
    found = {(round(g["lr"], 6), g["weight_decay"]): sum(p.numel() for p in g["params"]) for g in groups}
    assert found == {(1e-3, 0.05): 6, (1e-3, 0.0): 1, (1e-4, 0.05): 6 * 49, (1e-4, 0.0): 12}


def test_settings_are_a_preset_and_what_differs_from_it():
    name, settings = tune_settings({"preset": "paper", "epochs": 3, "learning_rate": "1e-3"})
    assert (name, settings) == ("paper", TuneSettings(epochs=3, learning_rate=1e-3))
    assert (TuneSettings().learning_rate, TuneSettings().epochs, TuneSettings().batch_size) == (3e-5, 95, 16)
    assert tune_settings({})[1] == PRESETS["modern"]
    for config, message in (
        ({"preset": "old"}, "fine_tune#preset is 'old': use paper or modern"),
        ({"epoch": 3}, "fine_tune#epoch is unknown: there are preset, epochs"),
        ({"epochs": 0}, "fine_tune#epochs is 0: use a whole number of at least 1"),
        ({"optimiser": "sgd"}, "fine_tune#optimiser is 'sgd': use adam or adamw"),
        ({"holdout": 0.9}, "fine_tune#holdout is 0.9: use 0 to 0.5"),
        ({"epochs": 2}, "fine_tune#warmup_epochs is 2: use fewer than the epochs"),
        ({"learning_rate": "fast"}, "fine_tune#learning_rate is 'fast': use a number above 0"),
    ):
        with pytest.raises(CxrPairError, match=message):
            tune_settings(config)
