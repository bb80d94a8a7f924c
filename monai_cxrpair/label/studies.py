"""The studies that are read: each with its radiographs, the frontal first."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.deidentify import load_key, without_identifiers
from monai_cxrpair.cohort.dicom.rows import read_rows
from monai_cxrpair.cohort.dicom.twins import raw_twins
from monai_cxrpair.cohort.dicom.walk import list_files
from monai_cxrpair.cohort.reading import Reading, own_studies
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.cohort.schema import LATERALITIES, complete
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.read import PICTURE_MAGIC

KEY = "label.key"
_REASONS = {str(reason): reason for reason in Reason}


@dataclass(frozen=True, kw_only=True)
class Radiograph:
    """One radiograph of a study; `image` is its pseudonym, `row` its row in `Studies.cohort`."""

    image: str
    row: int
    path: Path
    laterality: str
    view_position: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study and its patient by their pseudonyms."""

    id: str
    patient: str
    radiographs: tuple[Radiograph, ...]


class Studies(Mapping[str, Study]):
    """The studies in the order in which they were taken: `studies[id]`, and iterating gives the ids.

    Ids are those of the cohort: `read` makes keyed hashes, so that answers, caches and pages name no patient.

    Args:
        cohort: the radiographs, one row each.
        left_out: reason -> number of the files that are no radiographs.
        notes: what the user should know, one line each, without identifiers.
    """

    def __init__(self, cohort: Cohort, *, left_out: Mapping[str, int] | None = None, notes: Sequence[str] = ()) -> None:
        self.cohort = cohort
        self.left_out, self.notes = dict(left_out or {}), list(notes)
        self._studies = _in_order(cohort)
        self._by_image = {each.image: (study, each) for study in self._studies.values() for each in study.radiographs}
        self._by_path = {os.path.realpath(each.path): study for study, each in self._by_image.values()}

    @classmethod
    def read(
        cls, source: str | Path | Sequence[str | Path], *, key_folder: str | Path, allow_burned_in: bool = False
    ) -> Studies:
        """Find the radiographs of a folder, or among files, by their headers.

        The rules are those of `cxrpair index`: of DICOM files with one SOPInstanceUID the first counts, a raw image
        does not where its twin for presentation is there. A JPEG or PNG has no header: each is a study of a patient of
        its own, and `notes` says so; a table says more, by `Studies(Cohort.read(FILE))`.

        Args:
            source: a folder, with all folders in it, or a list of files.
            key_folder: keeps the key of the pseudonyms, `label.key`; the same key gives the same ids.
            allow_burned_in: take radiographs whose header says that text is burned into the pixels.

        Raises:
            CxrPairError: the folder does not exist, or there is no radiograph in it.
        """
        if isinstance(source, str | Path):
            root = Path(source).absolute()
            if not root.is_dir():
                raise CxrPairError(f"{source}: no such folder; give the folder of the studies")
            names = list_files(root, root=root).files
        else:
            paths = [Path(path).absolute() for path in source]
            root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
            names = sorted({path.relative_to(root).as_posix() for path in paths})
        rows = read_rows(names, root=root).to_pandas()
        reading = _radiographs(rows, root, files=len(names), allow_burned_in=allow_burned_in)
        left_out = dict(Counter(str(reason) for _, reason in reading.rejects).most_common())
        if not len(reading.table):
            counts = ", ".join(f"{reason} {n}" for reason, n in left_out.items()) or "there is no file in it"
            raise CxrPairError(f"{root}: no radiograph to read ({counts})")
        table, _ = without_identifiers(complete(reading.table, []), load_key(Path(key_folder) / KEY))
        table = table[[name for name in table.columns if not name.startswith("_")]]
        known = reading.patients_known
        cohort = Cohort(table, root=root, findings=[], source=reading.source, patients_known=known)
        return cls(cohort, left_out=left_out, notes=reading.notes)

    def __getitem__(self, study: str) -> Study:
        if study not in self._studies:
            raise KeyError(study)
        return self._studies[study]

    def __iter__(self) -> Iterator[str]:
        return iter(self._studies)

    def __len__(self) -> int:
        return len(self._studies)

    def find(self, study: str) -> Study:
        """As `studies[study]`, for what somebody typed or sent.

        Raises:
            CxrPairError: there is no such study.
        """
        if study not in self._studies:
            raise CxrPairError(f"no study {str(study)[:64]!r} among the {len(self)} that are read here")
        return self._studies[study]

    def radiograph(self, image: str) -> Radiograph:
        """A radiograph by its pseudonym.

        Raises:
            CxrPairError: there is no such radiograph.
        """
        if image not in self._by_image:
            raise CxrPairError(f"no radiograph {str(image)[:64]!r} in the studies that are read here")
        return self._by_image[image][1]

    def of_file(self, path: str | Path) -> Study | None:
        """The study that a file is part of; None where it is no radiograph of these studies."""
        return self._by_path.get(os.path.realpath(path))


def _radiographs(rows: pd.DataFrame, root: Path, *, files: int, allow_burned_in: bool) -> Reading:
    taken = rows[rows["reason"].isna()].drop(columns=["reason", "file"]).reset_index(drop=True)
    pictures, rejects = [], []
    for path, reason in rows.loc[rows["reason"].notna(), ["path", "reason"]].itertuples(index=False):
        if reason == Reason.NOT_DICOM and _is_picture(root / path):
            pictures.append({"path": path, "image_id": path, "study_id": path, "patient_id": path})
        else:
            rejects.append((path, _REASONS[reason]))
    reading = Reading(table=taken, findings=[], rejects=rejects, files_seen=files, root=root, source="dicom")
    if not allow_burned_in:
        reading.leave_out(reading.table["_burned_in"].astype(bool), Reason.BURNED_IN)
    reading.leave_out(reading.table["image_id"].duplicated(), Reason.DUPLICATE)
    reading.leave_out(raw_twins(reading.table), Reason.FOR_PROCESSING)
    table = reading.table.copy()
    table["study_datetime"] = pd.to_datetime(table["study_datetime"])
    table["study_id"], _ = own_studies(table, all_if_any=False)
    table["study_datetime"] = table.groupby("study_id")["study_datetime"].transform("min")
    if pictures:
        reading.notes.append(
            f"JPEG and PNG files, each taken for a study of a patient of its own: {len(pictures)}; "
            "with a table of patients and studies, `cxrpair index` makes a cohort file that says more"
        )
        table = pd.concat([table, pd.DataFrame(pictures)], ignore_index=True) if len(table) else pd.DataFrame(pictures)
        reading.source, reading.patients_known = "pictures", False
    reading.table = table
    return reading


def _is_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(8).startswith(PICTURE_MAGIC)
    except OSError:
        return False


def _in_order(cohort: Cohort) -> dict[str, Study]:
    """By date and time, those without one last; radiographs frontal first, then as they lie in the folder."""
    table = cohort.table[["image_id", "patient_id", "study_id", "laterality", "view_position", "path"]].copy()
    table["when"] = cohort.table["study_datetime"]
    table["row"], table["file"] = range(len(table)), pd.Series(cohort.paths(), dtype=object)
    table["rank"] = table["laterality"].map(list(LATERALITIES).index)
    table["first"] = table.groupby("study_id")["path"].transform("min")
    table = table.sort_values(["when", "first", "study_id", "rank", "path"], kind="stable", na_position="last")
    found: dict[str, dict[str, Any]] = {}
    for line in table.itertuples(index=False):
        study = found.setdefault(str(line.study_id), {"patient": str(line.patient_id), "radiographs": []})
        study["radiographs"].append(
            Radiograph(
                image=str(line.image_id),
                row=int(str(line.row)),
                path=Path(str(line.file)),
                laterality=str(line.laterality),
                view_position=str(line.view_position),
            )
        )
    return {
        name: Study(id=name, patient=said["patient"], radiographs=tuple(said["radiographs"]))
        for name, said in found.items()
    }
