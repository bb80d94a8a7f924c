"""The overlay picture."""

from datetime import datetime

import numpy as np
import pydicom
import pytest

from monai_cxrpair.imaging import read_radiograph_with_info
from monai_cxrpair.reporting import build_overlay, check_object, save_object
from monai_cxrpair.reporting.overlay import draw_overlay

CREATED = datetime(2026, 3, 4, 5, 6, 7)
HEAT = np.zeros((8, 8), np.float32)
HEAT[4:, :4] = 1


def test_nothing_of_the_radiograph_is_covered_and_without_heat_it_stays_grey():
    pixels = np.linspace(0, 1, 1024 * 900, dtype=np.float32).reshape(1024, 900)
    picture = draw_overlay(pixels, None, ["RESEARCH USE ONLY", "ü 73.12 %"])
    below = picture[-1024:]
    assert picture.shape[1:] == (900, 3)
    assert picture[: -len(below)].any(), "the text is missing"
    np.testing.assert_array_equal(below, np.repeat(np.round(pixels * 255).astype(np.uint8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("shape", [(512, 1024), (1024, 512)])
def test_the_heat_lies_where_the_network_saw_it_the_central_square(shape):
    pixels = np.full(shape, 0.5, np.float32)
    picture = draw_overlay(pixels, HEAT, [])[-shape[0] :].astype(int)
    coloured = np.ptp(picture, axis=2) > 30
    top, left = (shape[0] - 512) // 2, (shape[1] - 512) // 2
    inside = coloured[top : top + 512, left : left + 512]
    assert inside[300:, :200].all(), "the lower left quarter is hot"
    assert not inside[:200].any()
    assert not inside[:, 320:].any()
    assert coloured.sum() == inside.sum(), "the network saw nothing outside of the square"


def test_a_map_of_the_whole_radiograph_covers_the_whole():
    heat = np.ones((8, 8), np.float32)
    picture = draw_overlay(np.full((512, 1024), 0.5, np.float32), heat, [], whole=True)[-512:].astype(int)
    assert (np.ptp(picture, axis=2) > 30).all()


@pytest.fixture
def overlay(radiograph, answer, algorithm, tmp_path):
    """Write an overlay of a radiograph with these attributes, and read it with plain pydicom."""

    def make(folder="out", **attributes):
        given = answer(**attributes)
        pixels, info = read_radiograph_with_info(radiograph(**attributes))
        made = build_overlay(given, algorithm, pixels, HEAT, info=info, created=CREATED)
        path = save_object(made, tmp_path / folder)
        assert check_object(path, sources=[given.source]) == "overlay"
        return path, pydicom.dcmread(path)

    return make


def test_an_overlay_is_a_secondary_capture_of_the_same_patient_and_study(overlay):
    path, data = overlay()
    assert data.SOPClassUID.name == "Secondary Capture Image Storage"
    assert (data.PatientID, data.StudyInstanceUID, data.AccessionNumber) == ("0042", "1.2", "A7")
    assert data.SeriesInstanceUID != "1.2.3"
    assert data.pixel_array.shape == (data.Rows, 1024, 3)
    assert data.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    assert data.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert "heat map" in data.DerivationDescription
    assert "ab" * 32 in data.DerivationDescription
    assert "73.00 %, present at threshold 54.00 %" in data.ImageComments
    assert path.stat().st_mode & 0o077 == 0
    assert "1.2.3.4" not in path.name


def test_the_same_answer_gives_the_same_object(overlay):
    first, again = overlay()[0], overlay("again")[0]
    assert first.name == again.name
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize(("declared", "expected"), [("YES", "YES"), ("NO", "NO"), (None, None), ("MAYBE", None)])
def test_burned_in_annotation_says_what_is_known_of_the_radiograph_below(overlay, declared, expected):
    assert overlay(BurnedInAnnotation=declared)[1].get("BurnedInAnnotation") == expected


def test_what_compression_lost_stays_lost(overlay):
    lossy = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": 20,
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    data = overlay(**lossy)[1]
    assert {name: data[name].value for name in lossy} == lossy
    assert "LossyImageCompression" not in overlay("other", LossyImageCompression="00")[1]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [(["L", "F"], ["L", "F"]), (["R", "F"], ["L", "F"]), (["A", "F"], ["A", "F"]), (None, None)],
)
def test_the_orientation_is_that_of_the_picture_not_of_the_file(overlay, declared, expected):
    _, data = overlay(PatientOrientation=declared)
    assert (list(data.PatientOrientation or []) or None) == expected
    grey = data.pixel_array[-200:, :, 0].mean(axis=0)  # the file's columns grow brighter to the right
    assert (grey[-1] > grey[600]) == (declared != ["R", "F"])


@pytest.mark.data
def test_every_real_radiograph_gets_both_objects(shared_data, algorithm, tmp_path):
    from monai_cxrpair.errors import CxrPairError
    from monai_cxrpair.reporting import Answer, build_report, read_source

    done = 0
    for path in sorted((shared_data / "dicom" / "chest").iterdir()):
        try:
            pixels, info = read_radiograph_with_info(path)
        except CxrPairError:
            continue
        source = read_source(path)
        given = Answer(source=source, probability=0.1)
        for made in (build_report([given], algorithm), build_overlay(given, algorithm, pixels, HEAT, info=info)):
            check_object(save_object(made, tmp_path), sources=[source])
            done += 1
    assert done >= 10


@pytest.mark.data
@pytest.mark.parametrize("name", ["chrJapMulti.dcm", "chrKoreanMulti.dcm"])
def test_names_in_other_scripts_come_back_as_they_are(shared_data, algorithm, tmp_path, name):
    from monai_cxrpair.reporting import Answer, build_report, read_source

    path = shared_data / "dicom" / "chest" / name
    source = read_source(path)
    data = pydicom.dcmread(save_object(build_report([Answer(source=source, probability=0.1)], algorithm), tmp_path))
    theirs = pydicom.dcmread(path)
    assert (data.PatientName.alphabetic, data.PatientName.ideographic, data.PatientName.phonetic) == (
        theirs.PatientName.alphabetic,
        theirs.PatientName.ideographic,
        theirs.PatientName.phonetic,
    )
    assert not str(data.PatientName).isascii()
