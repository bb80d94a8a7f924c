"""The whole pixel chain against highdicom, a numpy oracle, and the pictures that real files were made of."""

import re
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.imaging import read_radiograph

ENCODINGS = ("expl", "impl", "rle", "jpeg", "j2k", "bigendian", "deflated", "mono1_12")
POLARITIES = [*product(["MONOCHROME1", "MONOCHROME2"], [None, "IDENTITY"]), ("MONOCHROME1", "INVERSE")]


def with_highdicom(path):
    highdicom = pytest.importorskip("highdicom")  # the extra `reporting`
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return highdicom.imread(path).get_frame(1, apply_voi_transform=None)


def lookup_table(table, *, first, bits, signed, **extra):
    """An item of a VOI or modality LUT sequence; the first value mapped is signed where its input may be."""
    item = Dataset()
    item.LUTDescriptor = [len(table), first, bits]
    packed = table.astype("u1" if bits == 8 else "<u2").tobytes()
    item.LUTData = packed + b"\0" * (len(packed) % 2)
    item["LUTDescriptor"].VR = "SS" if signed else "US"
    item["LUTData"].VR = "OW"
    for name, value in extra.items():
        setattr(item, name, value)
    return Sequence([item])


@st.composite
def chains(draw):
    """Pixels and the attributes of one way through modality, VOI and presentation, as PS3.3 allows it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    signed = draw(st.booleans())
    bits = draw(st.integers(9, 14) if signed else st.integers(8, 16))  # highdicom's own sums wrap around: by hand below
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    kind = ("i" if signed else "u") + ("1" if bits == 8 else "2")
    pixels = rng.integers(low, high, (12, 17), endpoint=True).astype(kind)
    photometric, shape = draw(st.sampled_from(POLARITIES))
    attributes = {"bits": bits, "PhotometricInterpretation": photometric}
    if shape:
        attributes["PresentationLUTShape"] = shape
    modality = draw(st.sampled_from(["none", "rescale", "lut"]))
    if modality == "rescale":
        slope, intercept = draw(st.sampled_from([1.0, 0.5, 2.0])), float(draw(st.integers(-1100, 500)))
        attributes |= {"RescaleSlope": slope, "RescaleIntercept": intercept, "RescaleType": "US"}
        low, high = low * slope + intercept, high * slope + intercept
    elif modality == "lut":
        table = np.sort(rng.integers(0, 4095, draw(st.integers(50, 2**bits - 1)), endpoint=True))
        first = draw(st.integers(int(low), int(low) + 40))
        attributes["ModalityLUTSequence"] = lookup_table(
            table, first=first, bits=16, signed=signed, ModalityLUTType="US"
        )
        low, high = int(table[0]), int(table[-1])
    span = high - low
    voi = draw(st.sampled_from(["LUT", "LINEAR", "LINEAR_EXACT", "SIGMOID"]))
    if (attributes.get("RescaleSlope", 1.0) != 1.0 and voi in ("LUT", "LINEAR")) or (modality, voi) == ("lut", "LUT"):
        # highdicom joins no VOI LUT with such a slope, takes the half value of LINEAR in stored units, and neither
        # scales nor inverts two joined tables: by hand below.
        voi = "LINEAR_EXACT"
    if voi == "LUT":
        depth = draw(st.integers(8, 16))  # of the entries; highdicom takes 8 or 16 as the descriptor's word for it
        table = np.sort(rng.integers(0, 2**depth - 1, draw(st.integers(20, 600)), endpoint=True))
        table[0], table[-1] = 0, 2**depth - 1
        start = draw(st.floats(-0.05 if signed else 0.0, 0.6))  # highdicom: no negative value into unsigned pixels
        first = min(int(np.ceil(low + start * span)), 32767)
        attributes["VOILUTSequence"] = lookup_table(table, first=first, bits=8 if depth == 8 else 16, signed=first < 0)
    else:
        attributes["WindowCenter"] = round(low + draw(st.floats(0.1, 0.9)) * span)
        attributes["WindowWidth"] = max(2.0, round(draw(st.floats(0.05, 1.5)) * span))
        attributes["VOILUTFunction"] = voi
    return pixels, attributes


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chains())
def test_every_way_through_the_chain_equals_highdicom(tmp_path, write_dicom, chain):
    pixels, attributes = chain
    path = write_dicom(tmp_path / "a", pixels, **attributes)
    np.testing.assert_allclose(read_radiograph(path)[0], with_highdicom(path), atol=1 / 255)


@pytest.mark.parametrize("kind", ["i1", "i2"])
@pytest.mark.parametrize("stage", ["ModalityLUTSequence", "VOILUTSequence"])
def test_tables_over_the_whole_signed_range_do_not_wrap_around(tmp_path, write_dicom, kind, stage):
    bits = 8 * np.dtype(kind).itemsize
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    pixels = np.array([[lowest, -1, 0, highest]], dtype=kind)
    entries = 2**bits - 1 if bits == 8 else 65535  # the last value is beyond the table and takes its end
    table = lookup_table(np.arange(entries), first=lowest, bits=16, signed=True, ModalityLUTType="US")
    window = {"WindowCenter": entries / 2 - 0.5, "WindowWidth": entries - 1, "VOILUTFunction": "LINEAR_EXACT"}
    path = write_dicom(tmp_path / "a", pixels, bits=bits, **{stage: table}, **window)
    expected = np.array([0, -1 - lowest, -lowest, entries - 1]) / (entries - 1)
    np.testing.assert_allclose(read_radiograph(path)[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_modality_table_leads_into_a_voi_table(tmp_path, write_dicom, photometric):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (9, 9), endpoint=True).astype(np.uint8)
    modality, voi = rng.permutation(1000)[:200], np.sort(rng.integers(0, 4096, 500))
    path = write_dicom(
        tmp_path / "a", pixels, bits=8, PhotometricInterpretation=photometric,
        ModalityLUTSequence=lookup_table(modality, first=20, bits=16, signed=False, ModalityLUTType="US"),
        VOILUTSequence=lookup_table(voi, first=300, bits=16, signed=False),
    )  # fmt: skip
    after_modality = np.array([modality[min(max(int(v) - 20, 0), 199)] for v in pixels.flat])
    after_voi = np.array([voi[min(max(int(v) - 300, 0), 499)] for v in after_modality], dtype=float)
    shown = np.interp(after_voi, [voi[0], voi[-1]], [1, 0] if photometric == "MONOCHROME1" else [0, 1])
    np.testing.assert_allclose(read_radiograph(path)[0].ravel(), shown, atol=1e-6)


def test_linear_counts_its_window_in_values_of_the_modality_output(tmp_path, write_dicom):
    """PS3.3 C.11.2.1.2.1 at center 40, width 21: 29.5 is black, 49.5 white, (y - 39.5) / 20 + 0.5 between."""
    pixels = np.array([[0, 59, 60, 79, 89, 98, 99, 100, 255]], dtype=np.uint8)
    slope = {"RescaleSlope": 0.5, "RescaleIntercept": 0, "RescaleType": "US"}
    path = write_dicom(tmp_path / "a", pixels, bits=8, WindowCenter=40, WindowWidth=21, **slope)
    expected = [0, 0, 0.025, 0.5, 0.75, 0.975, 1, 1, 1]
    np.testing.assert_allclose(read_radiograph(path)[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("signed", [True, False])
def test_a_lookup_table_from_below_zero_is_the_same_in_either_spelling_of_its_first_value(
    tmp_path, write_dicom, signed
):
    """-300 is written as 65236 where the VR of the descriptor was lost; the answer is worked out by hand."""
    pixels = np.array([[0, 299, 300, 500, 699, 900]], dtype=np.uint16)
    table = lookup_table(np.arange(0, 400), first=-300 if signed else 65236, bits=16, signed=signed)
    path = write_dicom(tmp_path / "a", pixels, VOILUTSequence=table, RescaleSlope=1, RescaleIntercept=-600)
    # Modality output -600, -301, -300, -100, 99, 300; entries 0, 0, 0, 200, 399, 399 of 399.
    np.testing.assert_allclose(read_radiograph(path)[0, 0], np.array([0, 0, 0, 200, 399, 399]) / 399, atol=1e-6)
    above = lookup_table(np.arange(0, 400), first=-300 if signed else 65236, bits=16, signed=signed)
    path = write_dicom(tmp_path / "b", pixels, VOILUTSequence=above)
    np.testing.assert_allclose(read_radiograph(path)[0, 0], np.array([300, 399, 399, 399, 399, 399]) / 399, atol=1e-6)


@given(
    seed=st.integers(0, 2**32), bits=st.sampled_from([8, 10, 12, 14, 16]), center=st.floats(0.2, 0.8),
    width=st.floats(0.1, 1.2), function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_polarities_of_one_image_give_the_same_array(tmp_path, write_dicom, seed, bits, center, width, function):
    top = 2**bits - 1
    bright = np.random.default_rng(seed).integers(0, top, (9, 11), endpoint=True).astype("u1" if bits == 8 else "u2")
    center, width = round(center * top), max(2, round(width * top))
    # LINEAR counts the window in whole values, so its middle lies half a value below the center.
    mirrored = top - center + (function == "LINEAR")
    window = {"bits": bits, "WindowWidth": width, "VOILUTFunction": function}
    one = write_dicom(tmp_path / "2", bright, WindowCenter=center, **window)
    other = write_dicom(
        tmp_path / "1", (top - bright).astype(bright.dtype), WindowCenter=mirrored,
        PhotometricInterpretation="MONOCHROME1", **window,
    )  # fmt: skip
    np.testing.assert_allclose(read_radiograph(one), read_radiograph(other), atol=1e-7)


def test_more_than_16_bits_go_through_the_same_chain(tmp_path, write_dicom):
    pixels = np.random.default_rng(0).integers(0, 2**24, (20, 30)).astype(np.uint32)
    path = write_dicom(
        tmp_path / "a", pixels, bits=24, WindowCenter=8e6, WindowWidth=9e6, VOILUTFunction="LINEAR_EXACT"
    )
    np.testing.assert_allclose(read_radiograph(path)[0], np.clip((pixels - 8e6) / 9e6 + 0.5, 0, 1), atol=1e-6)


@pytest.fixture(scope="module")
def accepted(shared_data, tmp_path_factory):
    """The real files that the package's own index accepts."""
    out = tmp_path_factory.mktemp("index") / "cohort.parquet"
    return index_source(shared_data / "dicom", out=out, keep_identifiers=True, workers=1).cohort.paths()


@pytest.mark.data
def test_every_real_file_with_a_voi_equals_highdicom_and_every_other_a_numpy_oracle(accepted):
    with_voi = without = 0
    for path in accepted:
        data = dcmread(path)
        ours = read_radiograph(path)[0]
        if "VOILUTSequence" in data or "WindowCenter" in data:
            np.testing.assert_allclose(ours, with_highdicom(path), atol=1 / 255, err_msg=str(path))
            with_voi += 1
            continue
        stored = data.pixel_array.astype(float) * float(data.get("RescaleSlope", 1)) + float(
            data.get("RescaleIntercept", 0)
        )
        low, high = (0, 255) if data.BitsStored == 8 else np.percentile(stored, [1, 99])
        shown = np.interp(stored, [low, high], [1, 0] if data.PhotometricInterpretation == "MONOCHROME1" else [0, 1])
        np.testing.assert_allclose(ours, shown, atol=1e-6, err_msg=str(path))
        without += 1
    assert with_voi >= 6
    assert without >= 25


@pytest.mark.data
def test_the_mini_pacs_equals_its_source_pictures_in_all_eight_encodings(shared_data):
    files = pd.read_csv(shared_data / "dicom/files.csv", dtype=str)
    files = files[files["file"].str.startswith("derived/mini_pacs/")]
    worst = dict.fromkeys(ENCODINGS, (0.0, 0.0))
    for file, source, note in files[["file", "source", "note"]].itertuples(index=False):
        encoding = re.search(r"wrapped as \w+ \((\w+)\)", note)[1]
        off = 255 * np.abs(read_radiograph(shared_data / "dicom" / file) - read_radiograph(shared_data / source))
        worst[encoding] = max(worst[encoding][0], off.max()), max(worst[encoding][1], off.mean())
    assert len(files) == 30
    assert set(worst) == set(ENCODINGS)
    for encoding, (most, mean) in worst.items():
        # JPEG loses what it loses; the 12-bit copies hold 16 v of 4095, a little less than v of 255.
        limits = {"jpeg": (12, 0.5), "mono1_12": (1, 0.6)}.get(encoding, (1e-4, 1e-4))
        assert most <= limits[0], (encoding, most, mean)
        assert mean <= limits[1], (encoding, most, mean)
