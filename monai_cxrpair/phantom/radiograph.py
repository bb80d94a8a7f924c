"""One radiograph of a phantom with everything that is known about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from monai_cxrpair.phantom.anatomy import Anatomy, Condition, draw_anatomy, draw_condition
from monai_cxrpair.phantom.identity import Identity
from monai_cxrpair.phantom.nuisance import Picture, Shot, draw_shot
from monai_cxrpair.phantom.render import render_radiograph
from monai_cxrpair.phantom.settings import PhantomSettings
from monai_cxrpair.phantom.structure import PatientPlan


@dataclass(frozen=True, kw_only=True)
class PhantomRadiograph:
    """One radiograph of a phantom, not rendered yet: all its parameters and its place."""

    patient: PatientPlan
    study: int
    image: int
    anatomy: Anatomy
    condition: Condition
    shot: Shot
    settings: PhantomSettings

    @property
    def present(self) -> bool:
        """Whether the study has an effusion."""
        return max(self.condition.effusion) > 0

    def render(self) -> Picture:
        """Render it: float32 `(H, W)`, 0 to 1 is shown, bone bright."""
        return render_radiograph(self.anatomy, self.condition, self.shot, settings=self.settings)


def draw_radiographs(plan: PatientPlan, *, seed: int, settings: PhantomSettings) -> Iterator[PhantomRadiograph]:
    """Draw the parameters of all radiographs of one patient, in order; nothing is rendered."""
    anatomy = draw_anatomy(settings, seed=seed, patient=plan.index, age=plan.age, sex=plan.sex)
    for study, visit in enumerate(plan.studies):
        condition = draw_condition(settings, seed=seed, patient=plan.index, study=study, effusion=visit.effusion)
        for image, view in enumerate(visit.radiographs):
            yield PhantomRadiograph(
                patient=plan, study=study, image=image, anatomy=anatomy, condition=condition, settings=settings,
                shot=draw_shot(settings, seed=seed, patient=plan.index, study=study, image=image, plan=view),
            )  # fmt: skip


def truth_row(
    item: PhantomRadiograph, identity: Identity, *, path: str, study_id: str, image_id: str
) -> dict[str, Any]:
    """What is known about one radiograph."""
    shot, condition, anatomy = item.shot, item.condition, item.anatomy
    return {
        "path": path,
        "image_id": image_id,
        "patient_id": identity.patient_id,
        "study_id": study_id,
        "laterality": shot.laterality,
        "view_position": shot.view_position,
        "pleural_effusion": int(item.present),
        "effusion_left_grade": condition.effusion[1],
        "effusion_right_grade": condition.effusion[0],
        "age": identity.age,
        "sex": identity.sex,
        "study_date": identity.began.strftime("%Y-%m-%d"),
        "study_number": item.study + 1,
        "monochrome1": int(shot.monochrome1),
        "supine": int(shot.supine),
        "rotation": round(shot.rotation, 3),
        "magnification": round(shot.magnification, 4),
        "gamma": round(shot.gamma, 4),
        "noise": round(shot.noise, 4),
        "collimated": int(any(shot.collimation)),
        "marker": shot.marker,
        "devices": int(
            condition.tube or condition.gastric_tube or bool(condition.central_line or condition.chest_drain)
            or condition.leads > 0 or anatomy.sternotomy or anatomy.pacemaker != 0
        ),
        "consolidations": len(condition.consolidations),
        "oedema": round(condition.oedema, 4),
        "raised_diaphragm": round(anatomy.raised, 4),
        "pleural_scar": round(max(anatomy.scars), 4),
        "heart_size": round(anatomy.heart_size, 4),
        "rib_spacing": round(anatomy.rib_spacing, 4),
        "habitus": round(anatomy.habitus, 4),
    }  # fmt: skip


def index_row(row: dict[str, Any]) -> dict[str, Any]:
    """The row of `index.csv`, the table that `cxrpair index` reads."""
    kept = {name: row[name] for name in ("patient_id", "study_id")}
    kept |= {"view": row["laterality"], "view_position": row["view_position"], "age": row["age"], "sex": row["sex"]}
    return kept | {"effusion": row["pleural_effusion"], "path": row["path"]}
