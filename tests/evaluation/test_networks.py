"""The networks that cards speak of: nothing is made from a card but what the package knows by name."""

import copy
import json

import pytest
import torch
from monai.bundle import ckpt_export, verify_net_in_out
from torch import nn

from monai_cxrpair.contrast import build_encoder, save_encoder
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation import classifier_network, load_classifier
from monai_cxrpair.evaluation.classifier import build_classifier, save_classifier
from monai_cxrpair.evaluation.encoders import FrozenEncoder, load_encoders, named_files
from monai_cxrpair.evaluation.networks import network_plan

CARD = {"format": "cxrpair-encoder/1", "encoder": "resnet18",
        "preprocessing": {"image_size": 32, "mean": 0.5, "std": 0.25}}  # fmt: skip


class Probe:
    """As much of a `LinearProbe` as a classifier takes."""

    def __init__(self, features):
        self.weight = torch.randn(features).numpy()

    def as_linear(self):
        return self.weight, 0.25


class OwnNet(nn.Module):
    made = 0

    def __init__(self, width=4):
        super().__init__()
        OwnNet.made += 1
        self.conv = nn.Conv2d(1, width, 3)

    def forward(self, x):
        return self.conv(x).mean(dim=(2, 3))


OWN = {"_target_": f"{__name__}.OwnNet", "width": 6}

OTHER = {"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 2}


def saved(folder, encoder, **card):
    """An encoder with its card, as training writes them."""
    if isinstance(encoder, str) and encoder.startswith(("vit", "convnext")):
        pytest.importorskip("transformers", reason="the extra `encoders` is not installed")
    torch.manual_seed(5)
    network = build_encoder(encoder, in_channels=card.get("in_channels", 1), image_size=32)
    folder.mkdir(exist_ok=True)
    save_encoder(network, folder / "encoder.pt", {**CARD, "encoder": encoder, **card})
    return str(folder / "encoder.pt")


def test_a_card_that_names_code_is_refused_and_nothing_is_run(tmp_path):
    file = saved(tmp_path, OWN)
    before = OwnNet.made
    with pytest.raises(CxrPairError, match=r"OwnNet\), and no code that a card names is run; .* set encoder") as caught:
        load_encoders(file, imagenet_weights=None, seed=0)
    assert "\n" not in str(caught.value)
    assert OwnNet.made == before
    encoders, _ = load_encoders(file, imagenet_weights=None, seed=0, own_encoder=OWN)
    trained = torch.load(file, weights_only=True)["conv.weight"]
    assert torch.equal(encoders[tmp_path.name].network.conv.weight, trained)
    assert not torch.equal(encoders["random weights"].network.conv.weight, trained)


def test_the_users_own_definition_must_fit_the_weights_key_by_key_and_a_difference_is_said(tmp_path, caplog):
    file = saved(tmp_path, OWN)
    with pytest.raises(CxrPairError, match=r"conv\.weight is \(6, 1, 3, 3\), the encoder needs \(4, 1, 3, 3\)"):
        load_encoders(file, imagenet_weights=None, seed=0, own_encoder={"_target_": OWN["_target_"]})
    assert "only the names and shapes of its weights are checked" in caplog.text
    with pytest.raises(CxrPairError, match=r"missing .*not wanted"):
        load_encoders(file, imagenet_weights=None, seed=0, own_encoder=OTHER)


@pytest.mark.parametrize("evil", [{"_target_": "os.system", "command": "false"}, "$__import__('os')", ["os.system"], 3])
def test_whatever_a_card_names_is_never_evaluated(evil):
    with pytest.raises(CxrPairError):
        network_plan({**CARD, "encoder": evil}, None, source="encoder.pt").build()


def test_a_name_that_contradicts_the_card_is_an_error():
    assert network_plan(CARD, "resnet18", source="e.pt").kind == "resnet18"
    with pytest.raises(CxrPairError, match=r"encoder is resnet50, but e\.pt is a resnet18"):
        network_plan(CARD, "resnet50", source="e.pt")


def test_a_card_of_before_there_were_channels_is_of_one_channel(tmp_path):
    file = saved(tmp_path, "resnet18")
    path = tmp_path / "encoder.json"
    card = json.loads(path.read_text())
    assert card.pop("versions").keys() == {"monai-cxrpair", "monai", "torch", "python"}
    path.write_text(json.dumps(card))
    encoders, _ = load_encoders(file, imagenet_weights=None, seed=0)
    assert encoders[tmp_path.name].network.conv1.weight.shape[1] == 1


@pytest.mark.parametrize(
    ("spoil", "lacking"),
    [
        (lambda card: card.pop("preprocessing"), "preprocessing#image_size, preprocessing#mean, preprocessing#std"),
        (lambda card: card["preprocessing"].pop("std"), "preprocessing#std"),
        (lambda card: card.update(preprocessing=3), "preprocessing#image_size, preprocessing#mean, preprocessing#std"),
        (lambda card: card.pop("encoder"), "encoder"),
    ],
)
def test_a_card_that_lacks_what_the_network_is_made_from_is_an_error_that_names_it(tmp_path, spoil, lacking):
    file, path = saved(tmp_path, "resnet18"), tmp_path / "encoder.json"
    card = json.loads(path.read_text())
    spoil(card)
    path.write_text(json.dumps(card))
    with pytest.raises(CxrPairError, match=rf"encoder\.json: the encoder's card lacks {lacking}: "):
        load_encoders(file, imagenet_weights=None, seed=0)
    (tmp_path / "model.json").write_text(json.dumps({"format": "cxrpair-classifier/1", "encoder_card": card}))
    with pytest.raises(CxrPairError, match=rf"model\.json: the encoder's card lacks {lacking}: "):
        classifier_network(tmp_path / "model.pt")


def test_each_kind_of_network_has_its_own_random_baseline(tmp_path):
    files = {
        "a": saved(tmp_path / "a", "resnet18"), "b": saved(tmp_path / "b", "resnet18", in_channels=3),
        "c": saved(tmp_path / "c", OWN), "d": saved(tmp_path / "d", "resnet18"),
    }  # fmt: skip
    encoders, not_run = load_encoders(files, imagenet_weights=None, seed=0, own_encoder=OWN)
    kinds = ["resnet18", "resnet18, 3 channels", "OwnNet"]
    assert list(encoders) == [*(f"random weights ({kind})" for kind in kinds), *"abcd"]
    assert not_run == {f"ImageNet weights ({kind})": "no file was given (imagenet_weights)" for kind in kinds}
    encoders, not_run = load_encoders({"a": files["a"], "c": files["c"]}, seed=0, own_encoder=OWN,
                                      imagenet_weights=files["d"])  # fmt: skip
    assert list(encoders)[:3] == ["random weights (resnet18)", "ImageNet weights (resnet18)", "random weights (OwnNet)"]
    assert not_run == {"ImageNet weights (OwnNet)": "the file is for resnet18 (imagenet_weights)"}
    alone, _ = load_encoders(files["c"], imagenet_weights=None, seed=0, own_encoder=OWN)
    weight = encoders["random weights (OwnNet)"].network.conv.weight
    assert torch.equal(alone["random weights"].network.conv.weight, weight)
    with pytest.raises(CxrPairError, match="name of a baseline"):
        named_files({"random weights (resnet18)": files["a"]})


def classifier_of(tmp_path, encoder, **card):
    """A classifier as evaluating writes it, and the network it was saved from."""
    file = saved(tmp_path, encoder, **card)
    own = encoder if isinstance(encoder, dict) else None
    frozen = load_encoders(file, imagenet_weights=None, seed=0, own_encoder=own)[0][tmp_path.name]
    features = frozen.network(torch.zeros(1, 1, 32, 32)).shape[1]
    network = build_classifier(frozen, Probe(features))
    save_classifier(network, tmp_path, {"preprocessing": CARD["preprocessing"], "encoder_card": frozen.card})
    return frozen, network


@pytest.mark.parametrize(
    ("encoder", "channels"),
    [("resnet18", 3), ("densenet121", 1), ("vit_small", 1), ("convnext_tiny", 3), (OWN, 1)],
    ids=["resnet", "densenet", "vit", "convnext", "own"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_a_classifier_is_rebuilt_from_its_card_and_exported(encoder, channels, tmp_path, bundle):
    frozen, network = classifier_of(tmp_path, encoder, in_channels=channels)
    own = encoder if isinstance(encoder, dict) else None
    model = str(tmp_path / "model.pt")
    rebuilt = load_classifier(classifier_network(model, own_encoder=own), model)
    image = torch.rand(2, 1, 32, 32)
    weight, bias = network.fc.weight, network.fc.bias
    with torch.no_grad():
        assert torch.equal(rebuilt(image), network(image))
        torch.testing.assert_close(rebuilt(image), frozen.network(image) @ weight.T + bias)
    meta = json.loads((bundle / "configs" / "metadata.json").read_text())
    meta["network_data_format"]["inputs"]["image"]["spatial_shape"] = [32, 32]
    (tmp_path / "metadata.json").write_text(json.dumps(meta))
    configs = {"meta_file": str(tmp_path / "metadata.json"), "config_file": str(bundle / "configs/inference.yaml"),
               "model_file": model, **({"encoder": own} if own else {})}  # fmt: skip
    verify_net_in_out("network_def", **configs)
    by_tracing = isinstance(encoder, str) and encoder.startswith(("vit", "convnext"))  # transformers is no TorchScript
    ckpt_export("network_def", filepath=str(tmp_path / "model.ts"), ckpt_file=model, use_trace=by_tracing,
                input_shape=[2, 1, 32, 32], **configs)  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), network(image), rtol=1e-4, atol=1e-4)


def test_a_classifier_whose_card_names_code_is_refused(tmp_path):
    classifier_of(tmp_path, OWN)
    with pytest.raises(CxrPairError, match=r"model\.pt: its card names a network of somebody's own"):
        classifier_network(tmp_path / "model.pt")


def test_the_first_classifiers_load_too(tmp_path):
    """They kept the encoder's weights beside `fc`."""
    _, network = classifier_of(tmp_path, "resnet18")
    flat = {key.removeprefix("encoder."): value for key, value in network.state_dict().items()}
    torch.save(flat, tmp_path / "model.pt")
    loaded = load_classifier(classifier_network(tmp_path / "model.pt"), tmp_path / "model.pt")
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))


def test_the_classifier_does_not_share_weights_with_the_encoder(tmp_path):
    network = build_encoder("resnet18").eval()
    frozen = FrozenEncoder(network=network, mean=0.5, std=0.25, card=CARD)
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        for parameter in build_classifier(frozen, Probe(512)).parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
