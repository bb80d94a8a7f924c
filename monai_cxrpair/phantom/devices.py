"""Lines, tubes, leads and wires: metal and plastic that lie over the chest whatever the lungs show."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_cxrpair.phantom.anatomy import Anatomy, Condition
from monai_cxrpair.phantom.canvas import Canvas
from monai_cxrpair.phantom.nuisance import Picture

Point = tuple[float, float]


def devices(canvas: Canvas, anatomy: Anatomy, condition: Condition, *, lateral: bool) -> Picture | None:
    """What the devices add, `(H, W)` on the sheet, or nothing; a pure function of its arguments."""
    rng = np.random.default_rng(condition.device_seed)
    squeeze = 0.6 if lateral else 1.0  # from the side they lie closer together
    curves: list[tuple[ArrayLike, float, float]] = []
    spots: list[tuple[ArrayLike, float]] = []
    if condition.tube:
        curves.append((_smooth([(0.0, -1.2), (0.01, -0.7), (0.01, -0.30)]), 0.018, 0.55))
    if condition.gastric_tube:
        curves.append((_smooth([(0.02, -1.2), (-0.02, -0.5), (0.03, 0.1), (0.10, 0.45), (0.28, 0.55)]), 0.016, 0.55))
    if condition.central_line:
        sign = condition.central_line
        curves.append(
            (_smooth([(0.45 * sign, -0.95), (0.22 * sign, -0.62), (-0.09, -0.35), (-0.10, 0.02)]), 0.013, 0.75)
        )
    if condition.chest_drain:
        sign = condition.chest_drain
        start = rng.uniform(0.1, 0.4)
        curves.append((_smooth([(0.9 * sign, start), (0.55 * sign, start - 0.1), (0.40 * sign, -0.45)]), 0.026, 0.55))
    for _ in range(condition.leads):
        at = (rng.uniform(-0.7, 0.7), rng.uniform(-0.65, 0.55))
        end = (float(np.sign(at[0] + 1e-9)) * 1.1, at[1] + rng.uniform(-0.5, 0.3))
        bow = ((at[0] + end[0]) / 2, (at[1] + end[1]) / 2 + rng.uniform(0.0, 0.25))
        curves.append((_smooth([at, bow, end]), 0.010, 0.6))
        spots.append((_disc(at, 0.026), 0.8))
    if anatomy.pacemaker:
        sign = anatomy.pacemaker
        spots.append((_disc((0.52 * sign, -0.42), 0.085), 1.0))
        curves.append(
            (
                _smooth([(0.50 * sign, -0.48), (0.25 * sign, -0.60), (-0.08, -0.35), (-0.05, 0.15), (0.18, 0.28)]),
                0.012,
                0.9,
            )
        )
    if anatomy.sternotomy:
        curves += [(_disc((0.0, level), 0.02), 0.009, 0.9) for level in np.linspace(-0.45, 0.15, 5)]
    if not curves and not spots:
        return None
    curves = [(np.asarray(points) * [squeeze, 1.0], width, value) for points, width, value in curves]
    spots = [(np.asarray(points) * [squeeze, 1.0], value) for points, value in spots]
    return canvas.draw(curves=curves, patches=spots, strength=0.36)


def _smooth(points: list[Point]) -> NDArray[np.float64]:
    """A smooth curve of 24 points near the given ones (Bezier)."""
    t = np.linspace(0, 1, 24)[:, None]
    level = [np.array(point, float)[None, :] + 0 * t for point in points]
    while len(level) > 1:
        level = [(1 - t) * a + t * b for a, b in itertools.pairwise(level)]
    return level[0]


def _disc(at: Point, radius: float) -> NDArray[np.float64]:
    """A circle of 16 points."""
    angle = np.linspace(0, 2 * np.pi, 16)
    return np.stack([at[0] + radius * np.cos(angle), at[1] + radius * np.sin(angle)], 1)
