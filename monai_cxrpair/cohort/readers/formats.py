"""The formats of `cxrpair index`: which reader is for which table, and how a source is recognised."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort.dicom.archives import is_archive
from monai_cxrpair.cohort.dicom.file import is_marked
from monai_cxrpair.cohort.readers import chexpert, mimic_cxr, nih, openi, padchest, rsna, vindr
from monai_cxrpair.cohort.readers.textfile import is_table, read_text_table
from monai_cxrpair.cohort.reading import Reading
from monai_cxrpair.errors import CxrPairError


@dataclass(frozen=True, kw_only=True)
class Format:
    """One published data set.

    Attributes:
        read: Makes a reading of the table (all text); keyword arguments `root` (folder with the images) and `file`
            (the table's file: companions lie beside it).
        columns: A table that has all the columns of one of these sets is recognised.
        files: What the table is called in the folder of the distribution, without `.gz`. Where the source is a folder
            all that are there are read, one below the other.
        guess: Is a folder with such a file taken for this data set? Otherwise only where the format is named.
    """

    read: Callable[..., Reading]
    columns: tuple[frozenset[str], ...]
    files: tuple[str, ...]
    guess: bool = True


# In the order of --help.
PUBLISHED = {
    "chexpert": Format(
        read=chexpert.read_chexpert,
        columns=(frozenset(chexpert.COLUMNS), *chexpert.TEST),
        files=("train.csv", "valid.csv", "test.csv"),
        guess=False,  # other data sets have a train.csv, too
    ),
    "mimic-cxr": Format(
        read=mimic_cxr.read_mimic_cxr, columns=(frozenset(mimic_cxr.COLUMNS),), files=("mimic-cxr-*-metadata.csv",)
    ),
    "nih": Format(
        read=nih.read_nih,
        columns=(frozenset({"Image Index", "Finding Labels"}),),
        files=("Data_Entry_2017*.csv",),
    ),
    "padchest": Format(
        read=padchest.read_padchest,
        columns=(frozenset({"ImageID", "ImageDir", "PatientID", "Labels"}),),
        files=("PADCHEST_chest_x_ray_images_labels_*.csv",),
    ),
    "vindr": Format(
        read=vindr.read_vindr,
        columns=(frozenset(vindr.NAMED), frozenset(vindr.WIDE)),
        files=tuple(
            f"{folder}image_labels_{part}.csv" for folder in ("", "annotations/") for part in ("train", "test")
        ),
    ),
    "openi": Format(
        read=openi.read_openi,
        columns=(frozenset(openi.COLUMNS),),
        files=("nlmcxr_dicom_metadata.csv",),
        guess=False,  # a folder of its DICOM files goes the DICOM way
    ),
    "rsna": Format(
        read=rsna.read_rsna,
        columns=(frozenset(rsna.LABELS), frozenset(rsna.CLASSES), frozenset(rsna.HEADERS)),
        files=("stage_2_train_labels.csv",),
    ),
}
FORMATS = ("dicom", *PUBLISHED, "table")


def recognise(source: Path, file_format: str | None) -> tuple[str, Path, pd.DataFrame | None]:
    """Find out the format of a source.

    Args:
        source: A folder, or a table.
        file_format: One of `FORMATS`, or None.

    Returns:
        The format, the table's file (the source itself for DICOM), and the table, None for DICOM.

    Raises:
        CxrPairError: There is no such format or source, or the source is not what the format reads.
    """
    if file_format is not None and file_format not in FORMATS:
        raise CxrPairError(f"--format {file_format}: no such format; there are {', '.join(FORMATS)}")
    if not source.exists():
        raise CxrPairError(f"there is no {source}")
    if file_format == "dicom":
        return "dicom", source, None
    if source.is_dir():
        return _folder(source, file_format)
    if file_format is None and not is_table(source):
        if is_archive(source.name) or is_marked(source):
            return "dicom", source, None
        raise CxrPairError(f"{source} is no folder, archive, table or DICOM file")
    raw = read_text_table(source)
    return file_format or _by_columns(raw), source, raw


def _folder(source: Path, file_format: str | None) -> tuple[str, Path, pd.DataFrame | None]:
    """Take a folder for DICOM, unless it is named as, or holds the table of, one published data set."""
    if file_format is None:
        held = [name for name, known in PUBLISHED.items() if known.guess and _tables(source, known)]
        if len(held) != 1:
            return "dicom", source, None
        file_format = held[0]
    if file_format == "table":
        raise CxrPairError(f"{source} is a folder, and the format table reads a table")
    files = _tables(source, PUBLISHED[file_format])
    if not files:
        wanted = " or ".join(PUBLISHED[file_format].files)
        raise CxrPairError(f"the folder {source} holds no {wanted} (or .gz): name the table of {file_format} instead")
    raw = pd.concat([read_text_table(file) for file in files], ignore_index=True)
    return file_format, files[0], raw.fillna("")


def _tables(folder: Path, known: Format) -> list[Path]:
    """Find the tables of a data set in a folder: of the unpacked and the zipped one of a name the unpacked one."""
    found: dict[str, Path] = {}
    for pattern in known.files:
        for file in (*sorted(folder.glob(pattern)), *sorted(folder.glob(f"{pattern}.gz"))):
            found.setdefault(file.name.removesuffix(".gz"), file)
    return list(found.values())


def _by_columns(raw: pd.DataFrame) -> str:
    names = set(raw.columns)
    fits = (name for name, known in PUBLISHED.items() if any(wanted <= names for wanted in known.columns))
    name = next(fits, "table")
    # A hospital's own table may have a Path and the names of CheXpert's findings.
    if name == "chexpert" and not set(chexpert.COLUMNS) <= names and "patient_id" in names:
        return "table"
    return name
