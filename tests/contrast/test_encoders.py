"""Encoders by name and by definition, and their weights: against plain PyTorch written here in torchvision's layout."""

import copy
import json
import re
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_cxrpair.contrast import build_encoder, feature_dim, input_statistics, load_weights, make_encoder
from monai_cxrpair.contrast.encoders import NAMES, channels_last
from monai_cxrpair.errors import CxrPairError

FEATURES = {
    "resnet18": 512, "resnet34": 512, "resnet50": 2048, "densenet121": 1024,
    "vit_small": 384, "vit_base": 768, "convnext_tiny": 768,
}  # fmt: skip
SMALL = ["resnet18", "densenet121", "vit_small", "convnext_tiny"]


def build(name, **settings):
    if name.startswith(("vit", "convnext")):
        pytest.importorskip("transformers", reason="the extra `encoders` is not installed")
    return build_encoder(name, **settings)


class OwnNet(nn.Module):
    """A network of the user's own."""

    def __init__(self, width=5, in_channels=1, features=None):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3)
        self.fc = nn.Linear(width, features or width)

    def forward(self, x):
        return self.fc(self.conv(x).mean(dim=(2, 3)))


OWN = f"{__name__}.OwnNet"


def test_every_name_is_in_this_file():
    assert set(FEATURES) == set(NAMES)


@pytest.mark.parametrize(("name", "in_channels"), [*((name, 1) for name in FEATURES), *((name, 3) for name in SMALL)])
def test_an_encoder_turns_grey_radiographs_into_features(name, in_channels):
    encoder = build(name, in_channels=in_channels, image_size=32)
    assert feature_dim(encoder, image_size=32) == FEATURES[name]
    first = next(p for p in encoder.parameters() if p.ndim == 4)
    assert first.shape[1] == in_channels


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_learns_and_the_memory_order_changes_nothing(name):
    torch.manual_seed(0)
    encoder = build(name, image_size=32).double()
    image = torch.rand(2, 1, 32, 32, dtype=torch.float64)
    features = encoder(image)
    assert features.shape == (2, FEATURES[name])
    assert features.is_floating_point()
    (features**2).sum().backward()
    without = [key for key, p in encoder.named_parameters() if p.grad is None]
    assert without == []  # also what DistributedDataParallel asks for
    encoder.eval()
    other = channels_last(copy.deepcopy(encoder))
    assert any(p.is_contiguous(memory_format=torch.channels_last) for p in other.parameters() if p.ndim == 4)
    torch.testing.assert_close(other(image.contiguous(memory_format=torch.channels_last)), encoder(image))


@pytest.mark.parametrize(("name", "in_channels"), [*((name, 1) for name in SMALL), ("densenet121", 3)])
def test_an_encoder_file_of_ours_gives_the_same_features_again(name, in_channels, tmp_path):
    torch.manual_seed(0)
    encoder = build(name, in_channels=in_channels, image_size=32).eval()
    torch.save(encoder.state_dict(), tmp_path / "encoder.pt")
    other = build(name, in_channels=in_channels, image_size=32).eval()
    image = torch.rand(2, 1, 32, 32)
    assert not torch.equal(other(image), encoder(image))
    load_weights(other, tmp_path / "encoder.pt")
    assert torch.equal(other(image), encoder(image))


def test_the_grey_view_is_repeated_for_three_channels():
    encoder = build("resnet18", in_channels=3).eval()
    image = torch.rand(2, 1, 32, 32)
    assert torch.equal(encoder(image), encoder(image.repeat(1, 3, 1, 1)))


def test_a_vit_gives_its_class_token_and_says_which_sizes_it_takes():
    encoder = build("vit_small", image_size=48).eval()
    transformers = pytest.importorskip("transformers")
    plain = transformers.ViTModel(encoder.config, add_pooling_layer=False).eval()
    plain.load_state_dict(encoder.state_dict())
    image = torch.rand(2, 1, 48, 48)
    with torch.no_grad():
        assert torch.equal(encoder(image), plain(image).last_hidden_state[:, 0])
    with pytest.raises(CxrPairError, match=r"image_size is 50: .* multiple"):
        build_encoder("vit_small", image_size=50)
    with pytest.raises(CxrPairError, match=r"ViTModel does not take radiographs of shape \(1, 1, 64, 64\)"):
        feature_dim(encoder, image_size=64)


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    for name in ("vit_small", "convnext_tiny"):
        with pytest.raises(CxrPairError, match=r"pip install 'monai-cxrpair\[encoders\]'"):
            build_encoder(name, image_size=32)


# --- torchvision's networks, written as functions of a state dict under torchvision's names --------------------------


def norm(x, state, name):
    return F.batch_norm(x, *(state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))


def conv(x, state, name, **settings):
    return F.conv2d(x, state[f"{name}.weight"], **settings)


def torchvision_resnet(x, state):
    """ResNet-18 or -50: "Deep residual learning", the stride in the 3x3 convolution."""
    x = F.relu(norm(conv(x, state, "conv1", stride=2, padding=3), state, "bn1"))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    for stage in range(1, 5):
        for block in range(sum(1 for key in state if re.fullmatch(rf"layer{stage}\.\d+\.conv1\.weight", key))):
            here = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            if f"{here}.conv3.weight" in state:
                y = F.relu(norm(conv(x, state, f"{here}.conv1"), state, f"{here}.bn1"))
                y = F.relu(norm(conv(y, state, f"{here}.conv2", stride=stride, padding=1), state, f"{here}.bn2"))
                y = norm(conv(y, state, f"{here}.conv3"), state, f"{here}.bn3")
            else:
                y = F.relu(norm(conv(x, state, f"{here}.conv1", stride=stride, padding=1), state, f"{here}.bn1"))
                y = norm(conv(y, state, f"{here}.conv2", padding=1), state, f"{here}.bn2")
            if f"{here}.downsample.0.weight" in state:
                x = norm(conv(x, state, f"{here}.downsample.0", stride=stride), state, f"{here}.downsample.1")
            x = F.relu(x + y)
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def torchvision_densenet(x, state):
    """DenseNet-121: each layer takes all the features before it."""
    x = F.relu(norm(conv(x, state, "features.conv0", stride=2, padding=3), state, "features.norm0"))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    for block, layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, layers + 1):
            here = f"features.denseblock{block}.denselayer{layer}"
            y = conv(F.relu(norm(x, state, f"{here}.norm1")), state, f"{here}.conv1")
            y = conv(F.relu(norm(y, state, f"{here}.norm2")), state, f"{here}.conv2", padding=1)
            x = torch.cat([x, y], dim=1)
        if block < 4:
            here = f"features.transition{block}"
            x = F.avg_pool2d(conv(F.relu(norm(x, state, f"{here}.norm")), state, f"{here}.conv"), 2)
    return F.adaptive_avg_pool2d(F.relu(norm(x, state, "features.norm5")), 1).flatten(1)


def batch_norm_entries(name, channels):
    return {
        f"{name}.weight": torch.rand(channels) + 0.5, f"{name}.bias": torch.randn(channels) * 0.1,
        f"{name}.running_mean": torch.randn(channels) * 0.1, f"{name}.running_var": torch.rand(channels) + 0.5,
    }  # fmt: skip


def kernel(out, into, size):
    return torch.randn(out, into, size, size) * (2 / (into * size * size)) ** 0.5


def densenet_file():
    """A DenseNet-121 file as torchvision's: 364 weights under its own names, made without MONAI."""
    state = {"features.conv0.weight": kernel(64, 3, 7), **batch_norm_entries("features.norm0", 64)}
    width = 64
    for block, layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, layers + 1):
            here = f"features.denseblock{block}.denselayer{layer}"
            state |= batch_norm_entries(f"{here}.norm1", width) | {f"{here}.conv1.weight": kernel(128, width, 1)}
            state |= batch_norm_entries(f"{here}.norm2", 128) | {f"{here}.conv2.weight": kernel(32, 128, 3)}
            width += 32
        if block < 4:
            here = f"features.transition{block}"
            state |= batch_norm_entries(f"{here}.norm", width) | {f"{here}.conv.weight": kernel(width // 2, width, 1)}
            width //= 2
    state |= batch_norm_entries("features.norm5", width)
    return state | {"classifier.weight": torch.randn(1000, width), "classifier.bias": torch.zeros(1000)}


def resnet_file(blocks, *, bottleneck):
    """A ResNet file as torchvision's, made without MONAI."""
    state = {"conv1.weight": kernel(64, 3, 7), **batch_norm_entries("bn1", 64)}
    into = 64
    for stage, number in enumerate(blocks, start=1):
        width = 64 * 2 ** (stage - 1)
        out = 4 * width if bottleneck else width
        shapes = [(width, 1), (width, 3), (out, 1)] if bottleneck else [(width, 3), (width, 3)]
        for block in range(number):
            here, before = f"layer{stage}.{block}", into
            for position, (channels, size) in enumerate(shapes, start=1):
                state[f"{here}.conv{position}.weight"] = kernel(channels, before, size)
                state |= batch_norm_entries(f"{here}.bn{position}", channels)
                before = channels
            if into != out or (stage > 1 and block == 0):
                state[f"{here}.downsample.0.weight"] = kernel(out, into, 1)
                state |= batch_norm_entries(f"{here}.downsample.1", out)
            into = out
    return state | {"fc.weight": torch.randn(1000, into), "fc.bias": torch.zeros(1000)}


def with_counters(state):
    """As files of torch 0.4.1 and later have them."""
    names = [key.removesuffix("running_mean") for key in state if key.endswith("running_mean")]
    return state | {f"{name}num_batches_tracked": torch.tensor(7) for name in names}


PUBLISHED = {
    "resnet18": (lambda: resnet_file((2, 2, 2, 2), bottleneck=False), torchvision_resnet),
    "resnet50": (lambda: resnet_file((3, 4, 6, 3), bottleneck=True), torchvision_resnet),
    "densenet121": (densenet_file, torchvision_densenet),
}


@pytest.mark.parametrize(
    ("name", "counters"), [("resnet18", False), ("resnet18", True), ("resnet50", True), ("densenet121", False)]
)
def test_torchvision_weights_give_what_torchvision_computes_with_output_difference_0(name, counters, tmp_path):
    torch.manual_seed(0)
    make, forward = PUBLISHED[name]
    state = with_counters(make()) if counters else make()
    torch.save(state, tmp_path / "imagenet.pth")
    encoder = build_encoder(name, in_channels=3).eval()
    load_weights(encoder, tmp_path / "imagenet.pth")
    image = torch.rand(2, 1, 64, 64)
    expected = forward(image.repeat(1, 3, 1, 1), state)
    with torch.no_grad():
        assert torch.equal(encoder(image), expected)
    own = encoder.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in own if key in state)
    assert own.keys() - state.keys() == (set() if counters else {k for k in own if "num_batches" in k})
    # One channel: the same function of a grey image, but for the order in which three products are added.
    grey = build_encoder(name).eval()
    load_weights(grey, tmp_path / "imagenet.pth")
    with torch.no_grad():
        torch.testing.assert_close(grey(image), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_what_is_saved_of_a_densenet_has_torchvisions_names_in_torchvisions_order():
    names = [key for key in build_encoder("densenet121").state_dict() if "num_batches" not in key]
    assert names == [key for key in densenet_file() if not key.startswith("classifier")]


def test_densenet_weights_under_older_names_and_under_monais_load_too(tmp_path):
    from monai.networks.nets import DenseNet121

    torch.manual_seed(0)
    state = densenet_file()
    image = torch.rand(1, 1, 64, 64)
    encoder = build_encoder("densenet121", in_channels=3).eval()
    torch.save({re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", k): v for k, v in state.items()},
               tmp_path / "old.pth")  # fmt: skip
    load_weights(encoder, tmp_path / "old.pth")
    with torch.no_grad():
        torch.testing.assert_close(encoder(image), torchvision_densenet(image.repeat(1, 3, 1, 1), state))
    monai = DenseNet121(spatial_dims=2, in_channels=1, out_channels=1).eval()
    headless = {key: value for key, value in monai.state_dict().items() if not key.startswith("class_layers")}
    torch.save(headless, tmp_path / "monai.pth")
    grey = build_encoder("densenet121").eval()
    load_weights(grey, tmp_path / "monai.pth")
    with torch.no_grad():
        assert torch.equal(monai.class_layers.out(grey(image)), monai(image))


def test_a_model_with_classification_layer_of_the_library_is_read_without_it(tmp_path):
    transformers = pytest.importorskip("transformers", reason="the extra `encoders` is not installed")
    torch.manual_seed(0)
    config = transformers.ConvNextConfig(num_channels=3)
    whole = transformers.ConvNextForImageClassification(config).eval()
    torch.save(whole.state_dict(), tmp_path / "convnext.bin")
    encoder = build_encoder("convnext_tiny", in_channels=3).eval()
    load_weights(encoder, tmp_path / "convnext.bin")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(whole.classifier(encoder(image)), whole(image).logits)


# --- mistakes --------------------------------------------------------------------------------------------------------


def change(state, **new):
    return {**state, **{key.replace("__", "."): value for key, value in new.items()}}


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "features.norm5.bias"}, r"missing 1 \(features\.norm5\.bias\)"),
        (lambda s: change(s, features__extra=torch.zeros(1)), r"not wanted 1 \(features\.extra\)"),
        (lambda s: change(s, features__norm5__bias=torch.zeros(7)), r"norm5\.bias is \(7,\), .* needs \(1024,\)"),
        (lambda s: change(s, features__conv0__weight=kernel(64, 2, 7)), r"conv0\.weight is \(64, 2, 7, 7\)"),
        (lambda s: change(s, features__norm0__weight=3), "not a plain state dict of tensors"),
    ],
)
def test_weights_that_do_not_fit_are_an_error_that_shows_the_keys(spoil, named, tmp_path):
    torch.save(spoil(densenet_file()), tmp_path / "wrong.pth")
    with pytest.raises(CxrPairError, match=named) as caught:
        load_weights(build_encoder("densenet121"), tmp_path / "wrong.pth")
    assert "wrong.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_a_wrapper_has_renamed_or_nested_are_refused_with_what_to_do(tmp_path):
    state, file = OwnNet().state_dict(), tmp_path / "wrapped.pt"
    for wrapped, hint in (
        ({f"module.{key}": value for key, value in state.items()}, r"its keys begin with 'module\.': save it without"),
        ({f"model.net.{key}": value for key, value in state.items()}, r"its keys begin with 'model\.net\.'"),
        ({"state_dict": state, "epoch": 3}, r"it holds one as 'state_dict': save that alone"),
    ):
        torch.save(wrapped, file)
        with pytest.raises(CxrPairError, match=hint) as caught:
            load_weights(OwnNet(), file)
        assert "\n" not in str(caught.value)
    torch.save({"other.weight": torch.zeros(1)}, file)
    with pytest.raises(CxrPairError, match=r"not wanted 1 \(other\.weight\)$"):
        load_weights(OwnNet(), file)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, wrong):
    network = OwnNet()
    with torch.no_grad():
        network.fc.bias[2] = wrong
    torch.save(network.state_dict(), tmp_path / "spoiled.pt")
    with pytest.raises(CxrPairError, match=r"spoiled\.pt: fc\.bias holds NaN or infinite numbers"):
        load_weights(OwnNet(), tmp_path / "spoiled.pt")


def test_weights_of_a_network_of_ones_own_keep_its_last_layer(tmp_path):
    network = OwnNet()
    torch.save(OwnNet().state_dict(), tmp_path / "own.pt")
    load_weights(network, tmp_path / "own.pt")
    assert torch.equal(network.fc.weight, torch.load(tmp_path / "own.pt", weights_only=True)["fc.weight"])


@pytest.mark.parametrize(
    ("encoder", "settings", "named"),
    [
        ("resnet19", {}, r"encoder is 'resnet19': there are resnet18, .*convnext_tiny"),
        (7, {}, r"encoder is 7"),
        ("resnet18", {"in_channels": 2}, r"in_channels is 2"),
        ({"width": 3}, {}, r"needs _target_"),
        ({"_target_": "nowhere.Net"}, {}, r"nowhere\.Net cannot be made"),
        (
            {"_target_": "monai.networks.nets.EfficientNetBN", "model_name": "efficientnet-b0", "spatial_dims": 2},
            {},
            "would download weights: add `pretrained: false`",
        ),
        ({"_target_": "builtins.dict"}, {}, r"gives a dict, not a torch\.nn\.Module"),
        ({"_target_": OWN, "depth": 3}, {}, r"cannot be made \(.*depth"),
        ({"_target_": "torch.nn.Flatten", "start_dim": 2}, {}, r"features of shape \(B, F\)"),
        ({"_target_": OWN, "in_channels": 3}, {}, r"OwnNet does not take radiographs of shape \(1, 1, 32, 32\)"),
    ],
)
def test_an_encoder_that_cannot_be_is_one_line_that_names_the_setting(encoder, settings, named):
    with pytest.raises(CxrPairError, match=named) as caught:
        make_encoder(encoder, image_size=32, **settings)
    assert "\n" not in str(caught.value)


def test_a_network_of_ones_own_is_made_anew_each_time_with_its_arguments():
    definition = {"_target_": OWN, "width": 4, "in_channels": 3, "features": 6}
    first, second = (make_encoder(definition, in_channels=3, image_size=16) for _ in range(2))
    assert feature_dim(first) == 6
    assert first.conv.weight.shape == (4, 3, 3, 3)
    assert not torch.equal(first.conv.weight, second.conv.weight)
    assert definition == json.loads(json.dumps(definition))


class Pixels:
    def pixel_statistics(self):
        return 0.4, 0.3


def test_normalisation_is_measured_or_given():
    assert input_statistics("auto", Pixels()) == (0.4, 0.3)
    assert input_statistics([0.5, 1], Pixels()) == (0.5, 1.0)
    assert input_statistics((0, 0.25), Pixels()) == (0.0, 0.25)


@pytest.mark.parametrize(
    "wrong", ["no", None, 0.5, [], [0.5], [0.5, 0.2, 0.1], [0.5, 0], [0.5, -0.1], ["a", "b"], [128, 64],
              [float("nan"), 0.2], [0.5, float("inf")], [True, 0.2], {"mean": 0.5, "std": 0.2}],
)  # fmt: skip
def test_a_wrong_normalisation_is_one_line(wrong):
    with pytest.raises(
        CxrPairError, match=r"^normalisation is .*: use auto, or \[mean, standard deviation\]"
    ) as caught:
        input_statistics(wrong, Pixels())
    assert "\n" not in str(caught.value)
