"""Is a radiograph like those that the weights were trained on? Its pixel statistics against theirs.

The statistics are those of the view that the network sees, so that they do not depend on how a radiograph was stored.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import cv2
import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
COARSE, TINY = 32, 16  # sides of the shrunken views: for mean and SD, where noise averages out; for what it shows
COMPONENTS = 8  # of what tiny views differ in
PER_COMPONENT = 50  # radiographs; with fewer for each, components fit the training set and nothing else
FEWEST = 20  # radiographs; fewer say nothing about tails
MOST = 2000  # that are measured
# A limit lies outside of the 1st or 99th percentile by half the distance to the median, and at least by this much.
# Chosen on the sets that it was then measured on: trained on 70 % of the patients of 1000 NIH radiographs, 5 of 881
# of the others were flagged (three splits), all inverted ones, all noise, and 15 to 17 of 17 CT, MR and other slices.
BEYOND = 0.5
AT_LEAST = {
    "mean": 0.1, "sd": 0.03, "dark": 0.3, "bright": 0.2, "aspect": 0.3, "texture": 0.005, "likeness": 0.1,
    "unlike": 0.15, "side": 0.0,
}  # fmt: skip
SAYS = {  # too low, too high
    "mean": ("darker", "brighter"),
    "sd": ("less contrast", "more contrast"),
    "dark": ("", "a larger black part"),
    "bright": ("", "a larger white part"),
    "aspect": ("wider", "taller"),
    "texture": ("smoother", "noisier"),
    "likeness": ("arranged otherwise (inverted, turned, or no chest)", ""),
    "unlike": ("", "showing what they do not show"),
    "side": ("of fewer pixels", ""),
}


def input_statistics(
    views: Iterable[NDArray[np.uint8]],
    aspects: Iterable[float],
    sides: Iterable[int | None],
) -> dict[str, Any] | None:
    """What the card of a classifier says about the radiographs it was trained on.

    Args:
        views: of each radiograph the square (S, S) that the network sees.
        aspects: height by width of each, before it was made square.
        sides: pixels of the shorter side of each, as stored; None where that is not known.

    Returns:
        `radiographs`, `quantiles` (statistic -> quantile -> value), `mean_view` (TINY x TINY) and `components`; None
        for fewer than `FEWEST` radiographs.
    """
    views, aspects, sides = list(views), list(aspects), list(sides)
    if len(views) < FEWEST:
        return None
    tiny = np.stack([_tiny(view) for view in views])  # (N, TINY^2)
    mean_view = tiny.mean(axis=0)
    number = min(COMPONENTS, len(views) // PER_COMPONENT)
    components = np.linalg.svd(tiny - mean_view, full_matrices=False)[2][:number]  # (K, TINY^2)
    # As they are read back, so that training and inference compute the same.
    mean_view, components = mean_view.round(3), components.round(4)
    rows = [
        _measure(view, aspect=aspect, side=side, mean_view=mean_view, components=components)
        for view, aspect, side in zip(views, aspects, sides, strict=True)
    ]
    quantiles = {}
    for name in AT_LEAST:
        values = [row[name] for row in rows if row[name] is not None]
        if values:
            found = np.quantile(np.asarray(values, dtype=np.float64), QUANTILES)
            quantiles[name] = {f"{q:g}": round(float(value), 5) for q, value in zip(QUANTILES, found, strict=True)}
    return {
        "radiographs": len(views),
        "quantiles": quantiles,
        "mean_view": mean_view.tolist(),
        "components": components.tolist(),
    }


def training_statistics(dataset: Any, rows: NDArray[np.int64], *, seed: int) -> dict[str, Any] | None:
    """`input_statistics` of at most `MOST` radiographs of a `RadiographCacheDataset`, drawn by seed."""
    from monai_cxrpair.evaluation.file_header import stored_size

    rows = np.asarray(rows, dtype=np.int64)
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST, replace=False))
    shapes = [image.shape for image in dataset.radiographs(rows)]
    sizes = [stored_size(item["image"]) for item in (dataset.data[int(row)] for row in rows)]
    return input_statistics(
        [dataset.__getitems__([int(row)])["image"][0, 0] for row in rows],
        [height / width for height, width in shapes],
        [None if size is None else min(size) for size in sizes],
    )


class CheckInputd(MapTransform):
    """Say under `warning` in what a radiograph lies outside of those that the weights were trained on.

    It changes no pixels. Stands behind `ResizeShorterSided` and before the crop.

    Args:
        keys: of float (1, h, w) radiographs in [0, 1], shorter side `image_size`.
        statistics: `input` of the classifier's card. None, as in cards of before: nothing is compared, which is said
            once.
        image_size: side of the square that the network sees.
        allow_missing_keys: as in every MONAI dictionary transform.
    """

    def __init__(
        self,
        keys: KeysCollection,
        statistics: Mapping[str, Any] | None,
        image_size: int,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.limits = None if not statistics else InputLimits(statistics, image_size=image_size)
        self.image_size = image_size
        if self.limits is None:
            logger.warning(
                "model.json does not say what the training radiographs were like: input is not compared with them; "
                "`evaluating` writes it"
            )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add `warning`, empty where nothing is to be said."""
        out = dict(data)
        said = str(out.get("warning", ""))
        for key in self.key_iterator(out) if self.limits else ():
            image = out[key]
            stored = getattr(image, "meta", {}).get("stored_shape")
            pixels = np.asarray(image, dtype=np.float32)[0]
            found = self.limits.outside(pixels, side=None if stored is None else int(min(stored)))  # type: ignore[union-attr]
            said = "; ".join(filter(None, [said, found]))
        out["warning"] = said
        return out


class InputLimits:
    """The limits that follow from a card's statistics.

    Args:
        statistics: from `input_statistics`.
        image_size: side of the square that the network sees.

    Attributes:
        limits: statistic -> lowest and highest value that is not flagged.
    """

    def __init__(self, statistics: Mapping[str, Any], *, image_size: int) -> None:
        self.image_size = image_size
        self.mean_view = np.asarray(statistics["mean_view"], dtype=np.float64)
        self.components = np.asarray(statistics["components"], dtype=np.float64).reshape(-1, len(self.mean_view))
        self.limits: dict[str, tuple[float, float]] = {}
        for name, quantiles in statistics["quantiles"].items():
            low, middle, high = (float(quantiles[q]) for q in ("0.01", "0.5", "0.99"))
            least = AT_LEAST[name]
            self.limits[name] = (
                low - max(least, BEYOND * (middle - low)),
                high + max(least, BEYOND * (high - middle)),
            )
        # Larger radiographs are shrunk to the same size; smaller ones than that were blown up.
        if "side" in self.limits:
            self.limits["side"] = (min(float(image_size), float(statistics["quantiles"]["side"]["0.01"])), np.inf)
        if not len(self.components):
            self.limits.pop("unlike", None)

    def outside(self, pixels: NDArray[np.float32], *, side: int | None) -> str:
        """In words, in what a radiograph lies outside; empty where in nothing.

        Args:
            pixels: (h, w) in [0, 1], shorter side `image_size`.
            side: pixels of the shorter side as stored, if known.
        """
        height, width = pixels.shape
        size = self.image_size
        top, left = height // 2 - size // 2, width // 2 - size // 2  # as MONAI's CenterSpatialCrop
        view = np.rint(pixels[top : top + size, left : left + size] * 255).astype(np.uint8)
        found = _measure(view, aspect=height / width, side=side, mean_view=self.mean_view, components=self.components)
        words = []
        for name, (low, high) in self.limits.items():
            value = found[name]
            if value is None:
                continue
            word = SAYS[name][0] if value < low else SAYS[name][1] if value > high else ""
            if word:
                words.append(f"{word} ({name} {value:.3g}, limits {low:.3g} to {high:.3g})")
        return "unlike the training radiographs: " + ", ".join(words) if words else ""


def _measure(
    view: NDArray[np.uint8],
    *,
    aspect: float,
    side: int | None,
    mean_view: NDArray[np.float64],
    components: NDArray[np.float64],
) -> dict[str, float | None]:
    coarse = cv2.resize(view.astype(np.float32) / 255, (COARSE, COARSE), interpolation=cv2.INTER_AREA)
    tiny = _tiny(view)
    away = tiny - mean_view
    away -= (away @ components.T) @ components
    norm = float(np.linalg.norm(tiny) * np.linalg.norm(mean_view))
    fine = view.astype(np.int16)
    steps = np.abs(np.diff(fine, axis=0)).mean() + np.abs(np.diff(fine, axis=1)).mean()
    return {
        "mean": float(coarse.mean()),
        "sd": float(coarse.std()),
        "dark": float((view <= 2).mean()),  # saturated: within 1 % of the ends
        "bright": float((view >= 253).mean()),
        "aspect": float(np.log(aspect)),
        "texture": float(steps / 255),
        "likeness": float(tiny @ mean_view) / norm if norm > 0 else 0.0,  # a correlation
        "unlike": float(np.sqrt((away**2).mean())),
        "side": None if side is None else float(side),
    }


def _tiny(view: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(TINY^2,) of mean 0 and SD 1: what a view shows, whatever its brightness and contrast."""
    small = cv2.resize(view.astype(np.float32) / 255, (TINY, TINY), interpolation=cv2.INTER_AREA).astype(np.float64)
    return np.asarray((small - small.mean()) / max(float(small.std()), 1e-3)).ravel()
