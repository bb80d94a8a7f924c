"""JPEG, PNG and NIfTI: the same rows-first array from every encoding."""

import cv2
import nibabel
import numpy as np
import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import read_radiograph

PICTURE = np.zeros((40, 30), dtype=np.uint8)
PICTURE[:10, :5] = 255  # a marker in the upper left corner
PICTURE[30:, 20:] = 90


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.nii.gz", "a.nii", "kein_name", "胸部.png"])
def test_every_encoding_gives_the_same_rows_first_array(tmp_path, name):
    path = tmp_path / name
    if ".nii" in name:
        nibabel.save(nibabel.Nifti1Image(PICTURE.T[..., None], np.diag([-1, -1, 1, 1])), path)
    else:
        encoded = cv2.imencode(".jpg" if name.endswith("jpg") else ".png", PICTURE)[1]
        path.write_bytes(encoded.tobytes())
    pixels = read_radiograph(path)
    assert pixels.shape == (1, 40, 30)
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[0], PICTURE / 255, atol=0.1 if name.endswith("jpg") else 1e-6)


def test_16_bit_pictures_are_scaled_by_percentiles(tmp_path):
    deep = np.random.default_rng(0).integers(0, 30000, (50, 40)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    low, high = np.percentile(deep, [1, 99])
    np.testing.assert_allclose(
        read_radiograph(tmp_path / "a.png")[0], np.clip((deep - low) / (high - low), 0, 1), atol=1e-6
    )


def test_colour_becomes_luminance(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([PICTURE] * 3))
    np.testing.assert_allclose(read_radiograph(tmp_path / "a.png")[0], PICTURE / 255, atol=1 / 255)


def test_a_folder_with_one_file_is_that_file_and_with_two_is_an_error(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE)
    assert read_radiograph(tmp_path).shape == (1, 40, 30)
    cv2.imwrite(str(tmp_path / "b.png"), PICTURE)
    with pytest.raises(CxrPairError, match="2 files"):
        read_radiograph(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.png", None),
        ("cut.png", cv2.imencode(".png", PICTURE)[1].tobytes()[:60]),
        ("page.dcm", b"<html></html>"),
        ("empty.dcm", b""),
        ("cut.nii", b"\0" * 100),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_the_file(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CxrPairError, match=name) as caught:
        read_radiograph(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_volume_is_no_radiograph(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4)), tmp_path / "v.nii")
    with pytest.raises(CxrPairError, match="two dimensions"):
        read_radiograph(tmp_path / "v.nii")
