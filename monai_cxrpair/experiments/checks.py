"""What may stand in an experiment file, said in one line where it may not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from monai_cxrpair.errors import CxrPairError

MAX_DEPTH, MAX_VALUES = 100, 100_000
# What the sweep itself sets, and what says so instead.
MANAGED = {
    "cohort_file": "--cohort",
    "output_dir": "--out",
    "seed": "--seeds",
    "resume": "nothing: a sweep always goes on where it was",
    "encoder_file": "the rows",
}


def load_yaml(path: Path) -> dict[str, Any]:
    """The content of a YAML file, which must be `key: value` lines.

    Raises:
        CxrPairError: it cannot be read, or is something else.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CxrPairError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CxrPairError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise CxrPairError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def parse_yaml(text: str) -> Any:
    """Plain YAML; nothing in it is evaluated.

    Raises:
        ValueError: it is none, or nested or repeated beyond all use.
    """
    depth = 0
    for mark in re.findall(r"[\[\]{}]", text):  # the scanner takes the square of it in time
        depth += 1 if mark in "[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"brackets are nested more than {MAX_DEPTH} deep")
    try:
        content = yaml.safe_load(text)
    except Exception as error:  # not only YAMLError: dates and numbers that cannot be, nesting without end
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    _written_out(content, {})
    return content


def _written_out(content: Any, known: dict[int, int]) -> int:
    """How many values it has when all aliases are written out: nine lines of nine aliases make 400 million."""
    if not isinstance(content, (dict, list)):
        return 1
    if id(content) not in known:
        known[id(content)] = MAX_VALUES  # what holds itself is without end
        parts = content if isinstance(content, list) else content.values()
        known[id(content)] = 1 + sum(_written_out(part, known) for part in parts)
    if known[id(content)] > MAX_VALUES:
        raise ValueError(f"its aliases make more than {MAX_VALUES} values")
    return known[id(content)]


def check_settings(settings: Mapping[str, Any], known: set[str], where: str, config: str) -> None:
    """Settings must be ones that the bundle's config has and that are not the sweep's own.

    Raises:
        CxrPairError: names `where`, the key and the nearest known one.
    """
    for key in settings:
        top = str(key).partition("#")[0].partition("::")[0]  # YAML has keys that are no text
        if top in MANAGED:
            raise CxrPairError(f"{where}: {key} is set by the sweep (use {MANAGED[top]})")
        if top not in known:
            near = difflib.get_close_matches(top, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise CxrPairError(f"{where}: {key} is not a setting of {config}{hint}")


def check_keys(content: Mapping[str, Any], known: set[str], where: str) -> None:
    """The keys of a section must be known ones.

    Raises:
        CxrPairError: names `where` and the key.
    """
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"
            raise CxrPairError(f"{where}: unknown key {key!r}{hint}")


def mapping(content: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    """A section of settings; empty where it is absent.

    Raises:
        CxrPairError: it is no mapping.
    """
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise CxrPairError(f"{path}: `{key}` must be `setting: value` pairs, not {value!r}")
    return dict(value)


def several(value: Any) -> list[Any]:
    """One value or a list of them, as a list."""
    return list(value) if isinstance(value, list) else [value]
