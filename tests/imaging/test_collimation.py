"""Borders of known size around phantoms, none around others, and what headers declare."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from monai_cxrpair.imaging import read_radiograph, read_radiograph_with_info
from monai_cxrpair.imaging.collimation import Field, declared_field, find_exposed_field
from monai_cxrpair.phantom import PhantomSettings, draw_patient, draw_radiographs

SETTINGS = PhantomSettings(image_size=320)
SIDES = st.one_of(st.just(0.0), st.floats(0.02, 0.25))


@cache
def phantoms(count=12):
    """Phantom radiographs (1, H, W) without borders."""
    found = []
    for patient in range(count):
        plan = draw_patient(SETTINGS, seed=5, patient=patient)
        item = next(iter(draw_radiographs(plan, seed=5, settings=SETTINGS)))
        shot = replace(item.shot, collimation=(0.0,) * 4)
        found.append(np.clip(replace(item, shot=shot).render(), 0, 1)[None])
    return found


def painted(pixels, field, level, grain=0.0):
    """The image with all but the field painted, and a little noise on the paint."""
    out = np.full_like(pixels, level) + np.random.default_rng(0).normal(0, grain, pixels.shape).astype(np.float32)
    box = (0, slice(field.top, field.bottom), slice(field.left, field.right))
    out[box] = pixels[box]
    return np.clip(out, 0, 1)


@given(
    number=st.integers(0, 11), top=SIDES, bottom=SIDES, left=SIDES, right=SIDES, dark=st.booleans(),
    grain=st.floats(0, 0.02), height=st.integers(200, 320),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_borders_that_differ_from_the_picture_are_found_within_one_percent(
    number, top, bottom, left, right, dark, grain, height
):
    pixels = phantoms()[number][:, :height]
    # The picture keeps a distance from the paint: where air lies behind black shutters nobody can tell.
    pixels = 0.25 + (0.7 if dark else 0.4) * pixels
    height, width = pixels.shape[1:]
    true = Field(
        round(top * height), height - round(bottom * height), round(left * width), width - round(right * width)
    )
    # Narrower both ways, each border hides too much of the others (see `find_exposed_field`).
    assume(max((true.bottom - true.top) / height, (true.right - true.left) / width) > 0.6)
    found = find_exposed_field(painted(pixels, true, 0.02 if dark else 0.97, grain))
    off = np.abs(np.array(found) - true) / [height, height, width, width]
    assert off.max() <= 0.012, (found, true)


def test_pictures_without_a_border_are_taken_whole():
    for pixels in phantoms():
        picture = 0.25 + 0.5 * pixels
        assert find_exposed_field(picture) == (0, picture.shape[1], 0, picture.shape[2])
    # Air as black as a shutter: its edge is a body's, though a straight arm may pass for a shutter.
    wrong = sum(find_exposed_field(pixels).fraction(pixels.shape) < 0.99 for pixels in phantoms())
    assert wrong <= 3


def test_most_shutters_around_untouched_phantoms_are_found():
    hits = sides = 0
    for pixels in phantoms():
        height, width = pixels.shape[1:]
        true = np.array([height // 10, height - height // 10, width // 10, width - width // 10])
        for level in (0.0, 1.0):
            found = find_exposed_field(painted(pixels, Field(*true), level))
            hits += (np.abs(found - true) <= 0.02 * height).sum()
            sides += 4
    assert hits / sides >= 0.7


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2), (40, 300)])
def test_an_even_picture_of_any_size_is_all_field(value, shape):
    assert find_exposed_field(np.full((1, *shape), value, np.float32)) == (0, shape[0], 0, shape[1])


def test_a_large_picture_gives_its_own_pixels():
    pixels = np.kron(phantoms()[0][0], np.ones((6, 6), np.float32))[None]
    height, width = pixels.shape[1:]
    true = Field(150, height - 90, 0, width - 211)
    found = find_exposed_field(painted(0.25 + 0.7 * pixels, true, 0.0))
    assert np.abs(np.array(found) - true).max() <= 0.01 * height


@pytest.mark.data
def test_most_real_radiographs_have_no_border_and_borders_painted_on_those_are_found(shared_data):
    files = sorted((shared_data / "nih_1000/images").iterdir())[::8]
    whole = hits = 0
    for path in files:
        pixels = read_radiograph(path)
        if find_exposed_field(pixels).fraction(pixels.shape) < 0.995:
            continue
        whole += 1
        height, width = pixels.shape[1:]
        true = Field(height // 8, height - height // 8, 0, width)
        found = find_exposed_field(painted(0.2 + 0.8 * pixels, true, 0.0))
        hits += max(abs(found.top - true.top), abs(found.bottom - true.bottom)) <= 0.02 * height
    assert 0.7 <= whole / len(files) <= 0.95
    assert hits / whole >= 0.95


def edges(**values):
    data = Dataset()
    for name, value in values.items():
        setattr(data, f"Collimator{name}Edge", value)
    return data


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"LeftVertical": 0, "RightVertical": 99, "UpperHorizontal": 0, "LowerHorizontal": 79}, (0, 80, 0, 100)),
        ({"LeftVertical": 10, "RightVertical": 89, "UpperHorizontal": 5, "LowerHorizontal": 69}, (5, 70, 10, 90)),
        ({"LeftVertical": -9, "RightVertical": 150, "UpperHorizontal": -1, "LowerHorizontal": 70}, (0, 71, 0, 100)),
        ({"LeftVertical": -9, "RightVertical": 9, "UpperHorizontal": 38, "LowerHorizontal": 52}, None),
        ({"LeftVertical": 0, "RightVertical": 99, "UpperHorizontal": 0}, None),
        ({"LeftVertical": "", "RightVertical": 99, "UpperHorizontal": 0, "LowerHorizontal": 79}, None),
        ({}, None),
    ],
)
def test_declared_edges_are_cut_to_the_image_and_odd_ones_are_no_declaration(values, field):
    assert declared_field(edges(**values), (80, 100)) == field


def test_the_reader_gives_the_declared_field_in_the_pixels_it_returns(tmp_path, write_dicom):
    values = {"LeftVertical": 0, "RightVertical": 19, "UpperHorizontal": 2, "LowerHorizontal": 17}
    declared = {f"Collimator{name}Edge": value for name, value in values.items()}
    pixels = np.random.default_rng(0).integers(0, 4096, (20, 30)).astype(np.uint16)
    _, info = read_radiograph_with_info(write_dicom(tmp_path / "a", pixels, PatientOrientation=["R", "F"], **declared))
    assert info.declared_field == (2, 18, 10, 30)
