import copy

import numpy as np
import pytest
import torch
from torch import nn

from monai_cxrpair.contrast import build_encoder, feature_dim
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.class_maps import ClassMaps, randomise
from monai_cxrpair.evaluation.classifier import Classifier

VIEW = torch.zeros(1, 1, 64, 64)


def classifier(encoder, seed=0):
    torch.manual_seed(seed)
    network = build_encoder(encoder, image_size=64) if isinstance(encoder, str) else encoder
    return Classifier(network, features=feature_dim(network)).eval()


class Small(nn.Module):
    """Two convolutions, the mean over the image."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 4, stride=4), nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x):
        return self.second(self.first(x).relu()).mean((2, 3))


class Tokens(nn.Module):
    """A picture of patches, then tokens."""

    def __init__(self):
        super().__init__()
        self.patches, self.mix = nn.Conv2d(1, 8, 16, stride=16), nn.Linear(8, 8)

    def forward(self, x):
        return self.mix(self.patches(x).flatten(2).transpose(1, 2)).mean(1)


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.all = nn.Linear(64 * 64, 5)

    def forward(self, x):
        return self.all(x.flatten(1))


def test_the_map_is_the_weighted_mean_of_the_features_where_the_network_ends_in_a_mean():
    # There the gradient at each place is the head's weight over the number of places: no Grad-CAM needed.
    torch.manual_seed(0)
    network = classifier(Small())
    views = torch.rand(5, 1, 64, 64)
    with torch.no_grad():
        features = network.encoder.second(network.encoder.first(views).relu())
        expected = (network.fc.weight[0, :, None, None] * features).sum(1) / (16 * 16)
    look = ClassMaps(network, VIEW)
    assert (look.layer, look.size) == ("encoder.second", (16, 16))
    np.testing.assert_allclose(look(views), expected.numpy(), atol=1e-7)
    assert np.ptp(expected.numpy()) > 1e-5


@pytest.mark.parametrize(
    ("encoder", "layer", "size"),
    [
        ("resnet18", "encoder.layer4", 2),
        ("resnet50", "encoder.layer4", 2),
        ("densenet121", "encoder.class_layers.relu", 2),
    ],
)
def test_the_layer_is_the_last_before_the_picture_becomes_a_vector(encoder, layer, size):
    network = classifier(encoder)
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    held = {}
    plain.get_submodule(layer).register_forward_hook(lambda _, __, output: held.update(features=output))
    views = torch.rand(2, 1, 64, 64)
    gradient = torch.autograd.grad(plain(views).sum(), held["features"])[0]
    expected = (gradient.mean((2, 3), keepdim=True) * held["features"]).sum(1).detach()
    look = ClassMaps(network, VIEW)
    assert (look.layer, look.size) == (layer, (size, size))
    with torch.no_grad():  # as an evaluation may run
        maps = look(views)
    np.testing.assert_allclose(maps, expected.numpy(), rtol=1e-3, atol=1e-7)


def test_convnext_has_a_layer_too_and_a_vision_transformer_has_none():
    pytest.importorskip("transformers")
    look = ClassMaps(classifier("convnext_tiny"), VIEW)
    assert (look.layer, look.size) == ("encoder.encoder.stages.3", (2, 2))
    assert look(torch.rand(2, 1, 64, 64)).shape == (2, 2, 2)
    with pytest.raises(CxrPairError, match="tokens"):
        ClassMaps(classifier("vit_small"), VIEW)


@pytest.mark.parametrize(("encoder", "reason"), [(Tokens(), "tokens"), (Flat(), "convolutional network")])
def test_a_network_without_such_a_layer_is_an_error_that_says_what_is_needed(encoder, reason):
    with pytest.raises(CxrPairError, match=reason):
        ClassMaps(classifier(encoder), VIEW)


def test_new_random_weights_depend_on_the_seed_alone_and_leave_other_random_numbers_alone():
    networks = [classifier("resnet18", seed=seed) for seed in (1, 2, 3)]
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    for network, seed in zip(networks, (5, 5, 6), strict=True):
        randomise(network.encoder, seed=seed)
    assert torch.equal(torch.rand(3), expected)
    first, second, other = (network.encoder.state_dict() for network in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
    heads = [network.fc.weight for network in networks]
    assert torch.equal(heads[0], classifier("resnet18", seed=1).fc.weight)


def test_parameters_that_cannot_be_begun_anew_are_shuffled():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.arange(50.0))

    own = Own()
    randomise(own, seed=0)
    assert not torch.equal(own.token, torch.arange(50.0))
    assert torch.equal(own.token.sort().values, torch.arange(50.0))
