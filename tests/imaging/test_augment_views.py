"""Views on the CPU against other libraries, and what a crop may and may not contain."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.augment import Augmentation
from monai_cxrpair.imaging.augment_views import ViewParams, apply_views, output_to_input

SIZE = 24


def params(**values):
    """Of one view: upright, the centred square, unless said otherwise."""
    usual = {"angle": 0.0, "flip": False, "shift_x": 0.5, "shift_y": 0.5, "area": 1.0}
    return ViewParams(**{name: np.array([value]) for name, value in {**usual, **values}.items()})


def noise_image(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def by_scipy(image, drawn, i, size):
    """The view, step by step: flip the array, then read it along lines that are turned about its centre.

    Positions are complex numbers, x + iy, so that a rotation is a product.
    """
    image = image[:, ::-1] if drawn.flip[i] else image
    height, width = image.shape
    side = min(height, width) * drawn.area[i] ** 0.5
    aspect = 1.0 if drawn.aspect is None else drawn.aspect[i]
    crop = np.array([side * aspect**0.5, side / aspect**0.5])
    crop *= min(1.0, width / crop[0], height / crop[1])
    left, top = drawn.shift_x[i] * (width - crop[0]), drawn.shift_y[i] * (height - crop[1])
    turn = np.exp(1j * np.pi * drawn.angle[i] / 180)
    middle = (width + 1j * height) / 2

    def place(column, row):  # from pixel edges: the centre of pixel 0 is at 0.5
        inside = left + (column + 0.5) * crop[0] / size + 1j * (top + (row + 0.5) * crop[1] / size)
        return middle + (inside - middle) * turn - (0.5 + 0.5j)

    origin, right, down = place(0, 0), place(1, 0), place(0, 1)
    matrix = [[(down - origin).imag, (right - origin).imag], [(down - origin).real, (right - origin).real]]
    return ndimage.affine_transform(
        image.astype(np.float64), matrix, offset=(origin.imag, origin.real), output_shape=(size, size), order=1,
        mode="grid-constant",
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), height=st.integers(8, 60), width=st.integers(8, 60), more=st.integers(0, 30),
    degrees=st.sampled_from([0.0, 10.0, 180.0]), low=st.floats(0.05, 1.0), aspect=st.floats(1.0, 2.0),
)  # fmt: skip
def test_geometry_is_that_of_scipy(seed, height, width, more, degrees, low, aspect):
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, shape).astype(np.uint8) for shape in ((height, width), (width, height))]
    drawn = Augmentation(rotate_degrees=degrees, crop_area=(low, 1.0), crop_aspect=(1 / aspect, aspect)).draw(2, rng)
    size = min(height, width) + more
    views = apply_views(images, drawn, size=size)
    for i, image in enumerate(images):
        np.testing.assert_allclose(views[i, 0], by_scipy(image, drawn, i, size), atol=1.01)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), height=st.integers(8, 90), width=st.integers(8, 90),
    low=st.floats(0.05, 1.0), aspect=st.floats(1.0, 2.0),
)  # fmt: skip
def test_an_upright_crop_lies_inside_the_radiograph(seed, height, width, low, aspect):
    rng = np.random.default_rng(seed)
    drawn = Augmentation(rotate_degrees=0, crop_area=(low, 1.0), crop_aspect=(1 / aspect, aspect)).draw(5, rng)
    size = min(height, width)
    matrices = output_to_input(np.tile([height, width], (5, 1)), drawn, size)
    for corner in ([-0.5, -0.5, 1], [size - 0.5, size - 0.5, 1]):
        x, y = (matrices @ np.array(corner)).T  # (5,) each
        assert x.min() > -0.5001
        assert x.max() < width - 0.4999
        assert y.min() > -0.5001
        assert y.max() < height - 0.4999


@pytest.mark.parametrize("shape", [(SIZE, SIZE + 14), (SIZE + 9, SIZE)])
def test_the_crop_reaches_every_edge(shape):
    image = noise_image(shape)
    first = apply_views([image], params(shift_x=0.0, shift_y=0.0), size=SIZE)[0, 0]
    last = apply_views([image], params(shift_x=1.0, shift_y=1.0), size=SIZE)[0, 0]
    np.testing.assert_array_equal(first, image[:SIZE, :SIZE])
    np.testing.assert_array_equal(last, image[-SIZE:, -SIZE:])


def test_a_rotation_of_a_square_leaves_black_in_the_corners_only():
    view = apply_views([np.full((101, 101), 200, np.uint8)], params(angle=10.0), size=101)[0, 0]
    assert (view[[0, 0, -1, -1], [0, -1, 0, -1]] == 0).all()
    y, x = np.mgrid[-50:51, -50:51]
    assert (view[x**2 + y**2 < 49**2] == 200).all()
    # Each of four triangles of height s * tan on legs s: the share of a square that turning by t uncovers.
    tangent = np.tan(np.deg2rad(5))
    assert (view < 100).mean() == pytest.approx(tangent * (1 - tangent) / (1 + tangent), rel=0.05)


def test_grey_values_change_before_the_resampling_and_outside_too():
    image = noise_image((SIZE, SIZE))
    table = np.arange(255, -1, -1).astype(np.uint8)
    turned = apply_views([image], params(angle=30.0), size=SIZE)
    inverted = apply_views([image], params(angle=30.0, table=table), size=SIZE)
    np.testing.assert_allclose(inverted.astype(int), 255 - turned.astype(int), atol=1)
    lighter = apply_views([image], params(angle=45.0, table=np.maximum(np.arange(256), 40).astype(np.uint8)), size=SIZE)
    assert lighter.min() == 40


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 12.0])
def test_blur_is_that_of_scipy(sigma):
    image = noise_image((SIZE, SIZE))
    view = apply_views([image], params(blur=sigma), size=SIZE)[0, 0]
    radius = int(np.ceil(3 * sigma))
    expected = ndimage.gaussian_filter(image.astype(float), sigma, mode="mirror", radius=radius)
    np.testing.assert_allclose(view, expected, atol=1.01)
    assert (view != image).any()


def test_a_blur_of_nothing_leaves_the_view_as_it_is():
    image = noise_image((SIZE, SIZE))
    np.testing.assert_array_equal(apply_views([image], params(blur=0.0), size=SIZE)[0, 0], image)


def test_noise_has_its_standard_deviation_and_its_seed():
    def noisy(seed, sd=10.0):
        image = np.full((200, 200), 128, np.uint8)
        return apply_views([image], params(noise=sd, noise_seed=seed), size=200)[0, 0].astype(float) - 128

    one, two = noisy(1), noisy(2)
    assert one.mean() == pytest.approx(0, abs=0.2)
    assert one.std() == pytest.approx(10.0, rel=0.02)
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(one, noisy(1))
    assert not noisy(1, sd=0.0).any()


def test_noise_stays_in_8_bits():
    image = np.repeat(np.array([[0, 255]], np.uint8), 50, axis=1).repeat(100, axis=0)
    view = apply_views([image], params(noise=30.0, noise_seed=0), size=100)[0, 0]
    assert view[:, :50].max() < 150 < view[:, 50:].min() + 50  # nothing has gone round
    assert (view[:, :50] == 0).mean() == pytest.approx(0.5, abs=0.03)  # the lower half of the noise
    assert (view[:, 50:] == 255).mean() == pytest.approx(0.5, abs=0.03)


def test_views_do_not_depend_on_their_neighbours_in_the_batch():
    rng = np.random.default_rng(0)
    augmentation = Augmentation(
        crop_area=(0.5, 1.0), intensity_probability=0.5, blur_probability=0.5, noise_probability=0.5
    )
    images = [noise_image((SIZE, SIZE + i), i) for i in range(6)]
    drawn = augmentation.draw(6, rng)
    together = apply_views(images, drawn, size=SIZE)
    for i, image in enumerate(images):
        one = ViewParams(**{name: None if v is None else v[i : i + 1] for name, v in vars(drawn).items()})
        np.testing.assert_array_equal(apply_views([image], one, size=SIZE)[0], together[i])


def test_a_radiograph_that_would_have_to_be_shrunk_is_refused_since_it_would_alias():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255  # bilinear at every second pixel: all black, in place of grey
    with pytest.raises(CxrPairError, match=r"64 pixels at the shorter side .* views of 32: end train#preprocessing"):
        apply_views([stripes], params(), size=32)
    assert cv2.resize(stripes, (32, 32), interpolation=cv2.INTER_AREA).std() == 0


def test_no_views_of_no_images():
    empty = Augmentation().draw(0, np.random.default_rng(0))
    assert apply_views([], empty, size=8).shape == (0, 1, 8, 8)
