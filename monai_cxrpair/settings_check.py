"""What the settings of a bundle config may be: looked at before anything is made of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from monai_cxrpair.errors import CxrPairError

# YAML 1.1 reads 1e-4 as text: it wants a point before the e, and a sign after it.
EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")
WORDS = {"true": True, "false": False, "null": None}
MAX_SEED = 2**32 - 1  # of MONAI's and NumPy's generators
MOCO = "monai_cxrpair.contrast.MoCo"
OF_MOCO = ("queue_size", "bn_groups")  # null with methods that have no queue


class Kind(NamedTuple):
    """What a setting may be: a sentence for the user, and the test."""

    use: str
    fits: Callable[[Any], bool]


def _number(value: Any, low: float, high: float = math.inf) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _whole(low: int, high: int | None = None) -> Kind:
    use = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    return Kind(use, lambda value: isinstance(value, int) and _number(value, low, high or math.inf))


def _one_of(*values: str | bool) -> Kind:
    names = [str(value).lower() if isinstance(value, bool) else value for value in values]
    use = " or ".join([", ".join(names[:-1]), names[-1]])
    return Kind(use, lambda value: isinstance(value, (str, bool)) and value in values)


def _or_null(kind: Kind) -> Kind:
    return Kind(f"{kind.use}, or null", lambda value: value is None or kind.fits(value))


def _or_auto(kind: Kind) -> Kind:
    return Kind(f"auto, or {kind.use}", lambda value: value == "auto" or kind.fits(value))


def _is_normalisation(value: Any) -> bool:
    if not isinstance(value, list):
        return bool(value == "auto")
    return len(value) == 2 and _number(value[0], 0, 1) and _number(value[1], 0, 1) and value[1] > 0


def _is_device(value: Any) -> bool:
    try:
        torch.empty(0, device=value)
    except (RuntimeError, TypeError, AssertionError):  # the last: torch was built without it
        return False
    return isinstance(value, (str, torch.device))


TEXT = Kind("text", lambda value: isinstance(value, str) and bool(value))
MAYBE_TEXT = Kind("text, or null", lambda value: value is None or isinstance(value, str))
TRUE_OR_FALSE = Kind("true or false", lambda value: isinstance(value, bool))
POSITIVE = Kind("a number above 0", lambda value: _number(value, 0) and 0 < value < math.inf)
NOT_NEGATIVE = Kind("a number of at least 0", lambda value: _number(value, 0) and value < math.inf)
SHARE = Kind("a number from 0 to 1", lambda value: _number(value, 0, 1))
SHARE_BELOW_1 = Kind("a number of at least 0 and below 1", lambda value: _number(value, 0) and value < 1)
SECTION = Kind("settings such as {name: value}", lambda value: isinstance(value, Mapping))
FRACTIONS = Kind(
    "a number above 0, at most 1, or a list of them",
    lambda value: all(_number(v, 0, 1) and v > 0 for v in (value if isinstance(value, list) and value else [value])),
)
CHANNELS = Kind("1, or 3 to repeat the grey radiograph", lambda v: _whole(1).fits(v) and v in (1, 3))
DEFINITION = Kind("a name, or {_target_: package.Class, argument: value}", lambda v: isinstance(v, (str, Mapping)))

SETTINGS = {
    "cohort_file": MAYBE_TEXT, "dataset_dir": MAYBE_TEXT, "model_file": TEXT, "subset": MAYBE_TEXT,
    "output_dir": Kind("the name of a folder", TEXT.fits),
    "pairing": _or_null(SECTION), "affinity": _or_null(SECTION), "negatives": _or_null(SECTION),
    "augmentation": SECTION, "subgroups": _or_null(SECTION),
    "image_size": _whole(1), "batch_size": _whole(1), "max_epochs": _whole(1), "learning_rate": POSITIVE,
    "encoder": _or_null(DEFINITION), "in_channels": CHANNELS,
    "imagenet_weights": MAYBE_TEXT,
    "normalisation": Kind(
        "auto, or [mean, standard deviation] of pixels in [0, 1], the second above 0", _is_normalisation
    ),
    "queue_size": _or_auto(_whole(1)), "keys_per_query": _whole(1), "bn_groups": _whole(1),
    "precision": _one_of("auto", "bf16", "fp16", "fp32"),
    "accumulation_steps": _whole(1), "clip_grad_norm": _or_null(POSITIVE),
    "test_fraction": SHARE_BELOW_1, "validation_fraction": SHARE_BELOW_1, "split_file": MAYBE_TEXT,
    "split_seed": _whole(0, MAX_SEED), "seed": _whole(0, MAX_SEED),
    "knn_finding": MAYBE_TEXT, "knn_every": _whole(1), "knn_neighbours": _whole(1),
    "knn_temperature": _or_null(POSITIVE),
    "overlay_dir": MAYBE_TEXT, "dicom_dir": MAYBE_TEXT, "dicom_overlays": TRUE_OR_FALSE,
    "num_workers": _whole(0), "cache_dir": MAYBE_TEXT, "max_unreadable": SHARE,
    "resume": _one_of("auto", True, False), "checkpoint_minutes": NOT_NEGATIVE,
    "show_radiographs": TRUE_OR_FALSE, "calibrate": TRUE_OR_FALSE,
    "device": Kind("a device that this machine has, such as cpu or cuda", _is_device),
    "compile": TRUE_OR_FALSE, "deterministic": TRUE_OR_FALSE, "views_on": _one_of("auto", "cpu", "device"),
    "finding": TEXT, "label_fraction": _or_null(FRACTIONS),
    "draws": _whole(1),
    "network_def#dim": _whole(1), "network_def#momentum": SHARE_BELOW_1, "network_def#temperature": POSITIVE,
    "network_def#symmetric": TRUE_OR_FALSE, "network_def#variance_weight": NOT_NEGATIVE,
}  # fmt: skip


def check_settings(config: Mapping[str, Any]) -> None:
    """Refuse the values that a setting cannot have; references and expressions are left to what they yield.

    Raises:
        CxrPairError: names the setting, its value, and what to use.
    """
    if "base" in config and "rows" in config:
        raise CxrPairError("--config_file: a file of configs/experiments lists runs; give train.yaml its overlays")
    for section in ("train", "validate", "network_def", "optimizer", "lr_scheduler"):
        if not isinstance(config.get(section, {}), Mapping) and not _expressions(config[section]):
            raise CxrPairError(
                f"{section} is {config[section]!r}: this section cannot be replaced by a value; change a part of it, "
                f"{section}#NAME"
            )
    network = config.get("network_def")
    method = network.get("_target_") if isinstance(network, Mapping) else None
    settings = dict(config)
    if isinstance(network, Mapping) and str(method).startswith("monai_cxrpair."):  # the user's own has its own settings
        settings |= {f"network_def#{name}": value for name, value in network.items()}
    for key in (key for key in SETTINGS if key in settings):  # in a fixed order
        value, kind = settings[key], SETTINGS[key]
        if value is None and key in OF_MOCO and method != MOCO:
            continue
        if not kind.fits(value) and not _expressions(value):
            raise CxrPairError(f"{key} is {value!r}: use {kind.use}")


def meant(config: Mapping[str, Any]) -> dict[str, bool | float | None]:
    """Settings whose text is `true`, `false`, `null` or a number such as `1e-4`, with what they mean.

    The command line passes the words as text, unlike a config file, and the text "false" would count as true; a config
    file passes the numbers as text. Settings that want text keep it, the words apart.
    """
    found: dict[str, bool | float | None] = {}
    for key, value in _texts(config):
        kind = SETTINGS.get(key)
        if value.lower() in WORDS:
            found[key] = WORDS[value.lower()]
        elif EXPONENT.fullmatch(value) and not (kind and kind.fits(value)):
            found[key] = float(value)
    return found


def _expressions(part: Any) -> bool:
    return any(text.startswith(("$", "@", "%")) for _, text in _texts(part))


def _texts(part: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a config with its place, `section#list#0`."""
    if isinstance(part, str):
        yield place, part
    elif isinstance(part, (Mapping, list)):
        for name, value in part.items() if isinstance(part, Mapping) else enumerate(part):
            yield from _texts(value, f"{place}#{name}" if place else str(name))
