"""The radiograph with the heat map as a DICOM secondary capture."""

from __future__ import annotations

import hashlib
import warnings
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from monai_cxrpair.imaging.dicom import PixelInfo
from monai_cxrpair.imaging.orientation import AS_STORED
from monai_cxrpair.reporting.answer import NAME, RESEARCH_ONLY, Algorithm, Answer, derived_uid, highdicom
from monai_cxrpair.reporting.codes import SOURCE_IMAGE
from monai_cxrpair.reporting.overlay import draw_overlay
from monai_cxrpair.reporting.source import copy_patient_and_study, tamed
from monai_cxrpair.reporting.structured_report import common_attributes, series_description, stamp

SERIES_NUMBER = 9902
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


def build_overlay(
    answer: Answer,
    algorithm: Algorithm,
    pixels: npt.NDArray[np.floating[Any]],
    heat_map: npt.NDArray[np.floating[Any]] | None,
    *,
    info: PixelInfo | None = None,
    whole: bool = False,
    created: datetime | None = None,
) -> Any:
    """Make the picture of an answer.

    Args:
        answer: What is said.
        algorithm: Who says it.
        pixels: The radiograph (1, H, W) or (H, W) in [0, 1], as `read_radiograph` gives it.
        heat_map: (h, w) in [0, 1]; None for a classifier that has none.
        info: What reading did to the pixels; whether they were turned.
        whole: The map is of the whole radiograph, not of its central square.
        created: When; now if None. The UIDs do not depend on it, but on all that is shown.

    Returns:
        A `highdicom.sc.SCImage` in RGB, uncompressed, with the patient and study of the radiograph.

    Raises:
        CxrPairError: highdicom is missing.
    """
    hd = highdicom()
    lines = [RESEARCH_ONLY, f"{NAME} {algorithm.version}  {answer.sentence(algorithm)}"]
    picture = draw_overlay(pixels.reshape(pixels.shape[-2:]), heat_map, lines, whole=whole)
    source = tamed(answer.source)
    created = created or datetime.now()
    shown = hashlib.sha256(picture.tobytes()).hexdigest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they name the values they complain about
        image = hd.sc.SCImage(
            pixel_array=picture,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),  # it must have one; ours is set below
            study_instance_uid=source.StudyInstanceUID,
            series_instance_uid=derived_uid(
                "sc series", source.StudyInstanceUID, algorithm.model_hash, algorithm.finding
            ),
            series_number=SERIES_NUMBER,
            sop_instance_uid=derived_uid("sc", source.SOPInstanceUID, algorithm.model_hash, algorithm.version, shown),
            instance_number=max(1, _number(answer.source)),
            **common_attributes(algorithm, created),
        )
        copy_patient_and_study(answer.source, image)
    stamp(image, created)
    image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture = image.ContentDate, image.ContentTime
    image.PatientOrientation = _orientation(answer.source, info)
    image.ConversionType = "WSD"  # made by a workstation: nothing was digitised
    image.SeriesDescription = series_description(algorithm)
    image.ImageComments = f"{RESEARCH_ONLY}. {answer.sentence(algorithm)}" + (
        f". {answer.remark}" if answer.remark else ""
    )
    map_words = (
        "without a heat map" if heat_map is None else "with the heat map of a classifier, which is no segmentation"
    )
    image.DerivationDescription = (
        f"{RESEARCH_ONLY}. The radiograph, resampled to 8 bits and {picture.shape[1]} columns, {map_words}; "
        f"text burned in above it. {NAME} {algorithm.version}, model SHA-256 {algorithm.model_hash}"
    )
    image.SourceImageSequence = [_reference(hd, source)]
    # Our text identifies nobody. Whether the radiograph below it does, we know no better than its own header: YES and
    # NO are handed on, and where it is silent, so are we (PS3.3 C.7.6.1: absent, there may or may not be any).
    burned = str(answer.source.get("BurnedInAnnotation") or "").strip().upper()
    if burned in ("YES", "NO"):
        image.BurnedInAnnotation = burned
    for keyword in _LOSSY:  # what was lost once stays lost (PS3.3 C.7.6.1.1.5)
        if str(answer.source.get("LossyImageCompression") or "").strip() == "01" and keyword in answer.source:
            image.add(answer.source[keyword])
    return image


def _reference(hd: Any, source: Dataset) -> Dataset:
    """The image that it was made from."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [hd.sr.CodedConcept(*SOURCE_IMAGE)]
    return item


def _number(source: Dataset) -> int:
    """The radiograph's own number in its series."""
    text = str(source.get("InstanceNumber") or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 1


def _orientation(source: Dataset, info: PixelInfo | None) -> list[str] | None:
    r"""Where rows and columns lead, after `R\F to L\F` as the reader turned them; None, unknown, where nobody said."""
    if info is not None and info.orientation != AS_STORED:
        return info.orientation.partition(" to ")[2].split("\\")
    declared = source.get("PatientOrientation")
    values = [str(value).strip() for value in declared] if declared and not isinstance(declared, str) else []
    return values if len(values) == 2 and all(values) else None
