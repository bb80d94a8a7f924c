"""The sheet the chest is drawn on, in anatomical coordinates, and the few strokes everything is made of."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_cxrpair.phantom.nuisance import Picture, Shot

MARGIN = 1.10  # the sheet is larger than the film, so that shifting and turning it never shows its end
_SHIFT = 4  # sub-pixel bits of OpenCV's drawing


class Canvas:
    """A sheet with `x` (1, W) and `y` (H, 1), in units of half the film's height, (0, 0) in the middle."""

    def __init__(self, *, shape: tuple[int, int]) -> None:
        self.film = shape
        self.scale = shape[0] / 2.0  # pixels per unit
        self.shape = round(shape[0] * MARGIN), round(shape[1] * MARGIN)
        rows, columns = self.shape
        self.x: Picture = ((np.arange(columns, dtype=np.float32) + 0.5 - columns / 2) / np.float32(self.scale))[None, :]
        self.y: Picture = ((np.arange(rows, dtype=np.float32) + 0.5 - rows / 2) / np.float32(self.scale))[:, None]
        self.x.flags.writeable = self.y.flags.writeable = False  # sheets are shared between radiographs

    def pixels(self, points: ArrayLike) -> NDArray[np.int32]:
        """Points `(..., 2)` as x, y in units -> OpenCV's fixed-point pixels."""
        rows, columns = self.shape
        centre = np.array([columns / 2 - 0.5, rows / 2 - 0.5])
        fixed = np.round((np.asarray(points, float) * self.scale + centre) * 2**_SHIFT)
        return np.asarray(fixed, np.int32)

    def rows(self, top: float, bottom: float) -> slice:
        """Rows between two heights, cut at the ends of the sheet."""
        return slice(
            *(min(max(round(float(end) * self.scale + self.shape[0] / 2), 0), self.shape[0]) for end in (top, bottom))
        )

    def columns(self, left: float, right: float) -> slice:
        """Columns between two places, cut at the ends of the sheet."""
        return slice(
            *(min(max(round(float(end) * self.scale + self.shape[1] / 2), 0), self.shape[1]) for end in (left, right))
        )

    def draw(
        self,
        *,
        curves: Iterable[tuple[ArrayLike, float, float]] = (),
        patches: Iterable[tuple[ArrayLike, float]] = (),
        blur: float = 0.0,
        strength: float = 1.0,
    ) -> Picture:
        """Draw filled polygons and, over them, curves on an empty sheet.

        Args:
            curves: Points `(n, 2)` of one curve or `(curves, n, 2)` of several, width in units, value in [0, 1].
            patches: Points `(n, 2)`, value in [0, 1].
            blur: SD in units.
            strength: What a value of 1 becomes.
        """
        sheet = np.zeros(self.shape, np.uint8)
        for points, value in patches:
            cv2.fillPoly(sheet, [self.pixels(points)], int(255 * value), cv2.LINE_AA, shift=_SHIFT)
        for points, width, value in curves:
            thick = max(1, round(width * self.scale))
            value = value * min(1.0, width * self.scale)  # a line thinner than a pixel is a fainter one
            fixed = self.pixels(points)
            many = list(fixed) if fixed.ndim == 3 else [fixed]
            cv2.polylines(sheet, many, False, int(255 * value), thick, cv2.LINE_AA, shift=_SHIFT)
        if blur * self.scale > 0.25:
            sheet = cv2.GaussianBlur(sheet, (0, 0), blur * self.scale)
        drawn: Picture = np.multiply(sheet, np.float32(strength / 255), dtype=np.float32)
        return drawn

    def texture(self, seed: int, *, grain: float, strength: float) -> Picture:
        """A smooth random field of mean 0 and SD about `strength`, `grain` units across; one per seed."""
        rows, columns = (max(4, round(size / self.scale / grain)) for size in self.shape)
        field = np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32)
        field *= np.float32(strength)
        smooth: Picture = cv2.resize(field, self.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return smooth

    def develop(self, sheet: Picture, shot: Shot) -> Picture:
        """Turn, shift and magnify the sheet onto the film: `(H, W)`; flips a lateral taken from the other side."""
        rows, columns = self.film
        if shot.view_position == "RL":
            sheet = np.ascontiguousarray(sheet[:, ::-1])
        centre = (self.shape[1] / 2 - 0.5, self.shape[0] / 2 - 0.5)
        matrix = cv2.getRotationMatrix2D(centre, shot.rotation, shot.magnification)
        matrix[:, 2] += [columns / 2 - 0.5 - centre[0], rows / 2 - 0.5 - centre[1]]
        matrix[:, 2] += np.array(shot.shift) * self.scale
        film: Picture = cv2.warpAffine(
            sheet, matrix, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return film


@lru_cache(maxsize=4)
def canvas_for(shape: tuple[int, int]) -> Canvas:
    """The sheet for a film of this many rows and columns; it holds nothing but coordinates, so it is shared."""
    return Canvas(shape=shape)


def edge(distance: Picture, softness: float) -> Picture:
    """1 where the signed distance is positive, 0 where it is negative, a ramp of `softness` to both sides between."""
    t: Picture = distance * np.float32(0.5 / softness)
    t += np.float32(0.5)
    return np.clip(t, 0, 1, out=t)


def bump(value: Picture, centre: float, width: float) -> Picture:
    """A Gaussian bump of height 1."""
    t: Picture = (value - np.float32(centre)) * np.float32(1 / width)
    return np.asarray(np.exp(-(t * t)), np.float32)


def ellipse(
    x: Picture, y: Picture, *, at: tuple[float, float], axes: tuple[float, float], tilt: float = 0.0
) -> Picture:
    """Relief of an ellipse: 1/2 in the centre, 0 on the border, falling by 1/axis per unit there, negative outside."""
    dx, dy = x - np.float32(at[0]), y - np.float32(at[1])
    a, b = axes
    cos, sin = np.cos(tilt), np.sin(tilt)
    # The quadratic form, written so that only the product term has to be made for every pixel.
    across = dx * dx * np.float32(0.5 * ((cos / a) ** 2 + (sin / b) ** 2))
    down = np.float32(0.5) - dy * dy * np.float32(0.5 * ((sin / a) ** 2 + (cos / b) ** 2))
    both: Picture = down - across
    if tilt:
        both -= dx * np.float32(cos * sin * (1 / a**2 - 1 / b**2)) * dy
    return both


# One period of rib and gap: a broad faint bone with a bright lower border, as cortical bone is seen edge-on.
_PHASE = np.arange(256) / 256.0
_RIB = (
    0.75 / (1 + np.exp((np.abs(_PHASE - 0.5) - 0.21) / 0.025))
    + 0.45 * np.exp(-(((_PHASE - 0.68) / 0.05) ** 2))
    + 0.25 * np.exp(-(((_PHASE - 0.32) / 0.05) ** 2))
).astype(np.float32)


def ribs(along: Picture, across: Picture) -> Picture:
    """Brightness in [0, about 1.1] of ribs; their number grows by 1 per rib with the sum of `along` and `across`.

    The two are given apart, (H, 1) and (1, W), because adding them is the only step that costs every pixel.
    """
    phase = (along * np.float32(256) + (across * np.float32(256) + np.float32(2**14))).astype(np.int32)
    phase &= 255
    return _RIB.take(phase)
