"""Who and when, for the headers: every name, number and date is invented."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pydicom.uid import generate_uid

from monai_cxrpair.phantom.structure import IDENTITY, PatientPlan, generator

_FAMILY = (
    "Ashdown",
    "Birkett",
    "Calder",
    "Dunmore",
    "Everley",
    "Fairholm",
    "Garrick",
    "Hadleigh",
    "Kestrel",
    "Lorimer",
)
_GIVEN = {
    "F": ("Ada", "Beatrix", "Clara", "Dorothea", "Edith", "Flora", "Greta", "Harriet"),
    "M": ("Albert", "Basil", "Cedric", "Desmond", "Edgar", "Felix", "Gilbert", "Hubert"),
}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who and when, for the header."""

    patient_id: str
    name: str
    birth_date: date
    sex: str
    age: int  # years at the study
    began: datetime  # of the study, the same in all its radiographs
    taken: datetime  # of the radiograph
    accession: str
    study_uid: str
    series_uid: str
    instance_uid: str
    series_number: int
    instance_number: int


def uid(seed: int, *key: object) -> str:
    """A UID that depends on the seed and the key alone."""
    # One text with separators: pydicom joins several without any, so that (2, 11) and (21, 1) would be the same.
    return str(generate_uid(entropy_srcs=["/".join(["cxrpair phantom", str(seed), *map(str, key)])]))


def invent_identity(plan: PatientPlan, *, study: int, image: int, seed: int) -> Identity:
    """Invent who and when."""
    index = plan.index
    rng = generator(seed, index, IDENTITY, 1)
    first = datetime(2012, 1, 1) + timedelta(days=int(rng.integers(0, 2500)))
    birthday = first - timedelta(days=round(plan.age * 365.25) + plan.since_birthday)
    clock = generator(seed, index, IDENTITY, 2, study)
    minutes = int(clock.integers(6 * 60, 22 * 60))
    began = first + timedelta(days=plan.studies[study].day, minutes=minutes)
    return Identity(
        patient_id=f"P{index + 1:05d}",
        name=f"{rng.choice(_FAMILY)}^{rng.choice(_GIVEN[plan.sex])}",
        birth_date=birthday.date(),
        sex=plan.sex,
        age=plan.age_at(plan.studies[study].day),
        began=began,
        taken=began + timedelta(minutes=2 + 3 * image),
        accession=f"A{seed % 1000:03d}{index + 1:06d}{study + 1:02d}",
        study_uid=uid(seed, index, study),
        series_uid=uid(seed, index, study, "series", image),
        instance_uid=uid(seed, index, study, "image", image),
        series_number=image + 1,
        instance_number=1,
    )
