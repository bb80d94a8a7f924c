"""Which patients something has learned from, as digests that a card can carry.

The ids of an indexed DICOM cohort are hashes under its owner's key (`deidentify.py`), so their digests tell nobody
without the key who was there; published datasets keep their public ids. Of ids that a hospital kept, which could be
found by trying, no digests are given. Cohorts that were indexed with the same key give a patient the same digest, and
can be compared; with another key nobody is ever found in both.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.readers.formats import PUBLISHED
from monai_cxrpair.errors import CxrPairError

_BYTES = 8  # among a million patients, two share a digest with a chance of 3 in 100 million
_PSEUDONYM = "[0-9a-f]{16}"  # what `pseudonyms` gives


def patient_digests(cohort: Cohort, rows: npt.ArrayLike | None = None) -> str | None:
    """The digests of patients, in an order that says nothing.

    Args:
        cohort: whose patients they are.
        rows: radiographs whose patients count, each once; None: all.

    Returns:
        Base64 of the sorted digests, 8 bytes each: 0.7 MB for the 65,000 patients of CheXpert. None where the ids are
        neither public nor hashes.
    """
    ids = cohort.table["patient_id"]
    if cohort.source not in PUBLISHED and not ids.str.fullmatch(_PSEUDONYM).all():
        return None
    there = ids if rows is None else ids.iloc[np.asarray(rows)]
    return base64.b64encode(b"".join(sorted(map(_digest, there.unique())))).decode("ascii")


def seen_patients(digests: str | None, patients: Iterable[str]) -> set[str]:
    """Those of the patients that are among the digests.

    Args:
        digests: what `patient_digests` gave; nothing and None: nobody.
        patients: ids as they stand in a cohort.

    Raises:
        CxrPairError: it is no list of digests.
    """
    try:
        raw = base64.b64decode(digests or "", validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise CxrPairError("the digests of the patients are damaged: take the card that was written") from error
    if len(raw) % _BYTES:
        raise CxrPairError("the digests of the patients are damaged: take the card that was written")
    known = {raw[start : start + _BYTES] for start in range(0, len(raw), _BYTES)}
    return {patient for patient in patients if _digest(patient) in known}


def _digest(patient: str) -> bytes:
    return hashlib.sha256(f"cxrpair patient\0{patient}".encode()).digest()[:_BYTES]
