"""How one radiograph was taken: drawn first, then applied. None of it tells anything about the patient's lungs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.phantom.settings import PhantomSettings
from monai_cxrpair.phantom.structure import SHOT, RadiographPlan, generator

# float32 throughout; the wider type because numpy's stubs promise float64 for float32 times a Python float.
Picture = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Shot:
    """The technique of one radiograph; angles in degrees, lengths in units of half the image height."""

    laterality: str
    view_position: str
    supine: bool
    magnification: float
    heart_magnification: float
    rotation: float
    shift: tuple[float, float]  # x, y
    turn: float  # of the patient about the long axis, -1 .. 1
    breath: float  # difference to the study's inspiration
    arms: float  # how far the arms are held off the chest
    window: tuple[float, float]  # room below and above the picture's own range
    gamma: float
    scatter: float
    tilt: tuple[float, float]  # heel effect: brightness across and down
    noise: float
    blur: float  # SD in pixels of a 160 px image
    collimation: tuple[float, float, float, float]  # left, top, right, bottom
    collimation_value: float
    marker: str  # burned-in text, empty without one
    marker_at: tuple[float, float]  # share of the width and the height
    side_marker: tuple[float, float] | None
    monochrome1: bool
    noise_seed: int


def draw_shot(
    settings: PhantomSettings, *, seed: int, patient: int, study: int, image: int, plan: RadiographPlan
) -> Shot:
    """Draw how one radiograph was taken; independent of every finding."""
    rng = generator(seed, patient, study, image, SHOT)
    portable = plan.view_position == "AP"
    loose = 1.0 if portable else 0.5  # a portable film is positioned less carefully
    edges = rng.uniform(0.0, 0.09, 4) * (rng.random(4) < 0.6)
    collimated = rng.random() < settings.collimation
    text = ""
    if rng.random() < settings.markers:
        words = ["AP PORTABLE", "PORTABLE", "AP", "AP SUPINE", "AP ERECT"] if portable else ["PA", "ERECT", "DX", "R1"]
        words = ["LAT", "L LAT", "ERECT"] if plan.laterality == "lateral" else words
        text = str(rng.choice(words))
    return Shot(
        laterality=plan.laterality,
        view_position=plan.view_position,
        supine=bool(portable and rng.random() < settings.supine),
        magnification=float(rng.normal(1.06 if portable else 1.0, 0.05)),
        heart_magnification=float(rng.normal(1.12 if portable else 1.0, 0.03)),
        rotation=float(rng.normal(0, 3.5 * loose)),
        shift=(float(rng.normal(0, 0.05 * loose)), float(rng.normal(0.0, 0.05 * loose + 0.02))),
        turn=float(np.clip(rng.normal(0, 0.5 * loose), -1, 1)),
        breath=float(rng.normal(0.04 if portable else 0.0, 0.015)),
        arms=float(rng.uniform(0.0, 1.0)),
        window=(float(rng.uniform(-0.02, 0.18)), float(rng.uniform(-0.12, 0.18))),
        gamma=float(np.exp(rng.uniform(*np.log(settings.gamma)))),
        scatter=float(rng.uniform(0.0, 0.35)),
        tilt=(float(rng.normal(0, 0.05)), float(rng.normal(0, 0.07))),
        noise=float(rng.uniform(*settings.noise)),
        blur=float(rng.uniform(0.2, 0.8)),
        collimation=tuple(float(edge) for edge in edges) if collimated else (0.0, 0.0, 0.0, 0.0),  # type: ignore[arg-type]
        collimation_value=float(rng.choice([0.0, 0.0, 0.02, 0.95])),
        marker=text,
        marker_at=(float(rng.uniform(0.02, 0.6)), float(rng.choice([rng.uniform(0.04, 0.1), rng.uniform(0.9, 0.97)]))),
        side_marker=(float(rng.uniform(0.03, 0.09)), float(rng.uniform(0.05, 0.5)))
        if rng.random() < settings.markers
        else None,
        monochrome1=bool(rng.random() < settings.monochrome1),
        noise_seed=int(rng.integers(2**31)),
    )


def expose(attenuation: Picture, shot: Shot) -> Picture:
    """Turn attenuation into the displayed picture: auto-exposure, display curve, scatter, noise, borders, letters.

    Args:
        attenuation: `(H, W)`, 0 for air, about 1 for bone over soft tissue; already in the geometry of the image.
        shot: The technique.

    Returns:
        `(H, W)` in display units: 0 to 1 is shown, what lies outside is cut by the window. Bone is bright.
    """
    rows, columns = attenuation.shape
    # Automatic exposure: the middle of the field decides. A sample of it is enough, and sorting is slow.
    centre = np.sort(attenuation[rows // 8 : -rows // 8 : 3, columns // 8 : -columns // 8 : 3], axis=None)
    low, high = float(centre[int(0.03 * len(centre))]), float(centre[int(0.97 * len(centre))])
    span = high - low
    low, high = low - shot.window[0] * span, high + shot.window[1] * span
    across = np.linspace(-shot.tilt[0], shot.tilt[0], columns, dtype=np.float32)[None, :]
    down = np.linspace(-shot.tilt[1], shot.tilt[1], rows, dtype=np.float32)[:, None]
    picture = attenuation * np.float32(1 / (high - low))
    picture += (across - np.float32(low / (high - low))) + down
    np.clip(picture, 0.0, 1.5, out=picture)
    picture = cv2.pow(picture, shot.gamma)
    sharp = shot.blur * rows / 160
    if sharp > 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), sharp)
    # Scattered radiation is a very blurred copy, so it may be made small.
    small = cv2.resize(picture, (columns // 4, rows // 4), interpolation=cv2.INTER_AREA)
    haze = cv2.resize(cv2.blur(small, (rows // 16 | 1, rows // 16 | 1)), (columns, rows))
    picture = cv2.addWeighted(picture, 1 - shot.scatter, haze, shot.scatter, 0)
    # Four uniform bytes averaged are as good as a normal number, and ten times as fast.
    grain = np.frombuffer(np.random.default_rng(shot.noise_seed).bytes(rows * columns), np.uint8)
    grain = cv2.blur(grain.reshape(rows, columns).astype(np.float32), (2, 2))  # SD 256 / sqrt(12) / 2
    grain -= np.float32(127.5)
    grain *= np.float32(shot.noise * 2 * 12**0.5 / 256)
    grain *= picture + np.float32(0.5)
    picture += grain
    _collimate(picture, shot)
    _write_letters(picture, shot)
    return np.ascontiguousarray(picture, dtype=np.float32)


def _collimate(picture: Picture, shot: Shot) -> None:
    """Paint the unexposed borders, in place."""
    rows, columns = picture.shape
    left, top, right, bottom = (
        round(edge * size) for edge, size in zip(shot.collimation, (columns, rows) * 2, strict=True)
    )
    for border in (
        picture[:, :left],
        picture[:top],
        picture[:, columns - right :],
        picture[rows - bottom :],
    ):
        border[...] = shot.collimation_value


def _write_letters(picture: Picture, shot: Shot) -> None:
    """Burn in the technologist's text and the side marker, in place."""
    rows, columns = picture.shape
    letters = [(shot.marker, shot.marker_at, cv2.FONT_HERSHEY_SIMPLEX, 0.3)] if shot.marker else []
    if shot.side_marker:
        # The patient's right is on the left of a frontal; a lateral carries the side next to the detector.
        letter = "R" if shot.laterality == "frontal" or shot.view_position == "RL" else "L"
        letters.append((letter, shot.side_marker, cv2.FONT_HERSHEY_DUPLEX, 0.42))
    for text, (across, down), font, size in letters:
        line = int(down * rows)
        band = picture[max(0, line - rows // 8) : line + rows // 16]
        mask = np.zeros(band.shape, np.uint8)
        at = (int(across * columns), min(line, rows // 8))
        cv2.putText(mask, text, at, font, size * rows / 160, 255, 1, cv2.LINE_AA)
        np.maximum(band, np.multiply(mask, np.float32(1.05 / 255), dtype=np.float32), out=band)
