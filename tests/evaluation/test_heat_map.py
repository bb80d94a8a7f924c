"""Grad-CAM of a classifier, and what is left of the network afterwards."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.heat_map import HeatMaps, overlay


class Bright(nn.Module):
    """Its logit is the mean of one feature: 2 x the view, so Grad-CAM can be derived by hand."""

    def __init__(self, sign=1.0):
        super().__init__()
        self.features = nn.Conv2d(1, 1, 1, bias=False)
        self.fc = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.features.weight.fill_(2.0)
            self.fc.weight.fill_(sign)

    def forward(self, image):
        return self.fc(self.features(image).mean(dim=(2, 3)))


def test_the_map_is_what_grad_cam_is_by_hand():
    batch = torch.rand(3, 1, 8, 8)
    found = HeatMaps(Bright())(batch)
    # The gradient of the logit is the same positive number everywhere, so the map is the feature, highest place 1.
    expected = (batch / batch.amax(dim=(2, 3), keepdim=True))[:, 0].numpy()
    assert found.shape == (3, 8, 8)
    assert found == pytest.approx(expected, abs=1e-6)


def test_where_nothing_raises_the_logit_the_map_is_empty():
    assert not HeatMaps(Bright(sign=-1.0))(torch.rand(2, 1, 8, 8)).any()


def test_the_network_is_as_before_and_gradients_are_wanted_only_within():
    network = Bright().eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        HeatMaps(network)(torch.rand(1, 1, 8, 8))
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.parameters())


def test_a_network_without_places_has_no_map():
    with pytest.raises(CxrPairError, match="Grad-CAM needs a convolutional network"):
        HeatMaps(nn.Sequential(nn.Flatten(), nn.Linear(256, 1)))(torch.zeros(1, 1, 16, 16))


def test_threads_get_the_map_of_their_own_radiograph():
    batches = [torch.rand(1, 1, 8, 8) for _ in range(24)]
    alone, shared = [HeatMaps(Bright())(batch) for batch in batches], HeatMaps(Bright())
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(shared, batches))
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))


def test_an_overlay_is_the_radiograph_where_the_map_is_empty():
    grey = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    field = np.zeros((8, 8), np.float32)
    field[0, 0] = 1
    picture = overlay(grey, field)
    assert (picture[1:, :, 0] == np.rint(grey[1:] * 255)).all()
    assert (np.ptp(picture, axis=2)[1:] == 0).all()
    assert np.ptp(picture[0, 0]) > 50
