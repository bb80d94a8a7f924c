"""Settings and draws of the augmentation."""

import numpy as np
import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.augment import Augmentation, ViewParams, grey_table

GEOMETRY = ("angle", "flip", "shift_x", "shift_y", "area")
OPTIONS = {
    "crop_aspect": {"crop_aspect": [0.75, 1.333]},
    "table": {"intensity_probability": 0.5},
    "blur": {"blur_probability": 0.5},
    "noise": {"noise_probability": 0.5},
}


def two_draws(n=7, **settings):
    """Of the queries and of the keys, as a batch draws them, and what follows in the generator."""
    rng = np.random.default_rng([3, 1, 4])
    augmentation = Augmentation.from_config(settings)
    return augmentation.draw(n, rng), augmentation.draw(n, rng), rng.random()


def test_the_draws_of_the_paper_s_settings_are_those_of_the_first_release():
    rng = np.random.default_rng([7, 1])
    drawn = Augmentation.from_config({"crop_area": [0.95, 1.0]}).draw(3, rng)
    np.testing.assert_allclose(drawn.angle, [5.40281902, -7.76145511, -6.21804533], rtol=1e-8)
    assert drawn.flip.tolist() == [True, True, False]
    np.testing.assert_allclose(drawn.shift_x, [0.99282659, 0.30638124, 0.32585403], rtol=1e-7)
    np.testing.assert_allclose(drawn.shift_y, [0.5245939, 0.24691523, 0.03557349], rtol=1e-7)
    np.testing.assert_allclose(drawn.area, [0.98911476, 0.99535134, 0.99229322], rtol=1e-8)
    assert rng.random() == pytest.approx(0.34238636375490694, abs=1e-15)
    assert (drawn.aspect, drawn.table, drawn.blur, drawn.noise) == (None, None, None, None)


@pytest.mark.parametrize("off", [*OPTIONS, "none"])
def test_switching_an_option_changes_no_other_draw_of_queries_or_keys(off):
    everything = {key: value for setting in OPTIONS.values() for key, value in setting.items()}
    without = {key: value for name, setting in OPTIONS.items() if name != off for key, value in setting.items()}
    *all_on, after_all = two_draws(**everything)
    *some_on, after_some = two_draws(**without)
    *plain, after_plain = two_draws()
    assert after_all == after_some == after_plain
    for on, some, geometry in zip(all_on, some_on, plain, strict=True):
        for name in GEOMETRY:
            np.testing.assert_array_equal(getattr(on, name), getattr(geometry, name))
        for name in {"aspect", "table", "blur", "noise", "noise_seed"} - {off.removeprefix("crop_")}:
            if not (off == "noise" and name == "noise_seed"):
                np.testing.assert_array_equal(getattr(on, name), getattr(some, name))


def test_the_views_of_keys_are_drawn_apart_from_those_of_queries():
    query, key, _ = two_draws(**{k: v for setting in OPTIONS.values() for k, v in setting.items()})
    for name in ("aspect", "noise_seed"):
        assert not np.intersect1d(getattr(query, name), getattr(key, name)).size


def test_probabilities_and_ranges_are_kept():
    settings = {"crop_area": [0.3, 0.6], "crop_aspect": [0.5, 2.0], "blur_probability": 0.25, "blur_sigma": [1.0, 3.0],
                "noise_probability": 0.75, "noise_sd": [0.1, 0.2], "intensity_probability": 0.4}  # fmt: skip
    drawn = Augmentation.from_config(settings).draw(4000, np.random.default_rng(0))
    assert 0.5 <= drawn.aspect.min() < 0.51
    assert 1.97 < drawn.aspect.max() <= 2.0
    assert 0.48 < (drawn.aspect < 1).mean() < 0.52  # as often higher as wide
    assert 0.3 <= drawn.area.min() <= drawn.area.max() <= 0.6
    assert (drawn.blur > 0).mean() == pytest.approx(0.25, abs=0.03)
    assert 1.0 <= drawn.blur[drawn.blur > 0].min() < 1.05 < 2.95 < drawn.blur.max() <= 3.0
    assert (drawn.noise > 0).mean() == pytest.approx(0.75, abs=0.03)
    assert 25.5 <= drawn.noise[drawn.noise > 0].min() <= drawn.noise.max() <= 51
    assert len(set(drawn.noise_seed.tolist())) == 4000
    unchanged = (drawn.table == np.arange(256)).all(axis=1)
    assert unchanged.mean() == pytest.approx(0.6, abs=0.03)
    assert drawn.table.dtype == np.uint8


def test_grey_values_change_as_documented():
    def table(brightness=0.0, contrast=1.0, gamma=1.0):
        return grey_table(*(np.array([value]) for value in (brightness, contrast, gamma)))[0]

    np.testing.assert_array_equal(table(), np.arange(256))
    np.testing.assert_array_equal(table(brightness=0.2), np.minimum(np.arange(256) + 51, 255))
    np.testing.assert_array_equal(table(contrast=0.0), np.full(256, 128))
    assert table(contrast=2.0)[[0, 63, 127, 128, 191, 255]].tolist() == [0, 0, 126, 128, 254, 255]
    assert table(gamma=0.5)[[0, 64, 255]].tolist() == [0, round(255 * (64 / 255) ** 0.5), 255]
    assert (np.diff(table(gamma=3.0).astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flips": 0.5}, "augmentation#flips is unknown: there are rotate_degrees, flip_probability"),
        ({"rotate_degrees": 181}, "augmentation#rotate_degrees is 181: use 0 to 180"),
        ({"rotate_degrees": "ten"}, "augmentation#rotate_degrees is 'ten': use 0 to 180"),
        ({"rotate_degrees": float("nan")}, "augmentation#rotate_degrees is nan"),
        ({"blur_probability": -0.1}, "augmentation#blur_probability is -0.1: use 0 to 1"),
        ({"noise_probability": True}, "augmentation#noise_probability is True"),
        ({"crop_area": [0.0, 1.0]}, r"augmentation#crop_area is \[0.0, 1.0\]: use \[low, high\] above 0 to 1"),
        ({"crop_area": [1.0, 0.5]}, "augmentation#crop_area"),
        ({"crop_area": 0.5}, "augmentation#crop_area is 0.5: use"),
        ({"crop_aspect": [0, 1]}, "augmentation#crop_aspect"),
        ({"gamma": [0, 1]}, "augmentation#gamma"),
        ({"contrast": [-1, 1]}, "augmentation#contrast"),
        ({"brightness": [0, 2]}, "augmentation#brightness"),
        ({"blur_sigma": [1]}, "augmentation#blur_sigma"),
        ({"blur_sigma": ["a", "b"]}, "augmentation#blur_sigma"),
        ({"noise_sd": None}, "augmentation#noise_sd is None"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(settings, message):
    with pytest.raises(CxrPairError, match=message):
        Augmentation.from_config(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blur_probability": 0.5, "blur_sigma": [0, 0]}, "augmentation#blur_probability is 0.5, but blur_sigma"),
        ({"noise_probability": 1, "noise_sd": [0, 0]}, "noise_sd [0, 0] changes nothing"),
        ({"intensity_probability": 1, "brightness": [0, 0], "contrast": [1, 1], "gamma": [1, 1]}, "changes nothing"),
        ({"contrast": [0.5, 1.5]}, "intensity_probability is 0: it is never applied"),
    ],
)
def test_a_setting_that_cannot_do_anything_is_a_warning(settings, message, caplog):
    Augmentation.from_config(settings)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert message in caplog.text


def test_settings_that_do_something_are_no_warning(caplog):
    Augmentation.from_config({"blur_probability": 0.5, "intensity_probability": 1, "contrast": [1, 1]})
    Augmentation.from_config({})
    assert not caplog.records


def test_parameters_need_nothing_but_the_geometry():
    assert {name for name, value in vars(two_draws()[0]).items() if value is not None} == set(GEOMETRY)
    assert isinstance(two_draws()[0], ViewParams)
