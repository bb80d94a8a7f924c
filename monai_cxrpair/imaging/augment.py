"""The random transformation T of a view: the settings, and the drawing of parameters for a whole batch."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.augment_views import Floats, Image, ViewParams, apply_views

logger = logging.getLogger(__name__)

__all__ = ["Augmentation", "ViewParams", "apply_views"]

Range = tuple[float, float]

# What each optional effect consists of: its ranges, each with the value at which it changes nothing.
EFFECTS: dict[str, dict[str, float]] = {
    "intensity": {"brightness": 0.0, "contrast": 1.0, "gamma": 1.0},
    "blur": {"blur_sigma": 0.0},
    "noise": {"noise_sd": 0.0},
}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Rotation, horizontal flip and a random crop (paper section 3.1: +-10 degrees, p = 0.5); more where asked for.

    Ranges are drawn from uniformly, `crop_aspect` and `gamma` on a logarithmic scale. The three optional effects are
    off by default, as in the paper, and each draws from a stream of its own: switching one on leaves the pairs and all
    other draws of a run as they were.

    Args:
        rotate_degrees: the angle is uniform in +- this.
        flip_probability: of a left-right flip.
        crop_area: the crop's share of the largest square that fits; the paper's "random crop" rows use [0.95, 1.0]
            (section 4.1).
        crop_aspect: width by height of the crop, which is then squeezed into the square view; made smaller where it
            would not fit. MoCo's RandomResizedCrop draws it from [0.75, 1.333]. The paper names only the area, and
            everywhere else keeps the aspect, so the default is a square.
        intensity_probability: of new grey values: contrast * (grey ** gamma - 0.5) + 0.5 + brightness, for grey values
            in [0, 1], cut off at 0 and 1.
        brightness, contrast, gamma: see there.
        blur_probability: of a Gaussian blur.
        blur_sigma: its standard deviation in pixels of the view (MoCo v2: [0.1, 2.0] at 224).
        noise_probability: of Gaussian noise.
        noise_sd: its standard deviation, grey values being in [0, 1].

    Raises:
        CxrPairError: a setting outside its range, by name.
    """

    rotate_degrees: float = 10.0
    flip_probability: float = 0.5
    crop_area: Range = (1.0, 1.0)
    crop_aspect: Range = (1.0, 1.0)
    intensity_probability: float = 0.0
    brightness: Range = (-0.1, 0.1)
    contrast: Range = (0.8, 1.2)
    gamma: Range = (0.8, 1.25)
    blur_probability: float = 0.0
    blur_sigma: Range = (0.1, 2.0)
    noise_probability: float = 0.0
    noise_sd: Range = (0.0, 0.03)

    def __post_init__(self) -> None:
        self._check_number("rotate_degrees", 0, 180)
        for name in ("flip", *EFFECTS):
            self._check_number(f"{name}_probability", 0, 1)
        self._check_range("crop_area", 0, 1, above=True)
        self._check_range("crop_aspect", 0.1, 10)
        self._check_range("brightness", -1, 1)
        self._check_range("contrast", 0, 10)
        self._check_range("gamma", 0.1, 10)
        self._check_range("blur_sigma", 0, 50)
        self._check_range("noise_sd", 0, 1)
        for effect, ranges in EFFECTS.items():
            self._warn_if_idle(effect, ranges)

    @classmethod
    def from_config(cls, settings: Mapping[str, Any]) -> Augmentation:
        """The `augmentation` section of a config; an unknown setting is an error by name."""
        known = [f.name for f in fields(cls)]
        for name in settings:
            if name not in known:
                raise CxrPairError(f"augmentation#{name} is unknown: there are {', '.join(known)}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """The settings, for a card."""
        return asdict(self)

    def draw(self, n: int, rng: np.random.Generator) -> ViewParams:
        """Draw the parameters of n views, each independent of the others."""
        return ViewParams(
            angle=rng.uniform(-self.rotate_degrees, self.rotate_degrees, n),
            flip=rng.random(n) < self.flip_probability,
            shift_x=rng.random(n),
            shift_y=rng.random(n),
            area=rng.uniform(*self.crop_area, n),
            **self._draw_options(n, rng),
        )

    def views(self, images: Sequence[Image], rng: np.random.Generator, *, size: int) -> Image:
        """Draw, then `apply_views`."""
        return apply_views(images, self.draw(len(images), rng), size=size)

    def _draw_options(self, n: int, rng: np.random.Generator) -> dict[str, Any]:
        on = [name for name in EFFECTS if getattr(self, f"{name}_probability") > 0]
        square = self.crop_aspect == (1.0, 1.0)
        if square and not on:
            return {}
        aspect, intensity, blur, noise = rng.spawn(4)
        drawn: dict[str, Any] = {}
        if not square:
            drawn["aspect"] = _log_uniform(self.crop_aspect, n, aspect)
        if "intensity" in on:
            chosen = intensity.random(n) < self.intensity_probability
            brightness, contrast = intensity.uniform(*self.brightness, n), intensity.uniform(*self.contrast, n)
            table = grey_table(brightness, contrast, _log_uniform(self.gamma, n, intensity))
            drawn["table"] = np.where(chosen[:, None], table, np.arange(256, dtype=np.uint8))
        if "blur" in on:
            drawn["blur"] = (blur.random(n) < self.blur_probability) * blur.uniform(*self.blur_sigma, n)
        if "noise" in on:
            drawn["noise"] = 255.0 * (noise.random(n) < self.noise_probability) * noise.uniform(*self.noise_sd, n)
            drawn["noise_seed"] = noise.integers(0, 2**62, n)
        return drawn

    def _check_number(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not _is_number(value) or not low <= value <= high:
            raise CxrPairError(f"augmentation#{name} is {value!r}: use {low:g} to {high:g}")

    def _check_range(self, name: str, low: float, high: float, *, above: bool = False) -> None:
        value = getattr(self, name)
        pair = isinstance(value, tuple) and len(value) == 2 and all(_is_number(v) for v in value)
        if not pair or not low <= value[0] <= value[1] <= high or (above and value[0] == low):
            shown = list(value) if isinstance(value, tuple) else repr(value)
            more = "above" if above else "from"
            raise CxrPairError(f"augmentation#{name} is {shown}: use [low, high] {more} {low:g} to {high:g}")

    def _warn_if_idle(self, effect: str, ranges: Mapping[str, float]) -> None:
        probability = getattr(self, f"{effect}_probability")
        values = {name: getattr(self, name) for name in ranges}
        said = ", ".join(f"{name} {list(value)}" for name, value in values.items())
        if probability > 0 and all(value == (ranges[name],) * 2 for name, value in values.items()):
            logger.warning("augmentation#%s_probability is %g, but %s changes nothing", effect, probability, said)
        elif probability == 0 and any(value != getattr(type(self), name) for name, value in values.items()):
            logger.warning("augmentation has %s, but %s_probability is 0: it is never applied", said, effect)


def grey_table(brightness: Floats, contrast: Floats, gamma: Floats) -> Image:
    """The grey values (N, 256) that 0 to 255 become."""
    grey = np.arange(256) / 255.0
    power = grey ** gamma[:, None]  # (N, 256)
    changed = contrast[:, None] * (power - 0.5) + 0.5 + brightness[:, None]
    return np.rint(255.0 * changed.clip(0.0, 1.0)).astype(np.uint8)


def _log_uniform(limits: Range, n: int, rng: np.random.Generator) -> Floats:
    return np.exp(rng.uniform(math.log(limits[0]), math.log(limits[1]), n))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
