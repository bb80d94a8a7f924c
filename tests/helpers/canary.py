"""Radiographs full of identifiers, and where these stand."""

import base64
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pydicom
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset

from monai_cxrpair.phantom import write_phantom

TEXT = {"AE": 16, "LO": 64, "LT": 64, "PN": 64, "SH": 16, "ST": 64, "UC": 64, "UT": 64, "UR": 64}
DATES = {"DA": "19870605", "DT": "19870605070809.123456", "TM": "070809.123456"}
# What the index decides by; their values are the standard's own words, or codes of a shared vocabulary. Study dates and
# birth dates are in, ids too: they carry tokens of their own below.
FUNCTIONAL = {
    *("SpecificCharacterSet", "SOPClassUID", "Modality", "BodyPartExamined", "PresentationIntentType", "ImageType"),
    *("PhotometricInterpretation", "PatientSex", "PatientOrientation", "BurnedInAnnotation", "PresentationLUTShape"),
    *("VOILUTFunction", "ViewPosition", "ViewCodeSequence", "AnatomicRegionSequence", "ModalityLUTSequence"),
    *("VOILUTSequence", "WindowCenterWidthExplanation", "RescaleType", "LossyImageCompression", "PixelData"),
    *("SeriesDescription", "ProtocolName", "StudyDescription", "AcquisitionDeviceProcessingDescription"),
}
FULL = 12
DESCRIPTIONS = ("SeriesDescription", "ProtocolName", "StudyDescription", "AcquisitionDeviceProcessingDescription")

# Ids, names and free text of the headers; the dates in every way they are written.
TOKENS = re.compile(
    r"QZ(?:\d+X[0-9A-F]|PATIENT|NAME|GIVEN|FREETEXT)|1\.2\.987654321|1\.2\.123456789|1987-?06-?05|19870605"
)


def write_export(folder: Path, *, patients: int, seed: int) -> list[str]:
    """Phantom radiographs as an export, `IM0000` and so on; every `FULL`th holds all that DICOM has a name for.

    Returns:
        Their SOP Instance UIDs, in the order of the files.
    """
    write_phantom(folder.parent / "phantom", patients=patients, file_format="dicom", seed=seed)
    uids, known = [], dict[str, str]()
    for number, path in enumerate(sorted((folder.parent / "phantom").rglob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        patient = known.setdefault(str(dataset.PatientID), f"QZPATIENT{len(known):03d}")
        study, uid = f"1.2.123456789.{dataset.StudyInstanceUID.split('.')[-1]}", f"1.2.987654321.{number}.77"
        if number % FULL == 0:  # 4,000 attributes each: all of them in every file would take minutes to read
            _plant(dataset, number)
        dataset.PatientID, dataset.StudyInstanceUID, dataset.SOPInstanceUID = patient, study[:64], uid
        dataset.PatientName = f"QZNAME{patient[-3:]}^<script>QZGIVEN</script>"
        for keyword in DESCRIPTIONS:
            setattr(dataset, keyword, f"CHEST {dataset.ViewPosition} QZFREETEXT")
        dataset.file_meta.MediaStorageSOPInstanceUID = uid
        target = folder / f"{number // 20}" / f"IM{number:04d}"
        target.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(target, enforce_file_format=True)
        uids.append(uid)
    return uids


def _plant(dataset: Dataset, number: int, *, depth: int = 0) -> None:
    """Fill every attribute of the dictionary that is not there yet, or that may name somebody."""
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        if not keyword or keyword in FUNCTIONAL or group in (0x0000, 0x0002, 0x0004) or group % 2 or retired == "x":
            continue
        token = f"QZ{number}X{tag:08X}"
        if vr in TEXT:
            setattr(dataset, keyword, f"{token}^{token}" if vr == "PN" else token[: TEXT[vr]])
        elif vr == "UI" and keyword not in ("SOPInstanceUID", "StudyInstanceUID"):
            setattr(dataset, keyword, f"1.2.987654321.{number}.{tag}")
        elif vr in DATES and keyword not in ("StudyDate", "StudyTime", "PatientBirthDate"):
            setattr(dataset, keyword, DATES[vr])
        elif vr == "SQ" and depth == 0:
            item = Dataset()
            item.PatientID, item.PatientName, item.TextValue = token, f"{token}^ITEM", token
            setattr(dataset, keyword, [item])


def contents(path: Path) -> Iterator[str]:
    """The bytes of a file, and what they become when they are unpacked: tables, zip members, embedded pictures."""
    raw = path.read_bytes()
    yield raw.decode("latin-1")
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
        yield table.to_csv()
        yield " ".join(table.columns)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(io.BytesIO(raw)) as opened:
            for name in opened.namelist():
                yield name + opened.read(name).decode("latin-1")
    for encoded in re.findall(rb"base64,([A-Za-z0-9+/=]+)", raw):
        picture = base64.b64decode(encoded)
        yield picture.decode("latin-1")
        for chunk in re.findall(rb"(?:zTXt|iTXt|tEXt).{1,80}?\0\0?(.+?)(?:IDAT|IEND)", picture, re.DOTALL):
            try:
                yield zlib.decompress(chunk).decode("latin-1")
            except zlib.error:
                yield chunk.decode("latin-1")
