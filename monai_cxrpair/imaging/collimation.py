"""Where did the radiation fall? Finds the exposed field between collimator shutters and padded borders.

It only measures: nothing is cropped. A border is a band along a side of the image, as even as paint and near black or
white, that ends in a straight step. The step tells it from the air beside a body, which is as even and as dark but ends
in a curve, and from an abdomen that the window has made white. Where the field itself starts as dark as its border (air
beside the body behind a black shutter) there is no step, and the border is missed rather than guessed. A body edge that
is as straight as a shutter (an arm held down, the back of a lateral) can still be taken for one, at the cost of some
air.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from monai_cxrpair.imaging.orientation import Turn

Floats = npt.NDArray[np.float32]

# The figures below were set by looking at what they find in NIH and covid-chestxray images.
_SIZE = 256  # longer side at which it is looked for: noise is gone, and a pixel is 0.4 %
_WRITTEN = 0.15  # of a border's line may be letters and markers
_STRAIGHT = 0.55  # of the line behind the border must have the step
_DEEPEST = 0.45  # of the image's length; no one collimates beyond the middle


class _Kind(NamedTuple):
    """A kind of border: levels it has, how even it is, how high its step is and over what share of the image."""

    lowest: float
    highest: float
    even: float
    step: float
    reach: float


_KINDS = (
    _Kind(
        0.0, 0.2, even=0.04, step=0.06, reach=0.03
    ),  # painted: JPEG and noise do 10 / 255; the air behind is dark too
    _Kind(0.8, 1.0, even=0.08, step=0.2, reach=0.05),  # the shutter itself: scatter behind it, a wide penumbra
)


class Field(NamedTuple):
    """A box of pixels, half open: rows `top` to `bottom`, columns `left` to `right`."""

    top: int
    bottom: int
    left: int
    right: int

    def fraction(self, shape: tuple[int, ...]) -> float:
        """Its share of an image of this shape (..., H, W)."""
        return (self.bottom - self.top) * (self.right - self.left) / (shape[-2] * shape[-1])

    def within(self, other: Field) -> Field | None:
        """What it has in common with another one, if anything."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Field(top, bottom, left, right) if top < bottom and left < right else None

    def turned(self, turn: Turn, shape: tuple[int, ...]) -> Field:
        """Where it lies after `apply_turn` of an image of this shape (H, W)."""
        (top, bottom, left, right), (height, width) = self, shape
        if turn.transpose:
            top, bottom, left, right, height, width = left, right, top, bottom, width, height
        if turn.reverse_rows:
            top, bottom = height - bottom, height - top
        if turn.reverse_columns:
            left, right = width - right, width - left
        return Field(top, bottom, left, right)


def find_exposed_field(pixels: Floats) -> Field:
    """Find the exposed field by its borders.

    Args:
        pixels: float32 (1, H, W) in [0, 1], as `read_radiograph` gives them.

    Returns:
        The field, in pixels; the whole image where there is no border, or where borders leave less than 55 % of the
        image open in both directions: each then hides too much of the others' steps.
    """
    height, width = pixels.shape[-2:]
    scale = min(1.0, _SIZE / max(height, width))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    small = cv2.resize(pixels[0], (columns, rows), interpolation=cv2.INTER_AREA)
    field, before = Field(0, rows, 0, columns), None
    # A border above also crosses the lines of the one on the left, so each is looked for again without the others.
    while field != before:
        before = field
        top = field.top + _border(small[field.top : field.bottom, field.left : field.right], rows)
        bottom = field.bottom - _border(small[top : field.bottom, field.left : field.right][::-1], rows)
        left = field.left + _border(small[top:bottom, field.left : field.right].T, columns)
        right = field.right - _border(small[top:bottom, left : field.right].T[::-1], columns)
        field = Field(top, bottom, left, right)
    up, across = height / rows, width / columns
    return Field(
        round(field.top * up), round(field.bottom * up), round(field.left * across), round(field.right * across)
    )


def _border(lines: Floats, length: int) -> int:
    """How many of the lines (N, M), from the outermost inwards, are a border; `length` is the whole image's."""
    level = float(np.median(lines[:2]))
    kind = next((kind for kind in _KINDS if kind.lowest <= level <= kind.highest), None)
    if kind is None:
        return 0
    difference = np.abs(lines - level)
    inside = np.flatnonzero((difference > kind.even).mean(axis=1) > _WRITTEN)
    depth = int(inside[0]) if len(inside) else len(lines)
    behind = depth + max(2, round(kind.reach * length))
    if not 0 < depth <= _DEEPEST * length or behind >= len(lines):
        return 0
    return depth if (difference[behind] > kind.step).mean() >= _STRAIGHT else 0


def declared_field(dataset: Any, shape: tuple[int, ...]) -> Field | None:
    """What a rectangular collimator left open as the header says: (0018,1702) to (0018,1708), PS3.3 C.8.7.3.

    Args:
        dataset: the pydicom Dataset.
        shape: of the stored pixels (H, W).

    Returns:
        The field in stored pixels, cut to the image, which real headers exceed; None where an edge is missing, odd, or
        beyond the middle of the image: then it is counted in other units (RG1 of NEMA's test set: columns -184 to 184
        of 1841). The edges are the outermost pixels of the field, counted from 0 as in all 96 Open-i headers that have
        them (0 to Columns - 1).
    """
    names = ("UpperHorizontal", "LowerHorizontal", "LeftVertical", "RightVertical")
    try:
        top, bottom, left, right = (int(dataset[f"Collimator{name}Edge"].value) for name in names)
    except (KeyError, TypeError, ValueError):
        return None
    for (first, last), size in zip(((top, bottom), (left, right)), shape, strict=True):
        if first > _DEEPEST * size or last < (1 - _DEEPEST) * size:
            return None
    return Field(top, bottom + 1, left, right + 1).within(Field(0, shape[0], 0, shape[1]))
