"""Indexing an export again: has anything changed at all since the last time?"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_cxrpair.cohort.dicom.state import State, StateFile
from monai_cxrpair.cohort.dicom.walk import is_unchanged


def unchanged_since(
    state_file: StateFile, options: str, outputs: Sequence[Path], *, root: Path
) -> dict[str, Any] | None:
    """Return what the last index step said, where doing it again would give the same.

    Args:
        state_file: The state.
        options: `options_digest` of all that the result depends on beside the files of the export.
        outputs: The files that the last step wrote; they must be as it left them.
        root: The folder of the export.
    """
    state = state_file.read(rows=False)
    if state is None or not state.about or state.about["options"] != options:
        return None
    if state.about["outputs"] != [_identity(path) for path in outputs] or not is_unchanged(state.listing, root=root):
        return None
    said: dict[str, Any] = state.about["said"]
    return said


def remember(
    state_file: StateFile, state: State, options: str, outputs: Sequence[Path], said: Mapping[str, Any]
) -> None:
    """Note in the state that the step was finished, with what it said."""
    state.about = {
        "options": options,
        "outputs": [_identity(path) for path in outputs],
        "said": said,
    }
    state_file.write(state)


def options_digest(options: Mapping[str, Any]) -> str:
    """Hash options, before any file that they name is read: one that changes meanwhile is then read again next time.

    Args:
        options: Name -> value. A `Path` counts as the file that it names from the current folder, with its size and
            time; a function by its name.
    """
    return hashlib.sha256(json.dumps({name: _text(value) for name, value in options.items()}).encode()).hexdigest()


def _text(value: Any) -> list[Any]:
    if isinstance(value, Path):
        return [str(value.absolute()), *_identity(value)]
    if callable(value):
        return [getattr(value, "__module__", ""), getattr(value, "__qualname__", type(value).__qualname__)]
    return [repr(value)]


def _identity(path: Path) -> list[int]:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return []
    return [found.st_size, found.st_mtime_ns] if path.is_file() else []
