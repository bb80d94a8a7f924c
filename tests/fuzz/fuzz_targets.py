"""What a mutated file is given to: everything of the package that reads a user's file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from fuzz_base import PROJECT
from fuzz_outcome import ACCEPTED, Place, Target, WrongError, check_memory

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.describe.figures import describe
from monai_cxrpair.cohort.dicom.directory import listed_files
from monai_cxrpair.cohort.dicom.rows import read_rows
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.cohort.split.saved import read_split
from monai_cxrpair.cohort.split.split import split_patients
from monai_cxrpair.cohort.split.tables import draws_of_tables, sides_of_tables
from monai_cxrpair.commands.pairs import _overlay
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.experiments.experiment import read_experiment
from monai_cxrpair.imaging.check import check_pixels
from monai_cxrpair.imaging.read import read_radiograph
from monai_cxrpair.pacs.accessions import read_accessions
from monai_cxrpair.pairing.affinity_table import AffinityTable
from monai_cxrpair.pairing.criterion import PairCriterion
from monai_cxrpair.reporting.answer import read_algorithm
from monai_cxrpair.reporting.source import read_source

_REASONS = {str(reason) for reason in Reason}


def header(path: Path, place: Place) -> str:
    """`cxrpair index`: the header of a file, or of the files in an archive."""
    rows = read_rows([path.name], root=path.parent).to_pylist()
    for row in rows:
        if row["reason"] is not None and row["reason"] not in _REASONS:
            raise WrongError(f"{row['reason']!r} is not in the list")
        if row["reason"] is None and not (row["image_id"] and row["patient_id"] and row["study_id"]):
            raise WrongError("a radiograph without an id")
    reasons = sorted({row["reason"] or ACCEPTED for row in rows})
    return reasons[0] if len(rows) == 1 else "several: " + ", ".join(reasons)


def radiograph(path: Path, place: Place) -> str:
    """The pixels, as training and `--check-pixels` read them."""
    pixels = read_radiograph(path)
    if pixels.ndim != 3 or pixels.shape[0] != 1 or pixels.dtype != np.float32 or not pixels.size:
        raise WrongError(f"{pixels.dtype} {pixels.shape}")
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # also where one is no number
        raise WrongError(f"values from {pixels.min()} to {pixels.max()}")
    if pixels.size < 1 << 22:
        check_pixels(path)
    return ACCEPTED


def in_archive(path: Path, place: Place) -> str:
    """The pixels of the radiographs in an archive."""
    found = [row["path"] for row in read_rows([path.name], root=path.parent).to_pylist() if row["reason"] is None]
    said = []
    for name in found[:3]:
        try:
            said.append(radiograph(path.parent / name, place))
        except CxrPairError as error:
            check_memory(error)
            said.append("rejected")
    return ", ".join(sorted(set(said))) or "nothing in it"


def source(path: Path, place: Place) -> str:
    """The header that an answer refers to."""
    return ACCEPTED if read_source(path) is not None else "a picture"


def directory(path: Path, place: Place) -> str:
    """As a DICOMDIR."""
    return "no DICOMDIR" if listed_files(path, root=path.parent) is None else ACCEPTED


def export(path: Path, place: Place) -> str:
    """`cxrpair index --check-pixels` of a folder with this file and a good one."""
    place.good("implicit.dcm")
    result = index_source(path.parent, out=place.folder / "out" / "cohort.parquet", check_pixels=_columns, workers=1)
    if result.files_seen != len(result.cohort) + len(result.rejects):
        raise WrongError(f"{result.files_seen} files, {len(result.cohort)} radiographs, {len(result.rejects)} rejects")
    return f"{ACCEPTED}, with its rejects" if len(result.rejects) else ACCEPTED


def _columns(path: Path) -> dict[str, str | float]:
    from monai_cxrpair.imaging.check import pixel_columns

    return pixel_columns(path)


def table(path: Path, place: Place) -> str:
    """`cxrpair index TABLE`."""
    result = index_source(path, out=place.folder / "out" / "cohort.parquet", workers=1)
    if result.files_seen != len(result.cohort) + len(result.rejects):
        raise WrongError(f"{result.files_seen} rows, {len(result.cohort)} radiographs, {len(result.rejects)} rejects")
    return ACCEPTED


def labels(path: Path, place: Place) -> str:
    """`cxrpair index TABLE --labels FILE`."""
    index_source(place.good("table.csv"), out=place.folder / "out" / "cohort.parquet", labels=path, workers=1)
    return ACCEPTED


def split_table(path: Path, place: Place) -> str:
    """A split that somebody else made, as sides and as label draws."""
    whole = Cohort.read(place.good("cohort.parquet"))
    draws_of_tables(whole, [path], finding="pleural_effusion", fraction=0.01, notes=[])
    sides_of_tables(whole, {"train": [path]}, None)
    return ACCEPTED


def accessions(path: Path, place: Place) -> str:
    """`cxrpair pull --accessions`."""
    read_accessions(path)
    return ACCEPTED


def cohort(path: Path, place: Place) -> str:
    """A cohort file, and what is made of it."""
    read = Cohort.read(path)
    read.summary(), read.fingerprint(), read.paths()
    describe(read)
    split_patients(read, test_fraction=0.5)
    return ACCEPTED


def split(path: Path, place: Place) -> str:
    """A split file, as it is and with the hash that fits."""
    from monai_cxrpair.cohort.split.saved import content_hash

    whole = Cohort.read(place.good("cohort.parquet"))
    signed = place.folder / "signed.json"
    try:
        content = json.loads(path.read_bytes())
        signed.write_text(json.dumps({**content, "hash": content_hash(content)}))
    except (ValueError, RecursionError, TypeError):  # then only as it is
        signed = path
    read_split(signed, whole)
    read_split(path, whole)
    return ACCEPTED


def sweep(path: Path, place: Place) -> str:
    """`cxrpair sweep FILE`: the table of runs."""
    configs = _configs(place.folder)
    shutil.copy(path, configs / "experiments" / "mutated.yaml")
    read_experiment(configs / "experiments" / "mutated.yaml", bundle=PROJECT / "bundle")
    return ACCEPTED


def _configs(folder: Path) -> Path:
    made = folder.parent / f"{folder.name}-configs"
    if not made.exists():
        shutil.copytree(PROJECT / "configs", made)
    return made


def overlay(path: Path, place: Place) -> str:
    """`cxrpair pairs --config FILE`."""
    PairCriterion.from_config(_overlay(path)["pairing"])
    return ACCEPTED


def affinity(path: Path, place: Place) -> str:
    """A measured table of affinities."""
    AffinityTable.of(str(path))
    return ACCEPTED


def card(path: Path, place: Place) -> str:
    """The card beside weights, and the network that it names."""
    from monai_cxrpair.evaluation.cards import read_classifier_card, read_encoder_card
    from monai_cxrpair.evaluation.networks import network_plan

    if b"classifier" in path.read_bytes():
        found = read_classifier_card(path.with_suffix(".pt"))["encoder_card"]
    else:
        found = read_encoder_card(path.with_suffix(".pt"))
    plan = network_plan(found, None, source=path)
    if plan.encoder != "resnet18" or plan.image_size != 32:
        plan.build()
    return ACCEPTED


def algorithm(path: Path, place: Place) -> str:
    """The card of a classifier, as answers name it."""
    path.with_suffix(".pt").write_bytes(b"weights")
    read_algorithm(path.with_suffix(".pt"))
    return ACCEPTED


_TABLE: tuple[Target, ...] = (table, split_table, accessions)
TARGETS: dict[str, tuple[Target, ...]] = {
    "dicom": (header, radiograph, source, directory),
    "export": (export,),
    "picture": (radiograph,),
    "nifti": (radiograph,),
    "nifti.gz": (radiograph,),
    **dict.fromkeys(("zip", "tar", "tar.gz"), (header, in_archive)),
    **dict.fromkeys(("table", "table.gz", "xlsx", "parquet"), _TABLE),
    "labels": (labels, split_table),
    "cohort": (cohort,),
    "split": (split,),
    "sweep": (sweep,),
    "overlay": (overlay,),
    "affinity": (affinity,),
    "card": (card, algorithm),
    "accessions": (accessions,),
}
