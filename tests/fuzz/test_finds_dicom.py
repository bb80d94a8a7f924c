"""What `make fuzz` has found in DICOM, archives and pictures, as small as it can be made: crash, hang, exception."""

import gzip
import io
import struct
import tarfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import cv2
import jpeg_ls
import nibabel
import numpy as np
import pydicom
import pytest
from dicom_bytes import ITEM, UNDEFINED, elements, nested, write
from fuzz_base import Base
from fuzz_bases import all_bases
from pydicom.pixels.decoders import base as decoders

from monai_cxrpair.cohort.dicom import whole
from monai_cxrpair.cohort.dicom.file import MAX_SECONDS
from monai_cxrpair.cohort.dicom.rows import read_rows
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import read_radiograph
from monai_cxrpair.reporting import read_source

SECONDS = 5.0


@pytest.fixture(scope="module")
def bases() -> dict[str, Base]:
    return {base.name: base for base in all_bases(shared=False)}


def _written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _reasons(path: Path) -> list[str | None]:
    return [row["reason"] for row in read_rows([path.name], root=path.parent).to_pylist()]


def test_one_header_takes_no_longer_than_a_file_may() -> None:
    assert MAX_SECONDS < SECONDS


# DICOM


@pytest.mark.parametrize("syntax", [pydicom.uid.JPEGLSLossless, pydicom.uid.JPEGBaseline8Bit])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_jpeg_ls_that_is_cut_off_is_refused_before_a_decoder_reads_on_behind_its_end(
    bases: dict[str, Base], tmp_path: Path, syntax: str, share: float
) -> None:
    """CharLS takes 4 s for 2 kB, libjpeg up to a minute."""
    dataset = pydicom.dcmread(io.BytesIO(bases["rle.dcm"].data))
    rng = np.random.default_rng(0)
    dataset.Rows = dataset.Columns = 128
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    picture = cv2.GaussianBlur(rng.random((128, 128)), (0, 0), 3) * 255
    stream = bytes(jpeg_ls.encode(picture.astype(np.uint8)))
    for name, content, reason in (
        ("whole.dcm", stream, None if syntax == pydicom.uid.JPEGLSLossless else "JPEG-LS"),
        ("cut.dcm", stream[: int(share * len(stream))], "cut off"),
    ):
        dataset.PixelData = pydicom.encaps.encapsulate([content])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(tmp_path / name)
        began = time.process_time()
        if reason is None:
            assert read_radiograph(tmp_path / name).shape == (1, 128, 128)
        else:
            with pytest.raises(CxrPairError, match=reason):
                read_radiograph(tmp_path / name)
        assert time.process_time() - began < 1


def test_the_panic_of_a_rust_decoder_is_an_error_of_the_file(bases: dict[str, Base], tmp_path: Path) -> None:
    """It is a BaseException that no `except Exception` stops."""
    dataset = pydicom.dcmread(io.BytesIO(bases["rle.dcm"].data))
    dataset.Rows, dataset.Columns = 8, 16
    run = b"\x81\x00"  # 128 zeros: the first of two segments has twice as many as there are pixels
    stream = struct.pack("<16L", 2, 64, 68, *[0] * 13) + run * 2 + run
    dataset.PixelData = pydicom.encaps.encapsulate([stream])
    dataset.save_as(tmp_path / "long.dcm")
    with pytest.raises(CxrPairError, match=r"long\.dcm: the pixels cannot be read \(PanicException"):
        read_radiograph(tmp_path / "long.dcm")


def test_what_is_no_panic_still_ends_the_program(
    bases: dict[str, Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(decoders.Decoder, "as_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_radiograph(_written(tmp_path / "well.dcm", bases["rle.dcm"].data))


@pytest.mark.parametrize("read", [read_radiograph, read_source])
def test_no_more_is_asked_of_a_file_than_it_has(
    bases: dict[str, Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    """A length of 2 GB makes Python ask for 2 GB before it sees that there are only a few bytes."""
    data = bases["implicit.dcm"].data
    name = next(element for element in elements(data) if element.tag == 0x00100010)
    data = data[: name.length_at] + struct.pack("<L", 0x7FFFFFFF) + data[name.value_at :]
    path, asked = _written(tmp_path / "IM1", data), []
    clipped = whole._Clipped.read

    def counted(self: Any, length: int = -1) -> bytes:
        found = clipped(self, length)
        asked.append((length, len(found)))
        return found

    monkeypatch.setattr(whole._Clipped, "read", counted)
    with pytest.raises(CxrPairError):
        read(path)
    assert max(length or 0 for length, _ in asked) == 0x7FFFFFFF  # pydicom asks
    assert max(found for _, found in asked) <= len(data)
    with path.open("rb") as file:
        inner = _Asked(file)
        whole._Clipped(inner, len(data)).read(0x7FFFFFFF)  # type: ignore[arg-type]
    assert inner.most == len(data)


class _Asked:
    def __init__(self, file: Any) -> None:
        self.file, self.most = file, 0
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def read(self, length: int) -> bytes:
        self.most = max(self.most, length)
        return bytes(self.file.read(length))


@pytest.mark.parametrize("grouped", [True, False], ids=["with group length", "without"])
@pytest.mark.parametrize("read", [read_radiograph, read_source])
def test_a_deflated_bomb_is_refused_before_it_is_inflated(
    bases: dict[str, Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any, grouped: bool
) -> None:
    data = bases["deflated.dcm"].data
    found = elements(data)
    start = found[-1].end
    plain = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = data[: found[0].start] + data[found[0].start if grouped else found[0].end : start]
    bomb += packer.compress(plain + bytes(3 << 20)) + packer.flush()
    path = _written(tmp_path / "IM1", bomb)
    monkeypatch.setattr(whole, "MAX_INFLATED", 1 << 20)
    monkeypatch.setattr("zlib.decompress", lambda *args: pytest.fail("inflated"))
    with pytest.raises(CxrPairError, match=r"inflates to more|deflated, and without"):
        read(path)


@pytest.mark.parametrize("called_from", [0, 500], ids=["shallow", "deep"])
@pytest.mark.parametrize("depth", [100, 400])
def test_deep_sequences_do_not_stop_the_reading_of_a_source(
    bases: dict[str, Base], tmp_path: Path, depth: int, called_from: int
) -> None:
    """From a deep stack pydicom meets the end of it, and says so with an OSError of its own."""
    data = bases["implicit.dcm"].data
    place = next(element.start for element in elements(data) if element.tag > 0x00082218)
    deep = nested(0x00082218, depth, implicit=True, little=True, closed=True, known=False)
    path = _written(tmp_path / "IM1", data[:place] + deep + data[place:])
    began = time.process_time()
    with pytest.raises(CxrPairError, match=r"nested more than 64 deep|header cannot be read"):
        _from(called_from, read_source, path)
    assert time.process_time() - began < SECONDS


def _from(depth: int, call: Any, *args: Any) -> Any:
    return _from(depth - 1, call, *args) if depth else call(*args)


def test_sequences_of_a_usual_depth_are_no_reason(bases: dict[str, Base], tmp_path: Path) -> None:
    data = bases["implicit.dcm"].data
    place = next(element.start for element in elements(data) if element.tag > 0x00082218)
    deep = nested(0x00082218, 12, implicit=True, little=True, closed=True, known=True)
    assert read_source(_written(tmp_path / "IM1", data[:place] + deep + data[place:])) is not None
    assert deep == nested(0x00082218, 12, implicit=True, little=True, closed=True, known=True)
    inner = struct.pack("<HHL", ITEM >> 16, ITEM & 0xFFFF, 0)
    assert deep.endswith(write(0x00082218, b"SQ", inner, implicit=True, little=True))
    assert UNDEFINED.to_bytes(4, "little") not in deep


# archives


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_tar_whose_file_claims_a_million_gigabytes_ends_at_once(tmp_path: Path, suffix: str) -> None:
    """tarfile steps over what is claimed in steps of ten kilobytes, behind the end of the archive as well."""
    info = tarfile.TarInfo("IM1")
    info.size = 10**15
    content = info.tobuf(tarfile.GNU_FORMAT) + bytes(10240)
    path = _written(tmp_path / f"export{suffix}", gzip.compress(content) if suffix == ".tar.gz" else content)
    began = time.process_time()
    assert "archive" in _reasons(path)
    assert time.process_time() - began < 1


def test_a_file_without_a_name_in_a_zip_is_a_reject(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("x", b"content")
    path = tmp_path / "export.zip"
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 28] = 0  # the length of the name in the directory
    del data[at + 46]
    end = data.index(b"PK\x05\x06")
    struct.pack_into("<L", data, end + 12, end - at)
    path.write_bytes(data)
    assert _reasons(path) == ["unsafe path"]


# pictures and NIfTI


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_that_claims_more_than_a_radiograph_has_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    data = bytearray(cv2.imencode(suffix, np.zeros((8, 8), np.uint8))[1].tobytes())
    if suffix == ".png":
        struct.pack_into(">2L", data, 16, 30000, 30000)
        struct.pack_into(">L", data, 29, zlib.crc32(data[12:29]))
    else:
        struct.pack_into(">2H", data, data.index(b"\xff\xc0") + 5, 30000, 30000)
    monkeypatch.setattr(cv2, "imdecode", lambda *args: pytest.fail("decoded"))
    with pytest.raises(CxrPairError, match="claims 30000 x 30000 pixels"):
        read_radiograph(_written(tmp_path / f"large{suffix}", bytes(data)))


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [
        (108, "<f", float("inf")),  # where the pixels begin: OverflowError
        (116, "<f", float("nan")),  # the intercept: HeaderDataError
        (70, "<h", 4096),  # the type: HeaderDataError
        (42, "<h", 0),  # no columns: IndexError of the percentile
        (42, "<h", -1),  # mmap of a negative length: OverflowError
    ],
)
def test_a_nifti_head_that_says_nonsense_is_an_error_of_the_file(
    tmp_path: Path, at: int, form: str, value: float
) -> None:
    data = bytearray(nibabel.Nifti1Image(np.zeros((8, 8), np.int16), np.eye(4)).to_bytes())
    struct.pack_into(form, data, at, value)
    if at == 116:
        struct.pack_into("<f", data, 112, 1.0)
    with pytest.raises(CxrPairError, match=r"odd\.nii"):
        read_radiograph(_written(tmp_path / "odd.nii", bytes(data)))
