"""Which pictures are unlike the radiographs that a classifier was trained on?"""

import csv
import json

import cv2
import numpy as np
import pytest

from monai_cxrpair.evaluation.input_check import (
    COMPONENTS,
    FEWEST,
    CheckInputd,
    InputLimits,
    input_statistics,
    training_statistics,
)
from monai_cxrpair.imaging import read_radiograph

SIZE = 64


def _pictures(number, seed):
    """A bright middle between two dark sides, each a little different."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-1, 1, SIZE)
    out = []
    for _ in range(number):
        middle = np.exp(-((x - rng.normal(0, 0.05)) ** 2) / rng.uniform(0.08, 0.15))
        rows = 1 + 0.3 * rng.normal() * np.linspace(-1, 1, SIZE)
        picture = 0.2 + 0.5 * middle[None] * rows[:, None] + rng.normal(0, 0.02, (SIZE, SIZE))
        out.append(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8))
    return out


def _statistics(number=100, seed=0):
    return input_statistics(_pictures(number, seed), [1.2] * number, [1000] * number)


def _outside(statistics, picture, side=1000):
    tall = np.pad(picture, ((6, 6), (0, 0)), mode="edge").astype(np.float32) / 255  # 1.19 times as high as wide
    return InputLimits(statistics, image_size=SIZE).outside(tall, side=side)


def test_the_statistics_are_plain_json_and_say_of_how_many():
    statistics = json.loads(json.dumps(_statistics(), allow_nan=False))
    assert statistics["radiographs"] == 100
    assert statistics["quantiles"]["side"]["0.5"] == 1000
    mean = np.median([p.mean() / 255 for p in _pictures(100, 0)])
    assert statistics["quantiles"]["mean"]["0.5"] == pytest.approx(mean, abs=1e-3)
    assert len(statistics["components"]) == 2
    assert len(_statistics(60 * COMPONENTS)["components"]) == COMPONENTS
    assert input_statistics(_pictures(FEWEST - 1, 0), [1.0] * (FEWEST - 1), [None] * (FEWEST - 1)) is None


def test_training_statistics_are_those_of_the_rows_asked_for_with_the_sizes_that_the_headers_say(tmp_path):
    class Cached:
        """As a RadiographCacheDataset: whole pictures, and their centres as views."""

        def __init__(self):
            self.whole = [np.pad(p, ((8, 8), (0, 0)), mode="edge") for p in _pictures(30, 0)]
            self.data = [{"image": str(tmp_path / f"{n}.png")} for n in range(30)]

        def radiographs(self, rows):
            return [self.whole[row] for row in rows]

        def __getitems__(self, rows):
            return {"image": np.stack([self.whole[row][8:-8] for row in rows])[:, None]}

    dataset = Cached()
    for number, item in enumerate(dataset.data[:-1]):  # one has no file any more
        assert cv2.imwrite(item["image"], np.zeros((500 + number, 400), np.uint8))
    statistics = training_statistics(dataset, np.arange(5, 30), seed=0)
    assert statistics["radiographs"] == 25
    assert statistics["quantiles"]["side"]["0.5"] == 400
    assert statistics["quantiles"]["aspect"]["0.5"] == pytest.approx(np.log(80 / 64), abs=1e-4)
    same = input_statistics(_pictures(30, 0)[5:], [80 / 64] * 25, [400] * 25)
    assert statistics["mean_view"] == same["mean_view"]


def test_what_is_like_the_training_set_is_not_flagged():
    statistics = _statistics()
    assert [_outside(statistics, picture) for picture in _pictures(200, 1)].count("") >= 198


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda p: 255 - p, "arranged otherwise"),
        (lambda p: p.T, "showing what they do not show"),
        (lambda p: np.random.default_rng(0).integers(0, 256, p.shape).astype(np.uint8), "noisier"),
        (lambda p: np.zeros_like(p), "less contrast"),
        (lambda p: p // 8, "darker"),
        (lambda p: np.clip(p.astype(int) + 140, 0, 255).astype(np.uint8), "larger white part"),
    ],
)
def test_what_is_unlike_the_training_set_is_flagged_and_the_words_say_in_what(change, word):
    picture = np.ascontiguousarray(change(_pictures(1, 2)[0]))
    assert word in _outside(_statistics(), picture)


def test_radiographs_of_fewer_pixels_than_the_network_sees_are_flagged_and_larger_ones_are_not():
    picture = _pictures(1, 2)[0]
    assert "of fewer pixels" in _outside(_statistics(), picture, side=SIZE - 1)
    assert _outside(_statistics(), picture, side=5000) == ""
    assert _outside(_statistics(), picture, side=None) == ""


def test_a_long_strip_is_flagged():
    strip = np.concatenate([_pictures(1, 2)[0]] * 3).astype(np.float32) / 255
    assert "taller" in InputLimits(_statistics(), image_size=SIZE).outside(strip, side=1000)


def test_the_transform_changes_no_pixels_and_adds_to_earlier_warnings():
    picture = (255 - _pictures(1, 2)[0])[None].astype(np.float32) / 255
    out = CheckInputd(keys="image", statistics=_statistics(), image_size=SIZE)({"image": picture, "warning": "first"})
    assert out["image"] is picture
    assert out["warning"].startswith("first; unlike the training radiographs: ")


@pytest.mark.data
def test_of_real_radiographs_of_other_patients_hardly_one_is_flagged_and_inverted_ones_are(shared_data):
    with (shared_data / "nih_1000" / "index.csv").open() as stream:
        rows = list(csv.DictReader(stream))[:400]
    patients = sorted({row["patient_id"] for row in rows})
    training = set(patients[::2])
    views = {True: [], False: []}
    for row in rows:
        pixels = read_radiograph(shared_data / "nih_1000" / row["path"])[0]
        small = cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)  # these are square
        views[row["patient_id"] in training].append(small)
    seen = [np.rint(view * 255).astype(np.uint8) for view in views[True]]
    limits = InputLimits(input_statistics(seen, [1.0] * len(seen), [None] * len(seen)), image_size=SIZE)
    others = views[False]
    flagged = [bool(limits.outside(view, side=None)) for view in others]
    inverted = [bool(limits.outside(1 - view, side=None)) for view in others]
    assert len(others) > 100
    assert np.mean(flagged) <= 0.02
    assert np.mean(inverted) >= 0.95
