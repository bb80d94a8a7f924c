"""A damaged picture is an error of one file; it may not end the process."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import dicom, read_radiograph


def _jpeg(path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Rows, dataset.Columns = "1.2.840.10008.5.1.4.1.1.1", 64, 64
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.SamplesPerPixel = 7, 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = encapsulate([cv2.imencode(".jpg", pixels)[1].tobytes()])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID, dataset.file_meta.MediaStorageSOPInstanceUID = JPEGBaseline8Bit, "1.2"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_damaged_jpegs_do_not_end_the_process(tmp_path: Path) -> None:
    """gdcm aborts on some of them; a child process takes the blow."""
    whole = _jpeg(tmp_path / "x").read_bytes()
    code = (
        "import sys, numpy as np\n"
        "from monai_cxrpair.errors import CxrPairError\n"
        "from monai_cxrpair.imaging.dicom import read_dicom\n"
        "from pathlib import Path\n"
        "path = Path(sys.argv[1]); whole = path.read_bytes(); random = np.random.default_rng(1)\n"
        "for _ in range(300):\n"
        "    content = bytearray(whole)\n"
        "    for at in random.integers(len(whole) - 4000, len(whole), 4): content[at] = random.integers(256)\n"
        "    path.write_bytes(content)\n"
        "    try: read_dicom(path)\n"
        "    except CxrPairError as error: assert '\\n' not in str(error)\n"
    )
    assert len(whole) > 4000
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_gdcm_is_not_asked_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Decoder:
        available_plugins = ("gdcm", "pillow", "pylibjpeg")

    asked: list[str] = []
    options = pydicom.Dataset.pixel_array_options

    def spy(dataset: Dataset, **chosen: str) -> None:
        asked.append(chosen["decoding_plugin"])
        options(dataset, **chosen)

    monkeypatch.setattr("monai_cxrpair.imaging.dicom.get_decoder", lambda syntax: Decoder)
    monkeypatch.setattr(pydicom.Dataset, "pixel_array_options", spy)
    assert read_radiograph(_jpeg(tmp_path / "x")).shape == (1, 64, 64)
    assert asked == ["pillow"]


def test_an_unforeseen_exception_is_an_error_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OddError(Exception):
        """As zlib.error or pydicom's BytesLengthException: of no known kind."""

    def fail(dataset: Dataset) -> None:
        raise OddError("two\nlines")

    monkeypatch.setattr(dicom, "_check_codestream", fail)
    with pytest.raises(CxrPairError, match=r"x: the pixels cannot be read \(OddError: two lines\)"):
        read_radiograph(_jpeg(tmp_path / "x"))
