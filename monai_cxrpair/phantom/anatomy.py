"""What stays the patient's own (anatomy) and what stays the study's own (condition): drawn once, then only read.

Lengths are in units of half the image height, `x` to the patient's left on a frontal, `y` downwards, (0, 0) in the
middle of the field. Pairs are (right, left).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from monai_cxrpair.phantom.settings import PhantomSettings
from monai_cxrpair.phantom.structure import ANATOMY, CONDITION, generator


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """The chest of one patient; frontal and lateral are two projections of it."""

    lung_width: float  # half width of both lungs together at their base
    chest_depth: float  # half depth, front to back
    apex: float  # y of the lungs' upper end
    domes: tuple[float, float]  # y of the diaphragm's highest points at full inspiration
    raised: float  # how far one of them is raised for good, 0 for most
    sulcus: float  # how far the costophrenic angle lies below the dome
    rib_spacing: float
    rib_phase: float
    rib_slope: float
    rib_contrast: float
    vertebra: float  # height of a vertebra with its disc
    spine_curve: float  # sideways, at most
    kyphosis: float
    heart_size: float
    heart_tilt: float  # radians
    aortic_knob: float
    hilum: float
    habitus: float  # 0 thin .. 1 obese
    breast: float  # 0 none .. 1 large
    clavicle_tilt: float
    stomach: float  # size of the gas bubble
    scars: tuple[float, float]  # blunted angles without fluid
    pacemaker: int  # -1 right, 0 none, 1 left
    sternotomy: bool
    texture_seed: int  # vessels and lung markings


@dataclass(frozen=True, kw_only=True)
class Consolidation:
    """An opacity in the lung that is not fluid in the pleura."""

    side: int  # 0 right, 1 left
    across: float  # 0 midline .. 1 chest wall
    height: float  # 0 at the dome .. 1 at the apex
    radius: float
    density: float
    texture_seed: int


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The state of a chest at one study, the same in all its radiographs."""

    effusion: tuple[float, float]  # grade in [0, 1]
    inspiration: float  # how far the domes stand above full inspiration
    consolidations: tuple[Consolidation, ...]
    atelectasis: tuple[int, float, float] | None  # side, height above the dome, tilt
    oedema: float
    tube: bool  # endotracheal
    gastric_tube: bool
    central_line: int  # -1 right, 0 none, 1 left
    chest_drain: int  # -1 right, 0 none, 1 left
    leads: int  # ECG electrodes
    device_seed: int


def draw_anatomy(settings: PhantomSettings, *, seed: int, patient: int, age: float, sex: str) -> Anatomy:
    """Draw the chest of one patient. `age` in years, `sex` `F` or `M`; the same arguments give the same chest."""
    rng = generator(seed, patient, ANATOMY)
    female = sex == "F"
    habitus = float(rng.beta(2, 2.5))
    dome = rng.normal(0.46, 0.04) - 0.07 * habitus
    raised = [0.0, 0.0]
    if rng.random() < settings.raised_diaphragm:
        raised[int(rng.random() < 0.4)] = rng.uniform(0.08, 0.24)
    scars = tuple(float(rng.uniform(0.25, 1.0)) if rng.random() < settings.pleural_scar else 0.0 for _ in range(2))
    old = float(np.clip((age - 40) / 45, 0, 1))
    return Anatomy(
        lung_width=rng.normal(0.635, 0.03) - 0.03 * female,
        chest_depth=rng.normal(0.55, 0.035) + 0.05 * old + 0.04 * habitus,
        apex=rng.normal(-0.77, 0.03),
        domes=(dome - raised[0], dome + rng.normal(0.045, 0.02) - raised[1]),
        raised=float(max(raised)),
        sulcus=rng.normal(0.25, 0.025),
        rib_spacing=rng.uniform(0.112, 0.150),
        rib_phase=rng.random(),
        rib_slope=rng.uniform(0.75, 1.25),
        rib_contrast=rng.uniform(0.6, 1.3) * (1 - 0.3 * old),
        vertebra=rng.uniform(0.125, 0.155),
        spine_curve=rng.normal(0, 0.018 + 0.012 * old),
        kyphosis=rng.uniform(0.2, 0.7) + 0.4 * old,
        heart_size=rng.normal(1.0, 0.09) + 0.12 * old * rng.random(),
        heart_tilt=rng.normal(0.5, 0.15),
        aortic_knob=rng.uniform(0.4, 1.0) + 0.7 * old * rng.random(),
        hilum=rng.uniform(0.6, 1.4),
        habitus=habitus,
        breast=float(rng.beta(2, 2)) if female else 0.25 * float(rng.random() < 0.15),
        clavicle_tilt=rng.normal(0.0, 0.05),
        stomach=rng.uniform(0.0, 1.3),
        scars=(scars[0], scars[1]),
        pacemaker=int(rng.choice([-1, 0, 1], p=[0.015, 0.935, 0.05])),
        sternotomy=bool(rng.random() < 0.05 + 0.07 * old),
        texture_seed=int(rng.integers(2**31)),
    )


def draw_condition(
    settings: PhantomSettings, *, seed: int, patient: int, study: int, effusion: tuple[float, float]
) -> Condition:
    """Draw the state at one study; nothing but the fluid itself depends on `effusion` (right, left grade)."""
    rng = generator(seed, patient, study, CONDITION)
    consolidations: list[Consolidation] = []
    if rng.random() < settings.consolidation:
        for _ in range(int(rng.integers(1, 3))):
            consolidations.append(
                Consolidation(
                    side=int(rng.random() < 0.5),
                    across=rng.uniform(0.3, 0.95),
                    height=float(rng.beta(0.9, 3.0)),
                    radius=rng.uniform(0.10, 0.24),
                    density=rng.uniform(0.35, 0.9),
                    texture_seed=int(rng.integers(2**31)),
                )
            )
    plate = (int(rng.integers(2)), float(rng.uniform(0.04, 0.3)), float(rng.normal(0, 0.3)))
    has_plate = rng.random() < settings.atelectasis
    oedema = float(rng.uniform(0.1, 0.6)) if rng.random() < settings.oedema else 0.0
    inspiration = float(np.clip(rng.normal(0.05, 0.05), -0.04, 0.2))
    devices = rng.random() < settings.devices
    chances = rng.random(5)
    return Condition(
        effusion=effusion,
        inspiration=inspiration,
        consolidations=tuple(consolidations),
        atelectasis=plate if has_plate else None,
        oedema=oedema,
        tube=bool(devices and chances[0] < 0.35),
        gastric_tube=bool(devices and chances[1] < 0.4),
        central_line=int(rng.choice([-1, -1, 1])) if devices and chances[2] < 0.6 else 0,
        chest_drain=int(rng.choice([-1, 1])) if devices and chances[3] < 0.12 else 0,
        leads=int(rng.integers(2, 6)) if devices and chances[4] < 0.7 else 0,
        device_seed=int(rng.integers(2**31)),
    )
