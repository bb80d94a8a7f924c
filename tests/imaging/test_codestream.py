"""Sizes in the headers of compressed pictures, against the encoders that wrote them."""

import struct

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import read_radiograph
from monai_cxrpair.imaging.codestream import claimed_shape

PICTURE = np.random.default_rng(0).integers(0, 255, (40, 30)).astype(np.uint8)


def jpeg(picture=PICTURE, **options):
    return cv2.imencode(".jpg", picture, [v for pair in options.items() for v in (getattr(cv2, pair[0]), pair[1])])[
        1
    ].tobytes()


@pytest.mark.parametrize("shape", [(40, 30), (1, 1), (9, 257)])
@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_says_its_rows_and_columns(shape, progressive):
    assert claimed_shape(jpeg(np.zeros(shape, np.uint8), IMWRITE_JPEG_PROGRESSIVE=progressive)) == shape


def test_fill_bytes_and_comments_before_the_frame_are_passed_over():
    stream = jpeg()
    comment = b"\xff\xff\xff\xfe" + struct.pack(">H", 6) + b"\xff\xc0ab"
    assert claimed_shape(stream[:2] + comment + stream[2:]) == PICTURE.shape


@pytest.mark.parametrize("stream", [b"", b"\xff\xd8", jpeg()[:30], b"\xff\x4f\xff\x51\0", b"RLE" * 20])
def test_what_holds_no_size_gives_none(stream):
    assert claimed_shape(stream) is None


@pytest.mark.data
def test_real_compressed_files_say_what_their_header_says(shared_data):
    seen = set()
    for path in sorted((shared_data / "dicom").rglob("*")):
        if not path.is_file() or "broken" in path.parts:
            continue
        try:
            data = dcmread(path)
            encoding = data.file_meta.TransferSyntaxUID
            frame = next(generate_frames(data.PixelData, number_of_frames=int(data.get("NumberOfFrames") or 1)))
        except Exception:  # no DICOM file, or no compressed pixels
            continue
        shape = claimed_shape(frame)
        if shape is not None:
            assert shape == (data.Rows, data.Columns), path
            seen.add(encoding)
    assert {JPEGBaseline8Bit, JPEG2000Lossless} <= seen


@pytest.mark.parametrize("uid", [JPEG2000Lossless, JPEGLSLossless, JPEGBaseline8Bit])
def test_a_picture_that_claims_more_than_its_header_is_refused_before_it_is_decoded(tmp_path, write_dicom, uid):
    picture = cv2.resize(PICTURE, (150, 200))
    path = write_dicom(tmp_path / "a.dcm", picture, bits=8)
    data = dcmread(path)
    if uid == JPEG2000Lossless:
        data.compress(uid, encoding_plugin="pylibjpeg")
        stream = bytearray(next(generate_frames(data.PixelData, number_of_frames=1)))
        struct.pack_into(">2I", stream, stream.index(b"\xff\x51") + 6, 60000, 60000)
    else:
        sof = b"\xff\xc0" if uid == JPEGBaseline8Bit else b"\xff\xf7"
        stream = bytearray(jpeg(picture).replace(b"\xff\xc0", sof))
        struct.pack_into(">2H", stream, stream.index(sof) + 5, 60000, 60000)
    data.file_meta.TransferSyntaxUID = uid
    data.PixelData = encapsulate([bytes(stream)])
    data["PixelData"].is_undefined_length = True
    data.save_as(path)
    with pytest.raises(CxrPairError, match=r"a\.dcm: the header says 200 x 150 pixels, .* 60000 x 60000"):
        read_radiograph(path)
