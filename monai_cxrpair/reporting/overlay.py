"""The picture: a radiograph, where the classifier looked, and what it says, burned in above."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

LONGER_SIDE = 1024  # pixels: the text is legible, and it is clear that this is not the radiograph itself
_LINE = 34  # rows of a line of text
_MARGIN = 10
_STRENGTH = 0.7  # of the colour where the map is 1, and the colours, are those of evaluation/heat_map.py


def draw_overlay(
    pixels: npt.NDArray[np.floating[Any]],
    heat_map: npt.NDArray[np.floating[Any]] | None,
    lines: list[str],
    *,
    whole: bool = False,
) -> npt.NDArray[np.uint8]:
    """Draw it.

    Args:
        pixels: The radiograph (H, W) in [0, 1].
        heat_map: (h, w) in [0, 1], any size; None: the radiograph alone.
        lines: Text above the radiograph, ASCII; nothing of the radiograph is covered.
        whole: The map is of the whole radiograph; otherwise of its central square, which is what the network sees.

    Returns:
        uint8 (text + H', W', 3), RGB; the longer side of the radiograph in it has 1024 pixels.
    """
    scale = LONGER_SIDE / max(pixels.shape)
    height, width = (max(1, round(side * scale)) for side in pixels.shape)
    shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    grey = cv2.resize(np.asarray(pixels, dtype=np.float32), (width, height), interpolation=shrink)
    picture = np.repeat(np.clip(grey, 0, 1)[:, :, None] * 255, 3, axis=2)  # (H', W', 3)
    if heat_map is not None:
        heat = _in_place(np.clip(np.nan_to_num(np.asarray(heat_map, np.float32)), 0, 1), (height, width), whole=whole)
        colour = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[:, :, ::-1]  # BGR to RGB
        strength = _STRENGTH * heat[:, :, None]
        picture = (1 - strength) * picture + strength * colour
    return np.concatenate([_banner(lines, width), np.round(picture).astype(np.uint8)])


def _in_place(heat: npt.NDArray[np.float32], shape: tuple[int, int], *, whole: bool) -> npt.NDArray[np.float32]:
    """The map in the size of the picture; 0 where the network saw nothing."""
    height, width = shape
    side = min(shape)
    rows, columns = shape if whole else (side, side)
    top, left = (height - rows) // 2, (width - columns) // 2  # as CenterSpatialCrop
    placed = np.zeros(shape, np.float32)
    placed[top : top + rows, left : left + columns] = cv2.resize(heat, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return np.clip(placed, 0, 1)


def _banner(lines: list[str], width: int) -> npt.NDArray[np.uint8]:
    """Lines of white text on black, each as large as fits."""
    banner = np.zeros((_LINE * len(lines) + _MARGIN, width, 3), np.uint8)
    for number, line in enumerate(lines, start=1):
        text = line.encode("ascii", "replace").decode()
        (long, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)
        size = min(0.8, (width - 2 * _MARGIN) / long)
        where = (_MARGIN, _LINE * number - 6)
        cv2.putText(
            banner, text, where, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 2 if size > 0.5 else 1, cv2.LINE_AA
        )
    return banner
