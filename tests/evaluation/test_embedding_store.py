import copy
import json
import logging
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation import embedding_store
from monai_cxrpair.evaluation.embed import embed
from monai_cxrpair.evaluation.embedding_store import embed_once, network_hash, pixels_hash
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.imaging import BatchLoader, RadiographCacheDataset


def brightness(item):
    """A radiograph whose pixels are told by the number in its file name."""
    number = int(Path(item["image"]).stem.rpartition("_")[2])
    return {"image": np.random.default_rng(number).random((1, 16, 18)).astype(np.float32)}


def loader_of(numbers=range(11), *, size=16, batch_size=4, root=Path("/hospital"), cache_dir=None):
    ids = [f"DOE_JANE_{number}" for number in numbers]
    table = pd.DataFrame({"image_id": ids, "patient_id": ids, "study_id": ids}, dtype="str")
    table["path"] = [f"{name}.png" for name in ids]
    cohort = Cohort(table, root=root, findings=[], source="table")
    dataset = RadiographCacheDataset(cohort, transform=brightness, image_size=size, num_workers=1, cache_dir=cache_dir)
    return BatchLoader(dataset, batch_size=batch_size)


def encoder_of(seed=0, *, mean=0.5, std=0.2, stride=1):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=stride), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
    return FrozenEncoder(network=network.eval(), mean=mean, std=std, card={})


def run(folder, encoders=None, loader=None):
    return embed_once(encoders or {"x": encoder_of()}, loader or loader_of(), device="cpu", folder=folder)


@pytest.fixture
def computed(monkeypatch):
    """Which encoders were run, one list for each call."""
    calls = []

    def spy(encoders, loader, *, device):
        calls.append(list(encoders))
        return embed(encoders, loader, device=device)

    monkeypatch.setattr(embedding_store, "embed", spy)
    return calls


def test_the_second_time_no_encoder_is_run_and_every_bit_is_the_same(tmp_path, computed, caplog):
    caplog.set_level(logging.INFO)
    direct = embed({"x": encoder_of()}, loader_of(), device="cpu")["x"]
    first, second = run(tmp_path)["x"], run(tmp_path)["x"]
    assert computed == [["x"]]
    for features in (first, second):
        assert (features.dtype, features.shape) == (np.float32, (11, 6))
        assert features.tobytes() == direct.tobytes()
    said = [message for message in caplog.messages if "reused" in message]
    assert "none reused; x computed now" in said[0]
    assert "x reused; none computed now" in said[1]
    # Another name, another batch size: the same encoder and radiographs.
    assert run(tmp_path, {"y": encoder_of()}, loader_of(batch_size=3))["y"].tobytes() == direct.tobytes()
    assert len(computed) == 1


def test_only_the_encoders_that_are_not_there_are_run_and_the_order_stays(tmp_path, computed):
    run(tmp_path, {"b": encoder_of(1)})
    found = run(tmp_path, {"a": encoder_of(0), "b": encoder_of(1), "c": encoder_of(2)})
    assert computed == [["b"], ["a", "c"]]
    assert list(found) == ["a", "b", "c"]
    assert len(list(tmp_path.iterdir())) == 3


def changed_weight():
    encoder = encoder_of()
    with torch.no_grad():
        encoder.network[0].weight.view(-1)[3] += 1e-6
    return encoder


def changed_statistics():
    encoder = encoder_of()
    encoder.network[1].running_mean[2] = 0.1
    return encoder


@pytest.mark.parametrize(
    ("encoder", "loader"),
    [
        (changed_weight, loader_of),
        (changed_statistics, loader_of),
        (lambda: encoder_of(stride=2), loader_of),
        (lambda: encoder_of(mean=0.51), loader_of),
        (lambda: encoder_of(std=0.21), loader_of),
        (encoder_of, lambda: loader_of([*range(10), 99])),
        (encoder_of, lambda: loader_of([1, 0, *range(2, 11)])),
        (encoder_of, lambda: loader_of(range(10))),
        (encoder_of, lambda: loader_of(size=12)),
    ],
    ids=["weight", "running mean", "stride", "mean", "std", "pixels", "order", "fewer", "size"],
)
def test_whatever_changes_the_embeddings_has_them_computed_anew(tmp_path, computed, encoder, loader):
    run(tmp_path)
    found = run(tmp_path, {"x": encoder()}, loader())["x"]
    assert computed == [["x"], ["x"]]
    assert found.tobytes() == embed({"x": encoder()}, loader(), device="cpu")["x"].tobytes()


def test_code_of_the_network_that_changed_is_another_network(tmp_path, monkeypatch):
    code = "import torch\nclass Own(torch.nn.Module):\n    def forward(self, x):\n        return x.mean((2, 3)) * {}\n"
    hashes = []
    for number, factor in enumerate((1, 2, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "own_network.py").write_text(code.format(factor))
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(folder))
            patch.delitem(__import__("sys").modules, "own_network", raising=False)
            hashes.append(network_hash(__import__("own_network").Own()))
    assert hashes[0] == hashes[2] != hashes[1]


def test_training_mode_and_memory_order_are_not_part_of_a_network():
    network = encoder_of().network
    other = copy.deepcopy(network).train().to(memory_format=torch.channels_last)
    assert network_hash(other) == network_hash(network)


def test_a_file_is_for_its_owner_only_and_names_nobody(tmp_path):
    run(tmp_path)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    content = file.read_bytes() + file.name.encode()
    assert all(word not in content for word in (b"DOE", b"JANE", b"hospital", b"png"))
    with np.load(file, allow_pickle=False) as stored:
        assert json.loads(str(stored["card"])).keys() == {"format", "key", "shape", "sha256"}


def flipped(file):
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)


def rewritten(file):
    """Other numbers in a file that is whole."""
    with np.load(file) as stored:
        features, card = stored["features"] + 1, stored["card"]
    with file.open("wb") as out:
        np.savez(out, features=features, card=card)


def renamed(file):
    """The file of another encoder under this one's name."""
    name = file.read_bytes()
    file.unlink()
    run(file.parent, {"x": encoder_of(5)})
    (other,) = file.parent.iterdir()
    assert other.read_bytes() != name
    other.rename(file)


@pytest.mark.parametrize(
    "harm",
    [
        flipped,
        rewritten,
        renamed,
        lambda file: file.write_bytes(file.read_bytes()[:-30]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"no numbers"),
        lambda file: np.savez(file.open("wb"), features=np.float32(3)),
    ],
    ids=["flipped", "rewritten", "renamed", "truncated", "empty", "text", "scalar"],
)
def test_a_damaged_file_is_reported_and_made_anew(tmp_path, computed, caplog, harm):
    good = run(tmp_path)["x"]
    (file,) = tmp_path.iterdir()
    harm(file)
    before = len(computed)
    assert run(tmp_path)["x"].tobytes() == good.tobytes()
    assert len(computed) == before + 1
    assert f"{file} is damaged" in caplog.text
    assert run(tmp_path)["x"].tobytes() == good.tobytes()
    assert len(computed) == before + 1


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch, computed):
    monkeypatch.chdir(tmp_path)
    run(None)
    run(None)
    assert len(computed) == 2
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_an_error_before_anything_is_computed(tmp_path, computed):
    (tmp_path / "file").write_text("")
    with pytest.raises(CxrPairError, match="embedding_dir"):
        run(tmp_path / "file" / "folder")
    assert not computed


def test_the_hash_of_the_pixels_is_the_same_in_memory_and_in_a_cache_folder(tmp_path):
    memory = loader_of().dataset
    for number in range(11):  # the cache folder wants files that are there
        (tmp_path / f"DOE_JANE_{number}.png").touch()
    on_disk = loader_of(root=tmp_path, cache_dir=tmp_path / "cache").dataset
    assert list((tmp_path / "cache").glob("*.pixels"))
    assert pixels_hash(on_disk) == pixels_hash(memory)
    assert pixels_hash(loader_of([0]).dataset) != pixels_hash(memory)
