"""The cached datasets: what is drawn, how it is seeded, what happens to unreadable files."""

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from monai.transforms import Compose
from torch.utils.data import DataLoader

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import (
    LoadRadiographd,
    PairCacheDataset,
    RadiographCacheDataset,
    ResizeShorterSided,
    as_tensors,
)
from monai_cxrpair.imaging.augment import Augmentation, ViewParams, apply_views
from monai_cxrpair.pairing import metadata_codes
from monai_cxrpair.pairing.codes import CODES

SIZE = 16
TRANSFORM = Compose([LoadRadiographd(keys="image"), ResizeShorterSided(keys="image", size=SIZE)])
UPRIGHT = {"rotate_degrees": 0.0, "flip_probability": 0.0}


@pytest.fixture
def cohort(tmp_path):
    """Six radiographs, each of its own brightness, a study of two for each of three patients."""
    rows = []
    for i in range(6):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((SIZE, SIZE + 4), 20 + 40 * i, np.uint8))
        rows.append((f"i{i}", f"p{i // 2}", f"s{i // 2}", "lateral" if i % 2 else "frontal", f"{i}.png"))
    columns = ["image_id", "patient_id", "study_id", "laterality", "path"]
    return Cohort(pd.DataFrame(rows, columns=columns), root=tmp_path, findings=[], source="test")


def dataset(cohort, **settings):
    settings = {"pairing": {"study": "same"}, "augmentation": UPRIGHT, "seed": 0, **settings}
    return PairCacheDataset(cohort, transform=TRANSFORM, image_size=SIZE, **settings)


def epoch(data, workers=0, epoch_number=1):
    data.set_epoch(epoch_number)
    loader = DataLoader(data, batch_size=2, num_workers=workers, collate_fn=as_tensors)
    return [{name: value.numpy() for name, value in batch.items()} for batch in loader]


def test_a_batch_has_the_shapes_of_the_contract_and_the_partner_of_the_study(cohort):
    batch = dataset(cohort, keys=3).__getitems__([0, 3, 4])
    assert batch["query"].shape == (3, 1, SIZE, SIZE)
    assert batch["key"].shape == (3, 3, 1, SIZE, SIZE)
    assert batch["query"].dtype == batch["key"].dtype == np.uint8
    assert batch["affinity"].shape == (3, 3)
    assert batch["key_row"].tolist() == [[1] * 3, [2] * 3, [5] * 3]
    assert np.unique(batch["key"][0]) == 60
    assert np.unique(batch["query"][0]) == 20
    assert batch["patient"].tolist() == [0, 1, 2]


def test_a_rule_that_finds_no_partner_at_all_is_a_warning(cohort, caplog):
    caplog.set_level("INFO")
    assert dataset(cohort).with_partner == 1.0
    assert "100.0 % of 6 radiographs have a partner" in caplog.text
    assert not [r for r in caplog.records if r.levelname == "WARNING"]
    assert dataset(cohort, pairing={"laterality": "same", "include_self": True}).with_partner == 0.0
    assert [r for r in caplog.records if r.levelname == "WARNING"]


def test_one_item_is_a_batch_of_one(cohort):
    item = dataset(cohort)[2]
    assert item["query"].shape == (1, SIZE, SIZE)
    assert item["key_row"].tolist() == [3]


@pytest.mark.parametrize("workers", [1, 2])
def test_pairs_and_views_do_not_depend_on_the_number_of_workers(cohort, workers):
    data = dataset(cohort, augmentation={}, pairing={})
    for one, two in zip(epoch(data), epoch(data, workers), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


def test_persistent_workers_see_the_epoch_and_no_epoch_repeats_another(cohort):
    data = dataset(cohort, augmentation={}, pairing={})
    loader = DataLoader(data, batch_size=2, num_workers=2, collate_fn=as_tensors, persistent_workers=True)
    views = []
    for number in (1, 2, 3):
        data.set_epoch(number)
        views += [batch["query"].numpy().tobytes() for batch in loader]
    assert len(set(views)) == 9


def test_the_two_views_of_one_radiograph_are_augmented_independently(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), noise)
    table = pd.DataFrame({"image_id": ["a"], "patient_id": ["p"], "study_id": ["s"], "path": ["a.png"]})
    one = Cohort(table, root=tmp_path, findings=[], source="test")
    item = dataset(one, pairing=None, augmentation={})[0]
    assert (item["query"] != item["key"][0]).any()


def test_unreadable_radiographs_are_left_out_counted_and_too_many_are_an_error(cohort, tmp_path):
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    data = dataset(cohort, max_unreadable=0.2)
    assert len(data) == 5
    assert data.cohort.table["image_id"].tolist() == ["i0", "i2", "i3", "i4", "i5"]
    assert len(data.unreadable) == 1
    assert data.unreadable == ["i1: the picture is damaged"]
    assert data[0]["key_row"].tolist() == [0]  # its partner is gone
    assert np.unique(data[1]["key"]) == 20 + 40 * 3
    with pytest.raises(CxrPairError, match=r"1 of 6 .*i1: the picture"):
        dataset(cohort)


def test_pixel_statistics_are_those_of_the_radiographs(cohort):
    grey = (20 + 40 * np.arange(6)) / 255
    mean, std = RadiographCacheDataset(cohort, transform=TRANSFORM, image_size=SIZE).pixel_statistics()
    assert mean == pytest.approx(grey.mean(), abs=1e-6)
    assert std == pytest.approx(grey.std(), abs=1e-6)


def view(image, *, angle=0.0, flip=False, size=SIZE):
    params = ViewParams(
        angle=np.array([angle]), flip=np.array([flip]), shift_x=np.array([0.5]), shift_y=np.array([0.5]),
        area=np.array([1.0]),
    )  # fmt: skip
    return apply_views([image], params, size=size)[0, 0]


def test_an_unaltered_view_is_the_centred_square():
    image = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE + 6)).astype(np.uint8)
    np.testing.assert_array_equal(view(image), image[:, 3:-3])


@pytest.mark.parametrize("shape", [(37, 16), (16, 21), (50, 31), (33, 90)])
def test_evaluation_and_inference_see_the_same_pixels(tmp_path, shape):
    from monai.transforms import CenterSpatialCropd

    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8))
    table = pd.DataFrame({"image_id": ["a"], "patient_id": ["p"], "study_id": ["s"], "path": ["a.png"]})
    one = Cohort(table, root=tmp_path, findings=[], source="test")
    cached = RadiographCacheDataset(one, transform=TRANSFORM, image_size=SIZE)[0]["image"]
    inference = Compose([TRANSFORM, CenterSpatialCropd(keys="image", roi_size=[SIZE, SIZE])])
    seen = inference({"image": str(tmp_path / "a.png")})["image"]
    np.testing.assert_allclose(cached / 255, seen, atol=0.501 / 255)


def test_a_flip_mirrors_and_a_quarter_turn_turns():
    image = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE)).astype(np.uint8)
    np.testing.assert_array_equal(view(image, flip=True), image[:, ::-1])
    turned = view(image, angle=90.0).astype(int)
    assert min(np.abs(turned - np.rot90(image, k)).max() for k in (1, 3)) <= 1


def test_drawn_parameters_stay_in_their_ranges():
    params = Augmentation(rotate_degrees=10, crop_area=(0.95, 1.0)).draw(2000, np.random.default_rng(0))
    assert -10 <= params.angle.min() < -9.8 < 9.8 < params.angle.max() <= 10
    assert 0.45 < params.flip.mean() < 0.55
    assert 0.95 <= params.area.min() <= params.area.max() <= 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"rotate": 5}, "rotate"), ({"flip_probability": 2}, "flip_probability"), ({"crop_area": [0, 1]}, "crop_area")],
)
def test_a_wrong_augmentation_setting_is_an_error_that_names_it(settings, named):
    with pytest.raises(CxrPairError, match=named):
        Augmentation.from_config(settings)


def test_the_shorter_side_gets_the_size_and_the_aspect_stays():
    image = torch.rand(1, 60, 100)
    resized = ResizeShorterSided(keys="image", size=30)({"image": image})["image"]
    assert tuple(resized.shape) == (1, 30, 50)
    np.testing.assert_allclose(resized, image.reshape(1, 30, 2, 50, 2).mean((2, 4)), atol=1e-6)


def test_arrays_that_are_no_radiographs_are_refused():
    with pytest.raises(CxrPairError, match="no radiograph"):
        LoadRadiographd(keys="image")({"image": np.full((3, 8, 8), 0.5)})


def test_pairing_without_known_patients_is_refused_before_any_image_is_read(cohort, tmp_path):
    nobodys = Cohort(cohort.table, root=tmp_path / "not there", findings=[], source="vindr", patients_known=False)
    with pytest.raises(CxrPairError, match="no patient ids"):
        dataset(nobodys)
    known = Cohort(cohort.table, root=tmp_path, findings=[], source="vindr", patients_known=False)
    assert dataset(known, pairing=None).__getitems__([2])["key_row"].tolist() == [[2]]


def test_with_require_partner_only_radiographs_with_a_candidate_are_queries(cohort, caplog):
    caplog.set_level("INFO")
    lonely = cohort.take(np.array([4, 0, 1, 2]))  # i4 and i2 have lost their partners
    data = dataset(lonely, pairing={"study": "same", "require_partner": True})
    assert len(data) == 2
    assert "50.0 % of 4 radiographs have a partner" in caplog.text
    assert "2 are queries" in caplog.text
    sampler = torch.utils.data.DistributedSampler(data, num_replicas=1, rank=0, seed=0)
    batches = list(DataLoader(data, batch_size=1, sampler=sampler, collate_fn=as_tensors))
    assert sorted((int(b["row"]), int(b["key_row"])) for b in batches) == [(1, 2), (2, 1)]
    assert {(int(b["row"]), int(b["query"].max())) for b in batches} == {(1, 20), (2, 60)}
    with pytest.raises(CxrPairError, match="require_partner leaves no query"):
        dataset(lonely, pairing={"study": "distinct", "require_partner": True})


def test_a_batch_carries_the_codes_of_query_and_keys_in_its_order(cohort):
    data = dataset(cohort, keys=2, pairing={"study": "any"})
    batch = data.__getitems__([3, 0])
    codes = metadata_codes(cohort)
    assert batch["codes"].shape == (2, 3, len(CODES))
    assert batch["codes"].dtype == np.int64
    np.testing.assert_array_equal(batch["codes"][:, 0], codes[[3, 0]])
    np.testing.assert_array_equal(batch["codes"][:, 1:], codes[batch["key_row"]])
    np.testing.assert_array_equal(batch["study"], codes[[3, 0], CODES.index("study")])


def test_affinities_change_weights_but_neither_pairs_nor_views(cohort):
    table = cohort.table.drop(columns="study_order")
    table["study_id"] = table["image_id"]  # each radiograph its own study, two per patient, without dates
    apart = Cohort(table, root=cohort.root, findings=[], source="test")
    settings = {"keys": 4, "pairing": {"include_self": True}, "augmentation": {}}
    plain = dataset(apart, **settings).__getitems__([0, 2, 5])
    rule = {"kernel": "exponential", "half_life_studies": 1, "other_laterality": 0.5}
    weighted = dataset(apart, affinity=rule, **settings).__getitems__([0, 2, 5])
    for name in set(plain) - {"affinity"}:
        np.testing.assert_array_equal(plain[name], weighted[name])
    assert (plain["affinity"] == 1).all()
    own = weighted["key_row"] == weighted["row"][:, None]
    assert own.any()
    assert not own.all()
    np.testing.assert_array_equal(weighted["affinity"], np.where(own, np.float32(1), np.float32(0.25)))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"keys": 0}, "keys_per_query is 0"), ({"keys": 1.5}, "keys_per_query is 1.5"),
     ({"affinity": {"kernel": "linear"}}, "affinity#kernel is 'linear'")],
)  # fmt: skip
def test_wrong_keys_and_affinities_are_errors_before_any_image_is_read(cohort, tmp_path, settings, named):
    for file in tmp_path.glob("*.png"):
        file.unlink()
    with pytest.raises(CxrPairError, match=named):
        dataset(cohort, **settings)


def test_affinities_without_known_patients_are_refused(cohort, tmp_path):
    nobodys = Cohort(cohort.table, root=tmp_path, findings=[], source="vindr", patients_known=False)
    with pytest.raises(CxrPairError, match="vindr cohort has no patient ids to find positives by"):
        dataset(nobodys, pairing=None, affinity={"kernel": "step"})
