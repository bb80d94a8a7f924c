"""Who has how many studies, which radiographs, and when there is an effusion: drawn per patient, never per cohort."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from monai_cxrpair.phantom.settings import PhantomSettings

# The last part of a stream's key says what is drawn, so that a new draw never shifts an older one.
STRUCTURE, ANATOMY, CONDITION, SHOT, IDENTITY = range(5)


def generator(seed: int, *key: int) -> np.random.Generator:
    """A random stream that depends on the seed and its key (patient, study, image, purpose) and on nothing else."""
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=key))


@dataclass(frozen=True, kw_only=True)
class RadiographPlan:
    """One radiograph to take.

    Attributes:
        laterality: `frontal` or `lateral`.
        view_position: `AP`, `PA`, `LL` or `RL`.
        source_image_id: Which radiograph of the copied cohort this one stands for; empty without one.
    """

    laterality: str
    view_position: str
    source_image_id: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """One study to take.

    Attributes:
        day: Days since the patient's first study.
        effusion: Grade in [0, 1] of the right and of the left effusion; 0 is none.
        radiographs: What is taken, in order.
    """

    day: int
    effusion: tuple[float, float]
    radiographs: tuple[RadiographPlan, ...]


@dataclass(frozen=True, kw_only=True)
class PatientPlan:
    """One patient.

    Attributes:
        index: Place in the phantom, from 0; all of the patient's random streams are keyed by it.
        age: Age in years at the first study.
        since_birthday: Days since the last birthday at the first study.
        sex: `F` or `M`.
        studies: In order of time.
    """

    index: int
    age: int
    since_birthday: int
    sex: str
    studies: tuple[StudyPlan, ...]

    def age_at(self, day: int) -> int:
        """Age in whole years, `day` days after the first study."""
        return self.age + int((self.since_birthday + day) / 365.25)


def draw_person(rng: np.random.Generator) -> tuple[int, int, str]:
    """Draw age in years, days since the last birthday, and sex, as in CheXpert's training table (41 % female)."""
    age = int(np.clip(rng.normal(60, 17), 18, 90))
    return age, int(rng.integers(2, 360)), "F" if rng.random() < 0.41 else "M"


def draw_patient(settings: PhantomSettings, *, seed: int, patient: int) -> PatientPlan:
    """Draw the structure of one patient: studies, views and the course of the effusion.

    Args:
        settings: The phantom's settings.
        seed: Seed of the whole phantom.
        patient: Place of the patient, from 0. The same patient comes out whatever the number of patients is.
    """
    rng = generator(seed, patient, STRUCTURE)
    age, since_birthday, sex = draw_person(rng)
    count = 1
    if rng.random() >= settings.one_study:
        mean, sd = settings.more_studies
        count = min(settings.most_studies, 1 + math.ceil(rng.lognormal(mean, sd)))
    days = draw_days(rng, count)
    grades = draw_effusions(rng, settings, days=days)
    studies = tuple(
        StudyPlan(day=day, effusion=grade, radiographs=draw_views(rng, settings))
        for day, grade in zip(days, grades, strict=True)
    )
    return PatientPlan(index=patient, age=age, since_birthday=since_birthday, sex=sex, studies=studies)


def draw_days(rng: np.random.Generator, count: int) -> list[int]:
    """Draw the days of a patient's studies: runs a few days apart (one stay in hospital), with months between them."""
    days = [0]
    for _ in range(count - 1):
        gap = 1 + rng.exponential(2.5) if rng.random() < 0.6 else rng.lognormal(math.log(110), 0.9)
        days.append(days[-1] + max(1, int(gap)))
    return days


def draw_effusions(
    rng: np.random.Generator, settings: PhantomSettings, *, days: Sequence[int], present: Sequence[bool] | None = None
) -> list[tuple[float, float]]:
    """Draw a patient's effusions: they come, grow, change sides and resolve slowly.

    Two Gaussian courses with an exponential memory decide about amount and side; each has a part that stays with the
    patient. An effusion is present where the amount exceeds the threshold that gives the wanted prevalence.

    Args:
        rng: The patient's stream.
        settings: The phantom's settings.
        days: Day of each study, ascending.
        present: Where the labels are given (`like`), which studies have an effusion; the amount follows the course.

    Returns:
        The right and the left grade in [0, 1] of each study; (0, 0) where there is no effusion.
    """
    threshold = NormalDist().inv_cdf(1 - settings.prevalence)
    constant, varying = rng.standard_normal(2), rng.standard_normal(2)
    grades: list[tuple[float, float]] = []
    for study, day in enumerate(days):
        if study:
            memory = math.exp(-(day - days[study - 1]) / settings.effusion_days)
            varying = memory * varying + math.sqrt(1 - memory**2) * rng.standard_normal(2)
        share = settings.patient_share
        amount, side = math.sqrt(share) * constant + math.sqrt(1 - share) * varying
        excess = float(amount) - threshold
        if excess > 0 if present is None else present[study]:
            grades.append(_split_sides(settings, abs(excess), float(side)))
        else:
            grades.append((0.0, 0.0))
    return grades


def _split_sides(settings: PhantomSettings, excess: float, side: float) -> tuple[float, float]:
    """Turn the amount (SDs over the threshold) and the side (standard normal) into the right and the left grade."""
    grade = settings.smallest_grade + (1 - settings.smallest_grade) * (1 - math.exp(-excess / 0.8))
    # About a third of the effusions are on the right only, a quarter on the left only, the rest on both sides.
    weaker = 1.0 - 0.8 * abs(side) if -0.67 < side < 0.43 else 0.0
    lesser = max(settings.smallest_grade, grade * weaker) if weaker else 0.0
    return (round(grade, 4), round(lesser, 4)) if side > 0 else (round(lesser, 4), round(grade, 4))


def draw_views(rng: np.random.Generator, settings: PhantomSettings) -> tuple[RadiographPlan, ...]:
    """Draw the radiographs of one study."""
    count = 1 + int(rng.choice(3, p=settings.images_per_study))
    laterals = 0
    if count == 2:
        laterals = int(rng.random() < settings.pair_with_lateral)
    elif count == 3:
        laterals = int(rng.integers(1, 3))
    with_lateral, without = settings.erect_pa
    frontal = "PA" if rng.random() < (with_lateral if laterals else without) else "AP"
    lateral = "RL" if rng.random() < 0.1 else "LL"  # the left side against the detector is the rule
    views = [("frontal", frontal)] * (count - laterals) + [("lateral", lateral)] * laterals
    return tuple(RadiographPlan(laterality=laterality, view_position=view) for laterality, view in views)
