"""The check of one file: what it says, what it refuses, what it costs."""

import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from monai_cxrpair.cohort.pixel_check import CHECKED
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import read_radiograph
from monai_cxrpair.imaging.check import check_pixels, pixel_columns, pixel_hash
from monai_cxrpair.imaging.dicom import read_dicom

RNG = np.random.default_rng(0)
PICTURE = cv2.resize(RNG.integers(0, 255, (12, 9)).astype(np.uint8), (90, 120), interpolation=cv2.INTER_CUBIC)


def test_the_same_image_has_the_same_hashes_in_every_lossless_encoding_and_polarity(tmp_path, write_dicom):
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE)
    plain = write_dicom(tmp_path / "plain", PICTURE, bits=8)
    paths = [
        tmp_path / "a.png",
        plain,
        write_dicom(tmp_path / "mono1", 255 - PICTURE, bits=8, PhotometricInterpretation="MONOCHROME1"),
        write_dicom(tmp_path / "window", PICTURE, bits=8, WindowCenter=128, WindowWidth=256),
        write_dicom(tmp_path / "mirrored", PICTURE[:, ::-1], bits=8, PatientOrientation=["R", "F"]),
        write_dicom(tmp_path / "deep", PICTURE.astype(np.uint16) * 257, bits=16, WindowCenter=32768, WindowWidth=65536),
    ]
    for uid in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless):
        data = dcmread(plain)
        if uid.is_compressed and not uid.is_deflated:
            data.compress(uid)
        data.file_meta.TransferSyntaxUID = uid
        data["PixelData"].VR = "OB"  # bytes, not words that a big endian file would hold swapped
        paths.append(tmp_path / uid)
        dcmwrite(paths[-1], data)
    checks = [check_pixels(path) for path in paths]
    assert {check.pixel_hash for check in checks} == {checks[0].pixel_hash}
    assert {check.perceptual_hash for check in checks} == {checks[0].perceptual_hash}
    changed = PICTURE.copy()
    changed[5, 5] ^= 1
    assert check_pixels(write_dicom(tmp_path / "b", changed, bits=8)).pixel_hash != checks[0].pixel_hash


@given(
    seed=st.integers(0, 2**32), bits=st.sampled_from([8, 10, 12, 14, 16]), center=st.integers(20, 80),
    width=st.integers(10, 120), function=st.sampled_from(["none", "LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)  # fmt: skip
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rounding_ties_do_not_part_the_two_polarities(tmp_path, write_dicom, seed, bits, center, width, function):
    top = 2**bits - 1
    bright = np.random.default_rng(seed).integers(0, top, (40, 50), endpoint=True).astype("u1" if bits == 8 else "u2")
    hashes = []
    for name, pixels in (("MONOCHROME2", bright), ("MONOCHROME1", (top - bright).astype(bright.dtype))):
        window = {}
        if function != "none":
            middle = center * top // 100
            middle = middle if name == "MONOCHROME2" else top - middle + (function == "LINEAR")
            window = {"WindowCenter": middle, "WindowWidth": 2 + width * top // 100, "VOILUTFunction": function}
        path = write_dicom(tmp_path / name, pixels, bits=bits, PhotometricInterpretation=name, **window)
        hashes.append(check_pixels(path).pixel_hash)
    assert hashes[0] == hashes[1]


def test_the_shape_is_part_of_the_hash():
    flat = np.linspace(0, 1, 12, dtype=np.float32)
    assert pixel_hash(flat.reshape(1, 3, 4)) != pixel_hash(flat.reshape(1, 4, 3))


def test_scaling_and_exposed_field_are_reported(tmp_path, write_dicom):
    deep = np.full((100, 80), 30, np.uint16)
    deep[20:, :] = RNG.integers(1500, 4000, (80, 80))
    check = check_pixels(write_dicom(tmp_path / "a", deep))
    assert check.scaling == "percentile"
    assert check.exposed_fraction == pytest.approx(0.8, abs=0.02)
    names = ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
    declared = {f"Collimator{name}Edge": value for name, value in zip(names, (0, 59, 0, 99), strict=True)}
    check = check_pixels(write_dicom(tmp_path / "b", deep, **declared))
    assert check.exposed_fraction == pytest.approx(0.6, abs=0.02)  # 0.8 of the rows, 0.75 of the columns


def test_the_columns_are_those_of_the_cohort_and_the_check_can_be_sent_to_a_process(tmp_path, write_dicom):
    columns = pickle.loads(pickle.dumps(pixel_columns))(write_dicom(tmp_path / "a", PICTURE, bits=8))
    assert ["decodable", *columns] == CHECKED.names
    check = check_pixels(tmp_path / "a")
    assert pickle.loads(pickle.dumps(check)) == check


def test_what_cannot_be_decoded_is_an_error_that_names_the_file(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "short.dcm", PICTURE, bits=8, Rows=PICTURE.shape[0] + 1)
    with pytest.raises(CxrPairError, match=r"short\.dcm"):
        check_pixels(path)


def test_neither_torch_nor_monai_is_imported():
    code = (
        "import sys, monai_cxrpair.imaging.check; "
        "print(sorted({'torch', 'monai', 'torchvision', 'ignite'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_many_frames_or_samples_are_refused_before_room_is_made_for_them(tmp_path, write_dicom):
    for claim in ({"NumberOfFrames": 100000}, {"SamplesPerPixel": 60000}):
        with pytest.raises(CxrPairError, match="the header claims"):
            check_pixels(write_dicom(tmp_path / "many.dcm", PICTURE, bits=8, **claim))


@pytest.mark.data
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize("side", [46341, 65535])
def test_a_header_that_claims_gigabytes_is_refused_in_no_time_and_little_memory(shared_data, side):
    path = shared_data / f"dicom/broken/orthanc_2026-05-26-oob-monochrome-{side}.dcm"
    code = (
        "import sys, time\n"
        "from monai_cxrpair.errors import CxrPairError\n"
        "from monai_cxrpair.imaging.check import check_pixels\n"
        "start = time.perf_counter()\n"
        "try:\n    check_pixels(sys.argv[1])\n"
        "except CxrPairError as error:\n    assert sys.argv[2] in str(error)\n"
        "else:\n    sys.exit('accepted')\n"
        # Not ru_maxrss: a new process starts with that of the one that started it.
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(time.perf_counter() - start, peak.split()[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(side)], capture_output=True, text=True, check=True
    )
    seconds, peak = (float(word) for word in done.stdout.split())
    assert seconds < 2
    assert peak < 200 * 1024  # KiB


def test_an_open_file_reads_as_its_path_does(tmp_path, write_dicom):
    path = write_dicom(tmp_path / "a", PICTURE, bits=8)
    with path.open("rb") as file:
        pixels, _ = read_dicom(file, name="export.zip!a")
    np.testing.assert_array_equal(pixels, read_radiograph(path))
    (tmp_path / "b").write_bytes(path.read_bytes()[132:])  # no preamble: read again from the start
    with (tmp_path / "b").open("rb") as file:
        np.testing.assert_array_equal(read_dicom(file)[0], pixels)
    (tmp_path / "c").write_bytes(b"no DICOM")
    with (tmp_path / "c").open("rb") as file, pytest.raises(CxrPairError, match=r"export\.zip!c: "):
        read_dicom(file, name="export.zip!c")
