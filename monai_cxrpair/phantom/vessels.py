"""The vessels of the lungs: a branching tree per patient, seen from the front."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.phantom.anatomy import Anatomy

# One generation of branches: points (branches, 3, 2), width in units, brightness in [0, 1].
Branches = tuple[NDArray[np.float64], float, float]


def vessel_curves(anatomy: Anatomy) -> list[Branches]:
    """The patient's vessels by generation, thinnest first; the same patient has the same tree."""
    fullness = min(1.0, 0.7 * anatomy.hilum + 0.2)
    scale = np.array([anatomy.lung_width / 0.635, 1.0])
    return [(points * scale, width, value * fullness) for points, width, value in _tree(anatomy.texture_seed)]


@lru_cache(maxsize=8)  # a patient's radiographs are drawn one after the other
def _tree(seed: int) -> tuple[Branches, ...]:
    """Grow both trees from the hila outwards; every branch ends in two thinner ones."""
    rng = np.random.default_rng(seed)
    angle = np.tile(np.linspace(-1.35, 1.35, 9), 2) + rng.normal(0, 0.12, 18)  # from upwards to downwards
    side = np.repeat([-1.0, 1.0], 9)
    start = np.stack([side * 0.12, -0.02 + 0.07 * np.sin(angle)], -1)
    length = rng.uniform(0.14, 0.26, 18) * np.where(angle > 0.3, 1.2, 0.95)
    generations: list[Branches] = []
    for width, value in ((0.030, 0.8), (0.018, 0.62), (0.011, 0.5)):
        later = angle + rng.normal(0, 0.2, len(angle))
        middle = start + 0.5 * length[:, None] * np.stack([side * np.cos(angle), np.sin(angle)], -1)
        end = middle + 0.5 * length[:, None] * np.stack([side * np.cos(later), np.sin(later)], -1)
        generations.append((np.stack([start, middle, end], 1), width, value))
        fork = rng.uniform(0.12, 0.5, (2, len(angle))) * [[1.0], [-1.0]]
        angle, start = np.concatenate(later + fork), np.tile(end, (2, 1))
        side, length = np.tile(side, 2), np.tile(length, 2) * rng.uniform(0.6, 0.95, 2 * len(length))
    return tuple(reversed(generations))
