"""Whose radiograph it is: patient, study and instance, as the hospital wrote them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from monai_cxrpair.cohort.dicom.archives import open_file
from monai_cxrpair.cohort.dicom.file import MAX_SECONDS
from monai_cxrpair.cohort.dicom.guard import time_limit
from monai_cxrpair.cohort.dicom.whole import check_depth, whole_file
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.read import PICTURE_MAGIC

UTF8 = "ISO_IR 192"
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
# What every object must have, if only empty (type 2), and what highdicom refuses in many real archives: a sex of "X",
# accession numbers of 20 letters, dates with points. It gets them empty, and the hospital's own are copied afterwards.
_TOUCHY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)


def read_source(path: str | Path) -> Dataset | None:
    """Read the header of a radiograph.

    Args:
        path: A file, or one in an archive (`export.zip/DICOM/IM1`).

    Returns:
        The header without pixels, its text decoded; None for a picture (JPEG, PNG, NIfTI), which is nobody's.

    Raises:
        CxrPairError: It cannot be read, or has no UIDs to refer to.
    """
    path = Path(path)
    if path.name.endswith((".nii", ".nii.gz")):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they name the values they complain about
        try:
            with open_file(path) as stream:
                head = stream.read(8)
                stream.seek(0)
                if head.startswith(PICTURE_MAGIC):
                    return None
                file = whole_file(stream)
                with time_limit(MAX_SECONDS):
                    try:
                        header = dcmread(file, stop_before_pixels=True)
                    except InvalidDicomError:  # without preamble; the UIDs below tell whether it is DICOM at all
                        file.seek(0)
                        header = dcmread(file, stop_before_pixels=True, force=True)
                    check_depth(header)
                    header.decode()
        except CxrPairError as error:
            raise CxrPairError(f"{path}: {error}") from error
        except Exception as error:  # a parser that is fed foreign bytes may raise anything
            if isinstance(error, OSError) and error.errno is not None:  # pydicom raises its own, without a number
                raise CxrPairError(f"{path}: cannot be opened ({error.strerror})") from error
            raise CxrPairError(f"{path}: the DICOM header cannot be read ({type(error).__name__})") from error
    lacking = [name for name in _NEEDED if not str(header.get(name) or "").strip()]
    if lacking:
        raise CxrPairError(f"{path}: no DICOM answer can refer to it, {', '.join(lacking)} is missing")
    return header


def tamed(source: Dataset) -> Dataset:
    """The header as highdicom takes it; `copy_patient_and_study` puts the hospital's own values in later."""
    header = Dataset()
    for name in _NEEDED:
        setattr(header, name, str(source[name].value).strip())
    for name in _TOUCHY:
        setattr(header, name, None)
    return header


def copy_patient_and_study(source: Dataset, target: Any) -> None:
    """Copy all attributes of patient and study verbatim to an object of highdicom."""
    target.SpecificCharacterSet = UTF8
    target.copy_patient_and_study_information(source)
    for name in _TOUCHY:
        if name not in target:
            setattr(target, name, None)
