"""The directory of a DICOM medium (CD, DVD, USB stick): which files does it name, and are they there?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from monai_cxrpair.cohort.dicom.archives import safe_name
from monai_cxrpair.cohort.dicom.file import DICOMDIR, is_marked
from monai_cxrpair.cohort.dicom.guard import quiet_pydicom
from monai_cxrpair.cohort.dicom.walk import Listing, list_files, printable
from monai_cxrpair.cohort.dicom.whole import whole_file
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.errors import CxrPairError


@dataclass(frozen=True)
class Directory:
    """What a DICOMDIR names: the files that are there, and the others with a reason."""

    listing: Listing
    rejects: list[tuple[str, Reason]]


def listed_files(source: Path, *, root: Path) -> Directory | None:
    """Find the files that a DICOMDIR names; None where the source is none.

    Media are written in capitals and often mounted in small letters: names are compared without regard to case.

    Raises:
        CxrPairError: It is a DICOMDIR that cannot be read.
    """
    if not (source.is_file() and is_marked(source)):
        return None
    with quiet_pydicom():
        try:
            with source.open("rb") as file:
                dataset = pydicom.dcmread(whole_file(file), stop_before_pixels=True)
            if str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) != DICOMDIR:
                return None
            records = [record.get("ReferencedFileID") for record in dataset.DirectoryRecordSequence]
        except Exception as error:  # a parser that is fed foreign bytes may raise anything
            raise CxrPairError(f"{source} cannot be read as a DICOMDIR: give its folder instead") from error
    names = sorted({_joined(record) for record in records if record})
    everything = list_files(source.parent, root=root)
    prefix = source.parent.absolute().relative_to(root.absolute()).as_posix()
    position = {name.casefold(): number for number, name in enumerate(everything.files)}
    rows, rejects = [], []
    for name in names:
        path = name if prefix == "." else f"{prefix}/{name}"
        if not safe_name(name):
            rejects.append((printable(path), Reason.UNSAFE_PATH))
        elif path.casefold() in position:
            rows.append(position[path.casefold()])
        else:
            rejects.append((path, Reason.MISSING_FILE))
    chosen = np.array(sorted(set(rows)), dtype=np.int64)
    listing = Listing(
        files=[everything.files[row] for row in chosen],
        sizes=everything.sizes[chosen],
        times=everything.times[chosen],
        folders=everything.folders,  # a file that is missing now may come
        folder_times=everything.folder_times,
    )
    return Directory(listing, rejects)


def _joined(file_id: Any) -> str:
    """Write a Referenced File ID (PS3.3 F.3.2.2: up to eight components) as a path."""
    return file_id if isinstance(file_id, str) else "/".join(map(str, file_id))
