"""A phantom in the likeness of a cohort: its patients, studies, views, ages and effusion labels are copied."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.phantom.settings import PhantomSettings
from monai_cxrpair.phantom.structure import (
    STRUCTURE,
    PatientPlan,
    RadiographPlan,
    StudyPlan,
    draw_days,
    draw_effusions,
    draw_person,
    draw_views,
)
from monai_cxrpair.phantom.structure import generator as stream

if TYPE_CHECKING:
    import pandas as pd

_VIEWS = {"frontal": ("AP", "PA"), "lateral": ("LL", "RL")}
_LIKE = 2**20  # keeps the shuffle's stream apart from every patient's


def read_like(path: Path) -> pd.DataFrame:
    """Read the cohort to copy; an error names the column that is missing."""
    from monai_cxrpair.cohort import Cohort  # here, so that a phantom without a likeness needs no other room

    table = Cohort.read(path).table
    for column in ("image_id", "patient_id", "study_id", "study_order", "laterality", "view_position"):
        if column not in table:
            raise CxrPairError(
                f"{path}: column '{column}' is missing, so the phantom cannot copy it; run cxrpair index"
            )
    return table


def plans_like(
    settings: PhantomSettings, table: pd.DataFrame, *, patients: int, seed: int, draw_radiographs: bool = False
) -> Iterator[PatientPlan]:
    """Yield the plans of the first `patients` patients of the cohort after a shuffle that depends on the seed alone.

    An effusion of 1 is drawn present, 0 or missing absent, -1 (uncertain) present with a chance of one half. The
    labels of a study's radiographs are reduced to their largest, because fluid belongs to the study.

    Args:
        settings: The phantom's settings.
        table: Of `read_like`.
        patients: How many, at most those of the cohort.
        seed: Seed of the whole phantom.
        draw_radiographs: The radiographs of a study are not copied but drawn as the settings say.
    """
    groups = {str(name): rows for name, rows in table.groupby("patient_id", sort=True, observed=True)}
    names = list(groups)
    order = stream(seed, _LIKE).permutation(len(names))
    for index, place in enumerate(order[:patients]):
        plan = _copy_patient(settings, groups[names[place]], seed=seed, patient=index)
        yield _with_drawn_radiographs(settings, plan, seed=seed) if draw_radiographs else plan


def _copy_patient(settings: PhantomSettings, rows: pd.DataFrame, *, seed: int, patient: int) -> PatientPlan:
    """Copy one patient; what the cohort does not say is drawn."""
    rng = stream(seed, patient, STRUCTURE)
    age, since_birthday, sex = draw_person(rng)
    studies = [
        study
        for _, study in rows.sort_values(["study_order", "image_id"]).groupby("study_id", sort=False, observed=True)
    ]
    ages = [_first_known(study, "age") for study in studies]
    known = [float(value) for value in ages if value is not None]
    age = int(min(known)) if known else age
    copied = [value for value in (_first_known(study, "sex") for study in studies) if value in ("F", "M")]
    days = _fit_days(draw_days(rng, len(studies)), ages, first=age, since_birthday=since_birthday)
    present = [_present(study, chance=float(rng.random())) for study in studies]
    grades = draw_effusions(rng, settings, days=days, present=present)
    plans = []
    for day, grade, study in zip(days, grades, studies, strict=True):
        views = tuple(_copy_view(row, rng) for row in study.to_dict("records"))
        plans.append(StudyPlan(day=day, effusion=grade, radiographs=views))
    return PatientPlan(
        index=patient,
        age=age,
        since_birthday=since_birthday,
        sex=str(copied[0]) if copied else sex,
        studies=tuple(plans),
    )


def _with_drawn_radiographs(settings: PhantomSettings, plan: PatientPlan, *, seed: int) -> PatientPlan:
    """The same patient and studies, with other radiographs; a stream of their own leaves everything else as it was."""
    rng = stream(seed, plan.index, STRUCTURE, _LIKE)
    return replace(plan, studies=tuple(replace(visit, radiographs=draw_views(rng, settings)) for visit in plan.studies))


def _first_known(study: pd.DataFrame, column: str) -> Any:
    """The first value of a column that is not missing, or None."""
    values = study[column].dropna().tolist() if column in study else []
    return values[0] if values else None


def _fit_days(days: list[int], ages: list[Any], *, first: int, since_birthday: int) -> list[int]:
    """Move the drawn days so that the patient has the copied age at each study, as far as the order allows it."""
    fitted: list[int] = []
    moved = 0
    for day, age in zip(days, ages, strict=True):
        wanted = day + moved
        if age is not None:
            birthday = int((int(age) - first) * 365.25) - since_birthday
            wanted = min(max(wanted, birthday + 1), birthday + 364)
        wanted = max(wanted, fitted[-1] + 1) if fitted else max(wanted, 0)
        moved = wanted - day
        fitted.append(wanted)
    return fitted


def _present(study: pd.DataFrame, *, chance: float) -> bool:
    """Decide whether a copied study has an effusion; `chance` in [0, 1) decides the uncertain ones."""
    labels = study["pleural_effusion"].dropna().tolist() if "pleural_effusion" in study else []
    if any(label == 1 for label in labels):
        return True
    return any(label == -1 for label in labels) and chance < 0.5


def _copy_view(row: dict[Hashable, Any], rng: np.random.Generator) -> RadiographPlan:
    """Copy the view of one radiograph; an unknown laterality becomes a frontal."""
    laterality, view = str(row["laterality"]), str(row["view_position"])  # text first: pandas' NA cannot be compared
    laterality = laterality if laterality in _VIEWS else "frontal"
    usual = rng.random() < 0.85
    if view not in _VIEWS[laterality]:
        view = _VIEWS[laterality][0 if usual else 1]
    return RadiographPlan(laterality=laterality, view_position=view, source_image_id=str(row["image_id"]))
