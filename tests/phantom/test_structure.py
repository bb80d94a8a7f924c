from __future__ import annotations

import itertools

import numpy as np
import pytest

from monai_cxrpair.phantom import PatientPlan, PhantomSettings, draw_patient
from monai_cxrpair.phantom.identity import invent_identity


@pytest.fixture(scope="module")
def patients() -> list[PatientPlan]:
    settings = PhantomSettings()
    return [draw_patient(settings, seed=5, patient=index) for index in range(4000)]


def test_half_of_the_patients_have_one_study_and_the_mean_is_that_of_chexpert(patients: list[PatientPlan]) -> None:
    counts = np.array([len(patient.studies) for patient in patients])
    assert np.mean(counts == 1) == pytest.approx(0.52, abs=0.02)
    assert counts.mean() == pytest.approx(2.9, abs=0.25)
    assert counts.max() > 20


def test_studies_have_as_many_radiographs_and_laterals_as_in_chexpert(patients: list[PatientPlan]) -> None:
    studies = [study for patient in patients for study in patient.studies]
    sizes = np.array([len(study.radiographs) for study in studies])
    assert np.mean(sizes == 1) == pytest.approx(0.82, abs=0.01)
    assert np.mean(sizes == 3) == pytest.approx(0.01, abs=0.004)
    views = [view for study in studies for view in study.radiographs]
    assert np.mean([view.laterality == "lateral" for view in views]) == pytest.approx(0.145, abs=0.01)
    frontals = [view.view_position for view in views if view.laterality == "frontal"]
    assert np.mean([view == "AP" for view in frontals]) == pytest.approx(0.85, abs=0.02)


def test_effusion_has_the_wanted_prevalence_and_adjacent_studies_agree_more_than_chance(
    patients: list[PatientPlan],
) -> None:
    present = [[max(study.effusion) > 0 for study in patient.studies] for patient in patients]
    rate = np.mean(np.concatenate(present))
    assert rate == pytest.approx(0.38, abs=0.03)
    pairs = np.array([pair for row in present for pair in itertools.pairwise(row)])
    agreement = np.mean(pairs[:, 0] == pairs[:, 1])
    assert rate**2 + (1 - rate) ** 2 + 0.15 < agreement < 0.95, "it lasts, but it comes and goes"


def test_effusions_are_on_either_side_or_both_and_of_all_grades(patients: list[PatientPlan]) -> None:
    grades = np.array([study.effusion for patient in patients for study in patient.studies if max(study.effusion) > 0])
    both, right = np.mean((grades > 0).all(1)), np.mean((grades[:, 0] > 0) & (grades[:, 1] == 0))
    assert 0.3 < both < 0.5
    assert 0.25 < right < 0.42
    assert 1 - both - right > 0.18
    worst = grades.max(1)
    assert worst.min() >= PhantomSettings().smallest_grade
    assert np.quantile(worst, 0.1) < 0.3 < 0.7 < np.quantile(worst, 0.9) <= 1.0


def test_a_patient_does_not_depend_on_the_others_but_on_the_seed() -> None:
    settings = PhantomSettings()
    assert draw_patient(settings, seed=1, patient=40) == draw_patient(settings, seed=1, patient=40)
    assert draw_patient(settings, seed=1, patient=40) != draw_patient(settings, seed=2, patient=40)


def test_studies_are_in_order_of_time_and_nobody_grows_younger(patients: list[PatientPlan]) -> None:
    for patient in patients[:500]:
        days = [study.day for study in patient.studies]
        assert days[0] == 0
        assert all(later > earlier for earlier, later in itertools.pairwise(days))
        assert patient.age_at(0) == patient.age


def test_no_two_radiographs_studies_or_series_share_a_uid() -> None:
    """Numbers of patient, study and image that read the same when run together (2, 11 and 21, 1) once did."""
    studies, others = [], []
    for patient in range(400):
        plan = draw_patient(PhantomSettings(), seed=0, patient=patient)
        for study, visit in enumerate(plan.studies):
            for image in range(len(visit.radiographs)):
                identity = invent_identity(plan, study=study, image=image, seed=0)
                others += [identity.series_uid, identity.instance_uid]
            studies.append(identity.study_uid)
    assert len(set(studies + others)) == len(studies) + len(others)
