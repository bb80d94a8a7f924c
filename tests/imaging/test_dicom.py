"""The DICOM pixel chain against highdicom and numpy."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import read_radiograph, read_radiograph_with_info

RNG = np.random.default_rng(0)
STORED = RNG.integers(0, 4096, (20, 30)).astype(np.uint16)


def voi_lut(first=100, bits=16, entries=2000, top=65535):
    item = Dataset()
    item.LUTDescriptor = [entries, first, bits]
    item.LUTData = (np.sqrt(np.linspace(0, 1, entries)) * top).astype("<u2").tobytes()
    item["LUTDescriptor"].VR = "US"
    item["LUTData"].VR = "OW"
    return Sequence([item])


def with_highdicom(path):
    highdicom = pytest.importorskip("highdicom")  # the extra `reporting`
    return highdicom.imread(path).get_frame(1, apply_voi_transform=None)


WINDOWS = [
    {"WindowCenter": 1800.0, "WindowWidth": 2500.0},
    {"WindowCenter": 1800.0, "WindowWidth": 2500.0, "VOILUTFunction": "LINEAR_EXACT"},
    {"WindowCenter": 1800.0, "WindowWidth": 2500.0, "VOILUTFunction": "SIGMOID"},
    {"WindowCenter": 900.0, "WindowWidth": 700.0, "RescaleSlope": 0.5, "RescaleIntercept": -20.0, "RescaleType": "US"},
]


@pytest.mark.parametrize("polarity", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", WINDOWS, ids=lambda w: w.get("VOILUTFunction", "LINEAR"))
def test_every_window_function_equals_highdicom(tmp_path, write_dicom, window, polarity):
    path = write_dicom(tmp_path / "a", STORED, PhotometricInterpretation=polarity, **window)
    ours = read_radiograph(path)
    assert ours.shape == (1, 20, 30)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours[0], with_highdicom(path), atol=1 / 255)


@pytest.mark.parametrize("top", [65535, 4095])
@pytest.mark.parametrize("polarity", ["MONOCHROME1", "MONOCHROME2"])
def test_a_voi_lut_sequence_equals_highdicom_and_wins_over_the_window(tmp_path, write_dicom, polarity, top):
    path = write_dicom(
        tmp_path / "a",
        STORED,
        PhotometricInterpretation=polarity,
        VOILUTSequence=voi_lut(top=top),
        WindowCenter=1.0,
        WindowWidth=2.0,
    )
    ours, info = read_radiograph_with_info(path)
    assert info.scaling == "voi lut"
    np.testing.assert_allclose(ours[0], with_highdicom(path), atol=1 / 255)


def test_both_polarities_of_one_radiograph_give_the_same_array(tmp_path, write_dicom):
    window = {"WindowCenter": 2047.5, "WindowWidth": 3000.0, "VOILUTFunction": "LINEAR_EXACT"}
    bright = read_radiograph(write_dicom(tmp_path / "2", STORED, **window))
    dark = read_radiograph(
        write_dicom(
            tmp_path / "1", (4095 - STORED).astype(np.uint16), PhotometricInterpretation="MONOCHROME1", **window
        )
    )
    np.testing.assert_allclose(bright, dark, atol=1e-5)


def test_the_presentation_shape_wins_over_the_photometric_interpretation(tmp_path, write_dicom):
    window = {"WindowCenter": 2048.0, "WindowWidth": 4096.0}
    plain = read_radiograph(write_dicom(tmp_path / "a", STORED, **window))
    identity = write_dicom(
        tmp_path / "b", STORED, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="IDENTITY", **window
    )
    inverse = write_dicom(tmp_path / "c", STORED, PresentationLUTShape="INVERSE", **window)
    np.testing.assert_array_equal(read_radiograph(identity), plain)
    np.testing.assert_allclose(read_radiograph(inverse), 1 - plain, atol=1e-6)


def test_without_a_voi_deep_data_are_scaled_by_percentiles_and_8_bits_by_255(tmp_path, write_dicom):
    deep, info = read_radiograph_with_info(write_dicom(tmp_path / "deep", STORED))
    low, high = np.percentile(STORED, [1, 99])
    np.testing.assert_allclose(deep[0], np.clip((STORED - low) / (high - low), 0, 1), atol=1e-6)
    assert info.scaling == "percentile"
    eight = (STORED // 16).astype(np.uint8)
    shallow, info = read_radiograph_with_info(write_dicom(tmp_path / "shallow", eight, bits=8))
    np.testing.assert_allclose(shallow[0], eight / 255, atol=1e-6)
    assert info.scaling == "8 bit"


def test_a_constant_image_is_black_and_says_so(tmp_path, write_dicom):
    pixels, info = read_radiograph_with_info(write_dicom(tmp_path / "a", np.full((9, 9), 7, np.uint16)))
    assert info.scaling == "constant"
    assert not pixels.any()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"Rows": 60000, "Columns": 60000}, "60000"),
        ({"PhotometricInterpretation": "RGB"}, "RGB"),
        ({"WindowCenter": 1.0, "WindowWidth": 0.0}, "Window Width"),
        ({"WindowCenter": 1.0, "WindowWidth": 5.0, "VOILUTFunction": "CUBIC"}, "CUBIC"),
        ({"Rows": 40}, "cannot be read"),
    ],
)
def test_what_cannot_be_right_is_one_line_that_names_the_file(tmp_path, write_dicom, change, named):
    path = write_dicom(tmp_path / "broken.dcm", STORED, **change)
    with pytest.raises(CxrPairError, match=named) as caught:
        read_radiograph(path)
    assert "broken.dcm" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.data
def test_every_damaged_or_foreign_file_is_read_or_refused_in_one_line(shared_data):
    outcomes, complaints = {"read": 0, "refused": 0}, []
    for path in sorted(p for p in (shared_data / "dicom").rglob("*") if p.is_file()):
        try:
            pixels = read_radiograph(path)
        except CxrPairError as error:
            outcomes["refused"] += 1
            complaints.append((path.name, str(error)))
        else:
            assert pixels.dtype == np.float32
            assert pixels.ndim == 3
            assert 0 <= pixels.min() <= pixels.max() <= 1
            outcomes["read"] += 1
    assert all(name in message and "\n" not in message for name, message in complaints)
    assert outcomes["read"] >= 40
    assert outcomes["refused"] >= 20
