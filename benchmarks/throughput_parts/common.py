"""What all parts share: the radiographs, and how two ways to do the same are compared."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from monai.transforms import Compose

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.imaging import LoadRadiographd, ResizeShorterSided

N, SHAPE, ROUNDS = 2000, (320, 390), 15
MEAN, STD = 0.5, 0.25  # that pixels in [0, 1] are normalised with


def picture(i: int, shape: tuple[int, int], dtype: type[Any] = np.uint8, top: int = 255) -> np.ndarray:
    """Smooth shapes under noise: its JPEG is about as large as a radiograph's."""
    rng = np.random.default_rng(i)
    smooth = cv2.resize(rng.random((9, 11), dtype=np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return (top * (0.85 * smooth + 0.03 * rng.standard_normal(shape)).clip(0, 1)).astype(dtype)


def make_cohort(folder: Path, paths: list[str]) -> Cohort:
    """Two radiographs a study."""
    table = pd.DataFrame({"path": paths, "image_id": [f"i{i}" for i in range(len(paths))]})
    table["patient_id"] = [f"p{i // 2}" for i in range(len(paths))]
    return Cohort(table.assign(study_id=table["patient_id"]), root=folder, findings=[], source="benchmark")


def make_jpegs(folder: Path) -> Cohort:
    """2,000 pictures as JPEG; those that are there already stay."""
    paths = [f"{i}.jpg" for i in range(N)]
    for i, path in enumerate(paths):
        if not (folder / path).exists():
            cv2.imwrite(str(folder / path), picture(i, SHAPE), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return make_cohort(folder, paths)


def preprocessing(size: int) -> Compose:
    """As in the bundle."""
    return Compose([LoadRadiographd(keys="image"), ResizeShorterSided(keys="image", size=size)])


def in_turn(runs: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run all in turn, the order turned round every time; the seconds of each, without the first round, a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(ROUNDS + 1):
        for name in list(runs)[:: 1 if i % 2 else -1]:
            seconds = runs[name]()
            if i:
                times[name].append(seconds)
    return times


def ratio(ours: Sequence[float], theirs: Sequence[float], digits: int = 3) -> str:
    """The median of the ratios round by round, and their spread."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return (
        f"{middle:.{digits}f} (half of the {len(ratios)} rounds within {low:.{digits}f} to {high:.{digits}f}, all "
        f"within {min(ratios):.{digits}f} to {max(ratios):.{digits}f})"
    )


def row(part: str, claim: str, figure: str) -> None:
    """A line of RESULTS.md."""
    print(f"| {date.today()} | `throughput.py` ({part}) | {claim} | {figure} |", flush=True)
