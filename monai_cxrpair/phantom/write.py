"""Write a phantom: the radiographs, their truth, and what made them."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from monai_cxrpair import __version__
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.phantom.dicom import write_dicom
from monai_cxrpair.phantom.identity import invent_identity
from monai_cxrpair.phantom.like import plans_like, read_like
from monai_cxrpair.phantom.radiograph import PhantomRadiograph, draw_radiographs, index_row, truth_row
from monai_cxrpair.phantom.settings import STRUCTURES, PhantomSettings
from monai_cxrpair.phantom.structure import draw_patient


def write_phantom(
    out: Path,
    *,
    patients: int,
    file_format: Literal["dicom", "png"],
    seed: int,
    like: Path | None = None,
    structure: str = "chexpert",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write a phantom of chest radiographs with known truth; the same arguments write the same bytes.

    Args:
        out: A new or empty folder.
        patients: How many patients, at least 1. Patient k is the same whatever their number is.
        file_format: `dicom` (`<patient>/<study>/<image>.dcm`) or `png` (`images/<image>.png` and `index.csv`).
        seed: Seed of everything, not negative.
        like: A cohort file whose patients, studies, views, ages and effusion labels are copied.
        structure: How many radiographs a study has: `chexpert` (1.19 on average; with `like` as many as there),
            `mimic` (1.66; with `like` instead of those there).
        progress: Called with (radiographs written, radiographs in all).

    Returns:
        The counts, the seed and the hash of the settings, as in `out/phantom.json`.
    """
    out = Path(out)
    if patients < 1:
        raise CxrPairError(f"phantom: patients={patients} makes no phantom; ask for 1 or more")
    if seed < 0:
        raise CxrPairError(f"phantom: seed={seed} is negative; use 0 or more")
    if file_format not in ("dicom", "png"):
        raise CxrPairError(f"phantom: format '{file_format}' is unknown; use dicom or png")
    if structure not in STRUCTURES:
        raise CxrPairError(f"phantom: structure '{structure}' is unknown; use {' or '.join(STRUCTURES)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CxrPairError(f"{out}: exists and is not an empty folder; name a new one, nothing is overwritten")
    settings = STRUCTURES[structure]
    if like is None:
        plans = [draw_patient(settings, seed=seed, patient=index) for index in range(patients)]
    else:
        drawn = structure != "chexpert"
        table = read_like(Path(like))
        there = table["patient_id"].nunique()
        if patients > there:
            raise CxrPairError(f"phantom: patients={patients}, but {like} has {there} to copy; ask for at most {there}")
        plans = list(plans_like(settings, table, patients=patients, seed=seed, draw_radiographs=drawn))
    total = sum(len(study.radiographs) for plan in plans for study in plan.studies)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    sources: list[dict[str, Any]] = []
    for plan in plans:
        for item in draw_radiographs(plan, seed=seed, settings=settings):
            rows.append(_write_one(out, item, seed=seed, file_format=file_format))
            source = plan.studies[item.study].radiographs[item.image].source_image_id
            if source:
                sources.append({"image_id": rows[-1]["image_id"], "source_image_id": source})
            if progress:
                progress(len(rows), total)
    _write_table(out / "truth.csv", rows)
    if sources:  # leads back to the patients of the cohort: for its owner only, the rest of the phantom may be shared
        _write_table(out / "sources.csv", sources, mode=0o600)
    if file_format == "png":
        _write_table(out / "index.csv", [index_row(row) for row in rows])
    summary = _summary(rows, settings, seed=seed, file_format=file_format)
    asked = {"patients": patients, "like": None if like is None else Path(like).name, "structure": structure}
    document = {**summary, "version": __version__, "asked": asked, "settings": asdict(settings)}
    # Written last: a folder without it was not finished.
    with _atomic(out / "phantom.json") as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return summary


def _write_one(out: Path, item: PhantomRadiograph, *, seed: int, file_format: str) -> dict[str, Any]:
    """Render and write one radiograph; its row of the truth."""
    identity = invent_identity(item.patient, study=item.study, image=item.image, seed=seed)
    patient_id = identity.patient_id
    study_id = f"{patient_id}S{item.study + 1:02d}"
    image_id = f"{study_id}I{item.image + 1}"
    picture = item.render()
    if file_format == "dicom":
        path = Path(patient_id, study_id, f"{image_id}.dcm")
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        variant = item.shot.noise_seed  # one more number of this radiograph that tells nothing about the patient
        write_dicom(out / path, picture, item.shot, identity, settings=item.settings, variant=variant)
        study_id, image_id = identity.study_uid, identity.instance_uid
    else:
        path = Path("images", f"{image_id}.png")
        (out / path).parent.mkdir(exist_ok=True)
        pixels = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
        if not cv2.imwrite(str(out / path), pixels):
            raise CxrPairError(f"{out / path}: cannot be written; is the disk full or the folder read-only?")
    return truth_row(item, identity, path=path.as_posix(), study_id=study_id, image_id=image_id)


def _atomic(path: Path, mode: int | None = None) -> AbstractContextManager[Path]:
    from monai_cxrpair.cohort.files import atomic_path  # here, as in `read_like`

    return atomic_path(path, mode=mode)


def _write_table(path: Path, rows: list[dict[str, Any]], *, mode: int | None = None) -> None:
    """Write rows of equal keys as CSV."""
    with _atomic(path, mode) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _summary(rows: list[dict[str, Any]], settings: PhantomSettings, *, seed: int, file_format: str) -> dict[str, Any]:
    """Count what was written."""
    laterality = Counter(row["laterality"] for row in rows)
    present = sum(row["pleural_effusion"] for row in rows)
    return {
        "radiographs": len(rows),
        "patients": len({row["patient_id"] for row in rows}),
        "studies": len({row["study_id"] for row in rows}),
        "laterality": {name: laterality[name] for name in ("frontal", "lateral")},
        "pleural_effusion": {"present": present, "absent": len(rows) - present},
        "format": file_format,
        "seed": seed,
        "settings_hash": settings.hash,
    }
