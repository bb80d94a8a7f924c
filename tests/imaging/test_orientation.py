r"""Declared orientations: every one of the eight leads to the same array."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_cxrpair.imaging import read_radiograph, read_radiograph_with_info
from monai_cxrpair.imaging.collimation import Field
from monai_cxrpair.imaging.orientation import apply_turn, turn_for

OPPOSITE = dict(zip("LRHFAP", "RLFHPA", strict=True))


def orientations(image, rows, columns):
    """The eight ways to store an image whose rows lead to `rows` and whose columns lead to `columns`, with their names.

    Made by quarter turns and a mirror, as hands would do it, not by the exchanges and reversals of the code.
    """
    for mirrored in (False, True):
        stored, (right, down) = image, (rows, columns)
        if mirrored:
            stored, right = stored[:, ::-1], OPPOSITE[right]
        for _ in range(4):
            yield stored, [right, down]
            # A quarter turn to the left: what led down leads right, what led right leads up.
            stored, (right, down) = np.rot90(stored), (down, OPPOSITE[right])


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_all_eight_orientations_of_a_frontal_declared_correctly_give_the_same_array(height, width, seed):
    image = np.random.default_rng(seed).random((height, width))
    names = set()
    for stored, declared in orientations(image, "L", "F"):
        turn = turn_for(declared)
        np.testing.assert_array_equal(apply_turn(stored, turn), image)
        names.add(turn.name)
    assert len(names) == 8
    assert "as stored" in names


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32), st.sampled_from("AP"))
def test_a_lateral_keeps_its_front_where_it_is_and_gets_its_feet_down(height, width, seed, front):
    image = np.random.default_rng(seed).random((height, width))
    for stored, declared in orientations(image, front, "F"):
        shown = apply_turn(stored, turn_for(declared))
        # The front stays at the end of its axis at which it was declared; the feet are below in any case.
        kept = front in declared
        np.testing.assert_array_equal(shown, image if kept else image[:, ::-1])
    assert turn_for([front, "F"]).name == "as stored"


@pytest.mark.parametrize(
    "declared",
    [
        [],
        [""],
        ["L"],
        ["", "F"],
        ["L", "R"],
        ["F", "H"],
        ["R", "A"],
        ["R", "P"],
        ["X", "F"],
        ["L", "F", "A"],
        ["0", "1"],
    ],
    ids=str,
)
def test_empty_and_odd_declarations_change_nothing(declared):
    turn = turn_for(declared)
    image = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(apply_turn(image, turn), image)
    assert turn.name == "as stored"


def test_the_principal_letter_of_an_oblique_direction_decides():
    assert turn_for(["RA", "F"]) == turn_for(["R", "F"])
    assert turn_for(["RA", "F"]).name == "R\\F to L\\F"


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_a_field_turns_with_its_image(height, width, data):
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    field = Field(top, data.draw(st.integers(top + 1, height)), left, data.draw(st.integers(left + 1, width)))
    mask = np.zeros((height, width), bool)
    mask[field.top : field.bottom, field.left : field.right] = True
    for _, declared in orientations(mask, "L", "F"):
        turn = turn_for(declared)
        turned = field.turned(turn, mask.shape)
        expected = np.zeros_like(apply_turn(mask, turn))
        expected[turned.top : turned.bottom, turned.left : turned.right] = True
        np.testing.assert_array_equal(apply_turn(mask, turn), expected)


@pytest.mark.parametrize(
    ("declared", "shown", "recorded"),
    [
        (["L", "F"], lambda a: a, "as stored"),
        (["R", "F"], np.fliplr, "R\\F to L\\F"),
        (["L", "H"], np.flipud, "L\\H to L\\F"),
        (["R", "H"], lambda a: np.rot90(a, 2), "R\\H to L\\F"),
        (["F", "L"], np.transpose, "F\\L to L\\F"),
        (["P", "H"], np.flipud, "P\\H to P\\F"),
        ("", lambda a: a, "as stored"),
    ],
)
def test_the_reader_undoes_what_the_header_declares_and_records_it(tmp_path, write_dicom, declared, shown, recorded):
    image = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    path = write_dicom(tmp_path / "a", image, bits=8, PatientOrientation=declared)
    pixels, info = read_radiograph_with_info(path)
    np.testing.assert_allclose(pixels[0], shown(image) / 255, atol=1e-6)
    assert pixels.flags.c_contiguous
    assert info.orientation == recorded


def test_a_flip_on_the_way_from_the_detector_does_not_count(tmp_path, write_dicom):
    image = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    plain = read_radiograph(write_dicom(tmp_path / "a", image, bits=8, PatientOrientation=["L", "F"]))
    flipped = write_dicom(tmp_path / "b", image, bits=8, PatientOrientation=["L", "F"], FieldOfViewHorizontalFlip="YES")
    np.testing.assert_array_equal(read_radiograph(flipped), plain)
