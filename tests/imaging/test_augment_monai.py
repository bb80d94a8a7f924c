"""MONAI's dictionary transforms as augmentation, on their own and through the bundle's config."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import (
    Compose,
    NormalizeIntensityd,
    RandFlipd,
    RandGaussianNoised,
    RandLambdad,
    RandRotated,
    RandSpatialCropd,
    ScaleIntensityd,
)
from torch.utils.data import DataLoader

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import PairCacheDataset, as_tensors
from monai_cxrpair.imaging.augment_device import views_on_device
from monai_cxrpair.imaging.augment_monai import MonaiAugmentation, make_augmentation

SIZE = 24
CROP = RandSpatialCropd(keys="image", roi_size=[SIZE, SIZE], random_size=False)
IMAGES = [np.random.default_rng(i).integers(0, 256, (SIZE, SIZE + 3 * i)).astype(np.uint8) for i in range(5)]


def transform(*more):
    return Compose([RandFlipd(keys="image", prob=0.5, spatial_axis=1), *more, CROP])


def views(compose, seed=0, images=IMAGES):
    return MonaiAugmentation(compose).views(images, np.random.default_rng(seed), size=SIZE)


def test_views_are_8_bit_squares_and_belong_to_their_seed():
    compose = transform(RandRotated(keys="image", prob=1.0, range_x=0.2))
    one = views(compose)
    assert one.shape == (5, 1, SIZE, SIZE)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, views(compose))  # whatever it did before
    assert (one != views(compose, seed=1)).mean() > 0.5


def test_a_view_does_not_depend_on_those_before_it():
    compose = transform(RandGaussianNoised(keys="image", prob=0.5, std=0.05))
    np.testing.assert_array_equal(views(compose)[:2], views(compose, images=IMAGES[:2]))


def test_the_same_radiograph_gets_another_view_each_time():
    many = views(transform(), images=[IMAGES[4]] * 40)
    assert len({view.tobytes() for view in many}) > 15  # of 2 flips x 13 crops


def test_a_flip_and_a_crop_keep_every_grey_value():
    for view, image in zip(views(transform()), IMAGES, strict=True):
        found = [(view[0] == part[:, i : i + SIZE]).all()
                 for part in (image, image[:, ::-1]) for i in range(image.shape[1] - SIZE + 1)]  # fmt: skip
        assert any(found)


def test_noise_beyond_black_and_white_is_cut_off():
    noisy = views(
        Compose([RandGaussianNoised(keys="image", prob=1.0, std=0.1), CROP]), images=[np.zeros((24, 24), "u1")]
    )
    assert (noisy == 0).mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [RandFlipd(keys="image")],
            rf"shape \(1, {SIZE}, {SIZE + 3}\), not \(1, {SIZE}, {SIZE}\): end it with RandSpat",
        ),
        ([CROP, NormalizeIntensityd(keys="image")], rf"image_size {SIZE} must be finite and in \[0, 1\]"),
        ([CROP, ScaleIntensityd(keys="image", minv=0, maxv=255)], "values from 0 to 255"),
        ([CROP, RandLambdad(keys="image", func=lambda x: x * float("nan"))], "values from nan to nan"),
    ],
)
def test_what_is_no_view_is_an_error_that_names_the_size(steps, message):
    with pytest.raises(CxrPairError, match=message):
        views(Compose(steps), images=IMAGES[1:2])


@pytest.mark.parametrize("wrong", [None, "random_crop", 5, len, [CROP]])
def test_neither_settings_nor_a_transform_is_an_error(wrong):
    with pytest.raises(CxrPairError, match=r"augmentation is .*: use settings such as rotate_degrees, or _target_"):
        make_augmentation(wrong)


def test_transforms_without_chance_are_a_warning(caplog):
    MonaiAugmentation(Compose([ScaleIntensityd(keys="image")]))
    assert "augmentation has no random transform" in caplog.text
    caplog.clear()
    MonaiAugmentation(transform())
    assert not caplog.records


def test_they_run_on_the_cpu_only():
    augmentation = MonaiAugmentation(transform())
    assert not views_on_device("auto", device="cuda", augmentation=augmentation)
    with pytest.raises(CxrPairError, match="views_on is 'device', but the transforms of augmentation run on the CPU"):
        views_on_device("device", device="cuda", augmentation=augmentation)


@pytest.fixture
def cohort_file(tmp_path):
    """Twelve radiographs of six patients."""
    rows = []
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 40 + i)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), pixels)
        rows.append((f"i{i}", f"p{i // 2}", f"s{i // 2}", "frontal", f"{i}.png"))
    columns = ["image_id", "patient_id", "study_id", "laterality", "path"]
    cohort = Cohort(pd.DataFrame(rows, columns=columns), root=tmp_path, findings=[], source="test")
    cohort.write(tmp_path / "cohort.parquet")
    return tmp_path / "cohort.parquet"


def parser(bundle, cohort_file, *overlays, **settings):
    files = [bundle / "configs" / "train.yaml", *(bundle.parent / "configs" / f"{name}.yaml" for name in overlays)]
    made = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
    for key, value in {"cohort_file": str(cohort_file), "image_size": 32, "queue_size": 2, **settings}.items():
        made[key] = value
    return made


def batches(data, workers):
    data.set_epoch(1)
    return list(DataLoader(data, batch_size=2, num_workers=workers, collate_fn=as_tensors))


def test_the_overlay_trains_on_views_of_monai_whatever_the_number_of_workers(bundle, cohort_file):
    data = parser(bundle, cohort_file, "augmentation/monai").get_parsed_content("train#dataset")
    assert isinstance(data, PairCacheDataset)
    for one, two in zip(batches(data, 0), batches(data, 2), strict=True):
        assert one["query"].shape == (2, 1, 32, 32)
        assert torch.equal(one["query"], two["query"])
        assert torch.equal(one["key"], two["key"])
    data.set_epoch(2)
    assert not np.array_equal(data[0]["query"], batches(data, 0)[0]["query"][0])


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [("monai", {"_target_": "Compose"}), ("random_crop", {"crop_area": [0.95, 1.0], "rotate_degrees": 10.0}),
     ("strong", {"blur_probability": 0.5, "flip_probability": 0.5})],
)  # fmt: skip
def test_the_card_says_in_json_what_the_config_says(bundle, cohort_file, overlay, expected):
    config = parser(bundle, cohort_file, f"augmentation/{overlay}")
    card = config.get_parsed_content("card")["augmentation"]
    assert json.loads(json.dumps(card)).items() >= expected.items()
    if overlay == "monai":
        assert [step["_target_"] for step in card["transforms"]] == [
            "RandFlipd", "RandRotated", "RandBiasFieldd", "RandSpatialCropd"
        ]  # fmt: skip


def test_the_overlays_change_what_they_say_and_warn_of_nothing(bundle, cohort_file, caplog):
    strong = parser(bundle, cohort_file, "augmentation/strong").get_parsed_content("train#dataset").augmentation
    assert strong.crop_area == (0.5, 1.0)
    assert strong.intensity_probability == 0.8
    assert strong.noise_sd == (0.0, 0.03)
    assert "augmentation" not in caplog.text


def test_training_with_views_made_on_the_device_goes_the_same_way(bundle, cohort_file, tmp_path):
    """One step on the CPU device; views may differ by 2 of 255, so that the loss differs a little."""
    losses = {}
    for views_on in ("cpu", "device"):
        torch.manual_seed(0)
        config = parser(bundle, cohort_file, views_on=views_on, output_dir=str(tmp_path / views_on), batch_size=4,
                        max_epochs=1, precision="fp32", test_fraction=0.34, device="cpu")  # fmt: skip
        trainer = config.get_parsed_content("train#trainer")
        assert trainer.data_loader.dataset.views_on_device == (views_on == "device")
        trainer.run()
        losses[views_on] = trainer.state.metrics["loss"]
    assert losses["device"] == pytest.approx(losses["cpu"], abs=0.02)
