"""Views made where the network trains equal those that OpenCV makes."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.utils.data import DataLoader

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import PairCacheDataset, as_tensors
from monai_cxrpair.imaging.augment import Augmentation, apply_views
from monai_cxrpair.imaging.augment_device import make_views, pack_sources, views_of, views_on_device

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
# Everything but noise, stronger than anybody would.
ALL = {"rotate_degrees": 180, "crop_area": [0.2, 1.0], "crop_aspect": [0.6, 1.6], "intensity_probability": 0.8,
       "brightness": [-0.4, 0.4], "contrast": [0.2, 3.0], "gamma": [0.3, 3.0], "blur_probability": 0.5,
       "blur_sigma": [0.0, 6.0]}  # fmt: skip


def on_device(images, drawn, size, device):
    packed = {name: torch.from_numpy(part).to(device) for name, part in pack_sources(images, drawn, size=size).items()}
    return views_of(**packed, size=size).cpu().numpy()


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shapes=st.lists(st.tuples(st.integers(8, 70), st.integers(8, 70)), min_size=1, max_size=5),
    more=st.integers(0, 40),
    options=st.sets(st.sampled_from(sorted(ALL))),
)
def test_the_device_makes_the_views_of_the_cpu_within_2_of_255(device, seed, shapes, more, options):
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, shape).astype(np.uint8) for shape in shapes]
    drawn = Augmentation.from_config({name: ALL[name] for name in options}).draw(len(images), rng)
    size = max(min(shape) for shape in shapes) + more
    views, expected = on_device(images, drawn, size, device), apply_views(images, drawn, size=size)
    assert views.dtype == np.uint8
    assert views.shape == expected.shape
    np.testing.assert_allclose(views.astype(int), expected, rtol=0, atol=2)


def test_nearly_all_pixels_are_the_same_at_the_usual_size():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape).astype(np.uint8) for shape in [(224, 270), (251, 224), (224, 224)]]
    drawn = Augmentation.from_config(ALL).draw(3, rng)
    different = on_device(images, drawn, 224, "cpu") != apply_views(images, drawn, size=224)
    assert different.mean() < 0.002


def test_nothing_of_the_padding_is_seen_at_the_edges():
    """A white image in a batch with a larger one: at its edge it falls off to black as it does alone."""
    images = [np.full((40, 40), 255, np.uint8), np.full((40, 90), 255, np.uint8)]
    drawn = Augmentation(rotate_degrees=30).draw(2, np.random.default_rng(0))
    both = on_device(images, drawn, 40, "cpu")
    np.testing.assert_allclose(both.astype(int), apply_views(images, drawn, size=40), atol=2)
    assert both[0].min() == 0


def test_a_very_long_radiograph_does_not_pad_the_batch_to_its_length():
    images = [np.full((32, 36), 255, np.uint8), np.full((32, 3000), 255, np.uint8)]
    source = pack_sources(images, Augmentation().draw(2, np.random.default_rng(0)), size=32)["source"]
    assert source.shape[2] == 32
    assert source.shape[3] <= 40  # 32 (cos 10 + sin 10) and the next pixel


@pytest.mark.parametrize("device", DEVICES)
def test_noise_has_the_distribution_of_the_cpu_s(device):
    images = [np.full((120, 120), 128, np.uint8)] * 4
    settings = {"rotate_degrees": 0, "noise_probability": 1.0, "noise_sd": [0.03, 0.03]}
    drawn = Augmentation.from_config(settings).draw(4, np.random.default_rng(0))
    here, there = (
        apply_views(images, drawn, size=120).astype(float),
        on_device(images, drawn, 120, device).astype(float),
    )
    assert stats.ks_2samp(here.ravel(), there.ravel()).pvalue > 0.001
    assert there.std() == pytest.approx(255 * 0.03, rel=0.02)
    flat = there.reshape(4, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 0.04  # each view has its own
    np.testing.assert_array_equal(there, on_device(images, drawn, 120, device))
    other = Augmentation.from_config(settings).draw(4, np.random.default_rng(1))
    assert (there != on_device(images, other, 120, device)).mean() > 0.8


@pytest.fixture
def cohort(tmp_path):
    rows = [(f"i{i}", f"p{i // 2}", f"s{i // 2}", f"{i}.png") for i in range(6)]
    table = pd.DataFrame(rows, columns=["image_id", "patient_id", "study_id", "path"])
    return Cohort(table, root=tmp_path, findings=[], source="test")


def load(data):
    """In place of a reader: a random radiograph for each path, of a shape of its own."""
    rng = np.random.default_rng(ord(data["image"][-5]))
    return {"image": rng.random((1, 24, 24 + int(rng.integers(0, 20))), dtype=np.float32)}


def dataset(cohort, **changed):
    arguments = {"pairing": {}, "augmentation": ALL, "keys": 2, "seed": 3, **changed}
    return PairCacheDataset(cohort, transform=load, image_size=24, **arguments)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_turned_into_views_on_the_device_equals_the_one_made_by_the_loader(cohort, workers):
    def batches(views_on):
        data = dataset(cohort, views_on=views_on)
        data.set_epoch(2)
        return list(DataLoader(data, batch_size=3, num_workers=workers, collate_fn=as_tensors))

    for views, sources in zip(batches("cpu"), batches("device"), strict=True):
        assert "query" not in sources
        made = make_views(sources, size=24)
        assert made.keys() == views.keys()
        for name in views:
            assert made[name].shape == views[name].shape
            assert made[name].dtype == views[name].dtype
            tolerance = 2 if name in ("query", "key") else 0
            assert (made[name].int() - views[name].int()).abs().max() <= tolerance
        assert make_views(views, size=24).keys() == views.keys()


def test_one_item_holds_its_sources_and_those_of_all_its_keys(cohort):
    item = dataset(cohort, views_on="device")[1]
    assert item["query_source"].shape[0] == 1
    assert item["key_source"].shape[:2] == (2, 1)
    assert item["key_matrix"].shape == (2, 2, 3)


def test_auto_makes_views_on_a_gpu_only():
    ours = Augmentation()
    assert not views_on_device("auto", device="cpu", augmentation=ours)
    assert views_on_device("auto", device="cuda", augmentation=ours)
    assert views_on_device("device", device=torch.device("cpu"), augmentation=ours)
    assert not views_on_device("cpu", device="cuda:1", augmentation=ours)
    with pytest.raises(CxrPairError, match="views_on is 'gpu': use auto, cpu or device"):
        views_on_device("gpu", device="cuda", augmentation=ours)
