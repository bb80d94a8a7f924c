"""How the whole network is trained on a draw: the paper's way, and a modern one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_type_hints

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.augment import Augmentation

_WORDS = {"optimiser": ("adam", "adamw"), "train": ("all", "head"), "batch_norm": ("live", "frozen")}


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """Settings of fine-tuning; the defaults are the paper's (section 3.2) and its code's.

    Args:
        epochs: over the draw.
        batch_size: radiographs a step.
        optimiser: `adam` or `adamw`.
        learning_rate: of the encoder.
        head_factor: the new last layer learns so many times as fast.
        weight_decay: of the weights; none of biases and normalisation.
        warmup_epochs: see `cosine`; 0 with `cosine` false: the learning rate stays as it is.
        cosine: the learning rate falls to 0 along a half cosine.
        rotate_degrees, flip_probability: see `Augmentation`. The square is cropped at a random place along the longer
            side, as the paper's code does.
        holdout: share of the draw's patients, about, on whom the best epoch is chosen (log loss) and thresholds are;
            0, or a draw with fewer than ten of a class: the last epoch, no threshold. The paper chooses on the 200
            validation studies instead, which are labels beyond the draw.
        train: `all`, or `head` for the last layer only.
        batch_norm: `live`: statistics of the batch, as the paper's code has them even where the encoder is frozen;
            `frozen`: those of pre-training.
    """

    epochs: int = 95
    batch_size: int = 16
    optimiser: str = "adam"
    learning_rate: float = 3e-5
    head_factor: float = 1.0
    weight_decay: float = 0.0
    warmup_epochs: int = 0
    cosine: bool = False
    rotate_degrees: float = 0.0
    flip_probability: float = 0.0
    holdout: float = 0.2
    train: str = "all"
    batch_norm: str = "live"

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("warmup_epochs", 0)):
            value = getattr(self, name)
            self._check(name, _is(int, value) and value >= least, f"use a whole number of at least {least}")
        for name in ("learning_rate", "head_factor"):
            value = getattr(self, name)
            self._check(name, _is((int, float), value) and value > 0, "use a number above 0")
        self._check(
            "weight_decay",
            _is((int, float), self.weight_decay) and self.weight_decay >= 0,
            "use a number of at least 0",
        )
        self._check("holdout", _is((int, float), self.holdout) and 0 <= self.holdout <= 0.5, "use 0 to 0.5")
        self._check("cosine", isinstance(self.cosine, bool), "use true or false")
        for name, words in _WORDS.items():
            self._check(name, getattr(self, name) in words, f"use {' or '.join(words)}")
        self._check("warmup_epochs", self.warmup_epochs < self.epochs, "use fewer than the epochs")
        self.augmentation()

    def augmentation(self) -> Augmentation:
        """Of the views that are learned from."""
        return Augmentation(rotate_degrees=self.rotate_degrees, flip_probability=self.flip_probability)

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)

    def _check(self, name: str, right: bool, hint: str) -> None:
        if not right:
            raise CxrPairError(f"fine_tune#{name} is {getattr(self, name)!r}: {hint}")


def _is(kind: type | tuple[type, ...], value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


PRESETS = {
    "paper": TuneSettings(),
    # AdamW, cosine and warm-up with a faster head as usual for fine-tuning (e.g. He et al. 2022, appendix A.2, whose
    # 0.05 of weight decay this is); 1e-4 is what ResNets take; the paper's pre-training augmentation (section 3.1).
    "modern": TuneSettings(
        epochs=20, optimiser="adamw", learning_rate=1e-4, head_factor=10.0, weight_decay=0.05, warmup_epochs=2,
        cosine=True, rotate_degrees=10.0, flip_probability=0.5,
    ),
}  # fmt: skip


def tune_settings(config: Mapping[str, Any]) -> tuple[str, TuneSettings]:
    """The `fine_tune` section of a config: a `preset`, and what is to differ from it.

    Returns:
        The preset's name and the settings.

    Raises:
        CxrPairError: an unknown preset or setting, or a value out of range, by name.
    """
    changes = dict(config)
    preset = changes.pop("preset", "modern")
    if preset not in PRESETS:
        raise CxrPairError(f"fine_tune#preset is {preset!r}: use {' or '.join(PRESETS)}")
    known = [field.name for field in fields(TuneSettings)]
    for name in changes:
        if name not in known:
            raise CxrPairError(f"fine_tune#{name} is unknown: there are preset, {', '.join(known)}")
    floats = {name for name, kind in get_type_hints(TuneSettings).items() if kind is float}
    # A command line gives 1e-4 as text.
    values = {name: _number(value) if name in floats else value for name, value in changes.items()}
    return preset, replace(PRESETS[preset], **values)


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
