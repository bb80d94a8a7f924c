from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from monai_cxrpair.phantom import (
    PhantomRadiograph,
    PhantomSettings,
    RadiographPlan,
    draw_anatomy,
    draw_condition,
    draw_patient,
    draw_radiographs,
    draw_shot,
    render_radiograph,
)

SETTINGS = PhantomSettings()


def radiographs(seed: int, count: int) -> list[PhantomRadiograph]:
    found: list[PhantomRadiograph] = []
    patient = 0
    while len(found) < count:
        plan = draw_patient(SETTINGS, seed=seed, patient=patient)
        found += draw_radiographs(plan, seed=seed, settings=SETTINGS)
        patient += 1
    return found


def plain(laterality: str = "frontal", view: str = "PA"):
    """A healthy chest, taken without any nuisance."""
    anatomy = replace(
        draw_anatomy(SETTINGS, seed=3, patient=0, age=50, sex="M"), scars=(0.0, 0.0), pacemaker=0, sternotomy=False
    )
    condition = draw_condition(SETTINGS, seed=3, patient=0, study=0, effusion=(0.0, 0.0))
    condition = replace(
        condition, consolidations=(), atelectasis=None, oedema=0.0, tube=False, gastric_tube=False, central_line=0,
        chest_drain=0, leads=0,
    )  # fmt: skip
    plan = RadiographPlan(laterality=laterality, view_position=view)
    shot = draw_shot(SETTINGS, seed=3, patient=0, study=0, image=0, plan=plan)
    shot = replace(
        shot, rotation=0.0, shift=(0.0, 0.0), turn=0.0, marker="", side_marker=None, noise=0.0, scatter=0.0,
        collimation=(0.0,) * 4, supine=False, tilt=(0.0, 0.0), magnification=1.0, gamma=1.0,
        window=(0.0, 0.0), blur=0.0,
    )  # fmt: skip
    return anatomy, condition, shot


def test_rendering_is_a_pure_function_of_the_parameters() -> None:
    item = radiographs(0, 3)[1]
    first = item.render()
    for other in radiographs(9, 2):
        other.render()
    np.testing.assert_array_equal(first, item.render())
    assert first.dtype == np.float32
    assert first.shape == SETTINGS.shape
    assert np.isfinite(first).all()


def test_another_image_size_shows_the_same_chest() -> None:
    import cv2

    anatomy, condition, shot = plain()
    small = render_radiograph(anatomy, condition, shot)
    large = render_radiograph(anatomy, condition, shot, settings=PhantomSettings(image_size=320))
    shrunk = cv2.resize(large, small.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.98


def test_the_anatomy_is_the_patients_own_and_the_technique_is_the_radiographs_own() -> None:
    plan = next(
        plan for plan in (draw_patient(SETTINGS, seed=0, patient=index) for index in range(99)) if len(plan.studies) > 3
    )
    items = list(draw_radiographs(plan, seed=0, settings=SETTINGS))
    assert len({id(item.anatomy) for item in items}) == 1
    assert draw_anatomy(SETTINGS, seed=0, patient=plan.index, age=plan.age, sex=plan.sex) == items[0].anatomy
    assert len({item.shot.gamma for item in items}) == len(items)
    assert len({item.shot.noise_seed for item in items}) == len(items)


def test_the_effusion_belongs_to_the_study() -> None:
    items = radiographs(1, 400)
    shared = 0
    for one, two in itertools.pairwise(items):
        if (one.patient.index, one.study) == (two.patient.index, two.study):
            shared += 1
            assert one.condition == two.condition
            assert one.condition.effusion == one.patient.studies[one.study].effusion
    assert shared > 30


@pytest.mark.parametrize("side", [0, 1])
def test_an_effusion_whitens_the_angle_of_its_own_side_and_more_fluid_whitens_more(side: int) -> None:
    anatomy, condition, shot = plain()
    rows, columns = SETTINGS.shape
    pictures = []
    for grade in (0.0, 0.15, 0.8):
        effusion = (grade, 0.0) if side == 0 else (0.0, grade)
        pictures.append(render_radiograph(anatomy, replace(condition, effusion=effusion), shot))
    changed = [np.abs(picture - pictures[0]) > 0.05 for picture in pictures]
    # The patient's right is on the left of the picture.
    own = slice(0, columns // 2) if side == 0 else slice(columns // 2, columns)
    other = slice(columns // 2, columns) if side == 0 else slice(0, columns // 2)
    assert 20 < changed[1][:, own].sum() < changed[2][:, own].sum()
    assert changed[1][:, other].sum() == 0
    assert changed[1][: rows // 2].sum() == 0, "a small effusion lies at the bottom"


def test_an_effusion_fills_the_angle_behind_on_the_lateral() -> None:
    anatomy, condition, shot = plain("lateral", "LL")
    dry = render_radiograph(anatomy, condition, shot)
    wet = render_radiograph(anatomy, replace(condition, effusion=(0.4, 0.0)), shot)
    gain = wet - dry
    rows, columns = SETTINGS.shape
    assert gain[rows // 2 :, columns // 2 :].sum() > 5 * abs(gain[: rows // 2].sum())
    assert gain[:, columns // 2 :].sum() > 2 * gain[:, : columns // 2].sum()
    mirrored = render_radiograph(anatomy, condition, replace(shot, view_position="RL"))
    np.testing.assert_allclose(mirrored, dry[:, ::-1], atol=0.02)


@pytest.mark.parametrize(
    "change", [{"heart_size": 1.4}, {"rib_spacing": 0.15}, {"domes": (0.3, 0.35)}, {"habitus": 0.9}, {"breast": 1.0}]
)
def test_frontal_and_lateral_are_projections_of_one_anatomy(change: dict[str, object]) -> None:
    for laterality, view in (("frontal", "PA"), ("lateral", "LL")):
        anatomy, condition, shot = plain(laterality, view)
        before = render_radiograph(anatomy, condition, shot)
        after = render_radiograph(replace(anatomy, **change), condition, shot)  # type: ignore[arg-type]
        assert np.mean(np.abs(after - before)) > 0.003, laterality


def test_nuisance_and_confounders_do_not_depend_on_the_effusion() -> None:
    sick = draw_condition(SETTINGS, seed=7, patient=2, study=1, effusion=(0.7, 0.2))
    healthy = draw_condition(SETTINGS, seed=7, patient=2, study=1, effusion=(0.0, 0.0))
    assert replace(sick, effusion=(0.0, 0.0)) == healthy


def test_the_mean_intensity_says_little_about_the_effusion() -> None:
    from sklearn.metrics import roc_auc_score

    items = radiographs(2, 450)
    present = [item.present for item in items]
    means = [float(np.clip(item.render(), 0, 1).mean()) for item in items]
    auc = roc_auc_score(present, means)
    assert max(auc, 1 - auc) <= 0.65
