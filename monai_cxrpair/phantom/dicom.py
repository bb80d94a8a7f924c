"""One radiograph as a DICOM object with everything a PACS export carries; every name, number and date is invented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from monai_cxrpair.phantom.identity import Identity
from monai_cxrpair.phantom.nuisance import Picture, Shot
from monai_cxrpair.phantom.settings import PhantomSettings

BITS = 12
_MAKERS = (("Phantomworks", "CXR-1"), ("Fictional Imaging", "Portable 12"), ("Example Medical", "Wallstand DX"))
# SNOMED CT codes of the projections (DICOM CID 4010).
_VIEW_CODES = {
    "AP": ("399348003", "antero-posterior"),
    "PA": ("272479007", "postero-anterior"),
    "LL": ("399173006", "left lateral"),
    "RL": ("399198007", "right lateral"),
}


def store(picture: Picture, shot: Shot, *, white: int, black: int) -> NDArray[np.uint16]:
    """Turn a picture in display units into stored values; MONOCHROME1 stores it upside down.

    Args:
        picture: `(H, W)`, 0 to 1 is shown.
        shot: Decides the polarity.
        white: Stored value shown white, for MONOCHROME2.
        black: Stored value shown black, for MONOCHROME2.
    """
    top = 2**BITS - 1
    values = np.clip(np.round(black + picture * np.float32(white - black)), 0, top)
    return np.asarray(top - values if shot.monochrome1 else values, np.uint16)


def write_dicom(
    path: Path, picture: Picture, shot: Shot, identity: Identity, *, settings: PhantomSettings, variant: int
) -> None:
    """Write one radiograph as a CR or DX object, 12 bits in 16, with a linear window that shows 0 to 1 of `picture`.

    Args:
        path: The new file.
        picture: `(H, W)` in display units.
        shot: How it was taken.
        identity: Who and when.
        settings: For the pixel spacing.
        variant: Any non-negative number; decides the maker, CR or DX, and the room around the window.
    """
    is_dx = variant % 2 == 1
    black, white = ((200, 3600), (420, 3300), (96, 3900))[variant // 2 % 3]
    top = 2**BITS - 1
    low, high = (top - white, top - black) if shot.monochrome1 else (black, white)
    # A DX object for presentation must not rescale; some CR readers do.
    intercept = 0 if is_dx or variant // 6 % 3 else -1024
    pixels = store(picture, shot, white=white, black=black)

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation if is_dx else ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = identity.instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, identity.instance_uid
    data.ImageType = ["ORIGINAL", "PRIMARY"] if is_dx else ["DERIVED", "PRIMARY"]
    _identify(data, identity)
    _describe(data, shot, variant, is_dx=is_dx)
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.PhotometricInterpretation = "MONOCHROME1" if shot.monochrome1 else "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, BITS, BITS - 1
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = intercept, 1, "US"
    # DICOM PS3.3 C.11.2.1.2.1: LINEAR maps c - 0.5 - (w - 1) / 2 to black and c - 0.5 + (w - 1) / 2 to white.
    data.WindowWidth = high - low + 1
    data.WindowCenter = (low + high) / 2 + 0.5 + intercept
    data.VOILUTFunction = "LINEAR"
    spacing = round(430.0 / settings.image_size, 4)  # a field of 430 mm height
    data.ImagerPixelSpacing = [spacing, spacing]
    if not is_dx:
        data.PixelSpacing = [spacing, spacing]
    data.PixelData = pixels.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)


def _identify(data: Dataset, identity: Identity) -> None:
    """Patient, study and series."""
    data.SpecificCharacterSet = "ISO_IR 100"
    data.PatientName, data.PatientID = identity.name, identity.patient_id
    data.PatientBirthDate, data.PatientSex = identity.birth_date.strftime("%Y%m%d"), identity.sex
    data.PatientAge = f"{identity.age:03d}Y"
    data.StudyDate, data.StudyTime = identity.began.strftime("%Y%m%d"), identity.began.strftime("%H%M%S")
    day, time = identity.taken.strftime("%Y%m%d"), identity.taken.strftime("%H%M%S")
    data.SeriesDate = data.AcquisitionDate = data.ContentDate = day
    data.SeriesTime = data.AcquisitionTime = data.ContentTime = time
    data.AccessionNumber, data.StudyID = identity.accession, identity.accession[-6:]
    data.ReferringPhysicianName = "Referrer^Fictional"
    data.InstitutionName = "Phantom General Hospital"
    data.StudyInstanceUID, data.SeriesInstanceUID = identity.study_uid, identity.series_uid
    data.SeriesNumber, data.InstanceNumber = identity.series_number, identity.instance_number
    data.StudyDescription = "XR CHEST"


def _describe(data: Dataset, shot: Shot, variant: int, *, is_dx: bool) -> None:
    """Equipment, projection and presentation."""
    data.Modality = "DX" if is_dx else "CR"
    data.Manufacturer, data.ManufacturerModelName = _MAKERS[variant // 2 % len(_MAKERS)]
    data.BodyPartExamined = "CHEST"
    view = shot.view_position
    words = "LATERAL" if shot.laterality == "lateral" else view
    data.SeriesDescription = f"CHEST {words}{' PORTABLE' if view == 'AP' else ''}"
    # CR stations often write the word instead of DICOM's term, and one in sixty nothing at all.
    spelt = "LATERAL" if view == "LL" and variant % 7 == 0 and not is_dx else view
    data.ViewPosition = "" if variant % 60 == 44 and not is_dx else spelt
    data.PatientOrientation = {"AP": ["L", "F"], "PA": ["L", "F"], "LL": ["P", "F"], "RL": ["A", "F"]}[view]
    data.BurnedInAnnotation = "NO"  # letters are burned in, but nothing that tells who it is (PS3.3 C.7.6.1)
    data.LossyImageCompression = "00"
    if not is_dx:
        return
    data.PresentationIntentType = "FOR PRESENTATION"
    data.PresentationLUTShape = "INVERSE" if shot.monochrome1 else "IDENTITY"
    data.PixelIntensityRelationship = "LOG"
    data.PixelIntensityRelationshipSign = 1 if shot.monochrome1 else -1
    data.ImageLaterality = "U"
    data.AcquisitionContextSequence = Sequence([])
    data.AnatomicRegionSequence = Sequence([_code("51185008", "SCT", "Chest")])
    code, meaning = _VIEW_CODES[view]
    item = _code(code, "SCT", meaning)
    item.ViewModifierCodeSequence = Sequence([])
    data.ViewCodeSequence = Sequence([item])


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    """One item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item
