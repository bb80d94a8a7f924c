"""What may stand in an experiment file, said in one line where it may not."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from monai_cxrpair.errors import CxrPairError

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
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CxrPairError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CxrPairError(f"{path} is not YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(content, dict):
        raise CxrPairError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def check_settings(settings: Mapping[str, Any], known: set[str], where: str, config: str) -> None:
    """Settings must be ones that the bundle's config has and that are not the sweep's own.

    Raises:
        CxrPairError: names `where`, the key and the nearest known one.
    """
    for key in settings:
        top = key.partition("#")[0].partition("::")[0]
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
