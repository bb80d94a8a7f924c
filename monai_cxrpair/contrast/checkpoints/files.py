"""The files of a run: their names, writing one so that it is whole or absent, reading one so that damage is found."""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.errors import CxrPairError


class DamagedError(CxrPairError):
    """A checkpoint that cannot be read."""


def checkpoint_name(epoch: int, batch: int) -> str:
    """Of the state after so many batches of an epoch; the order of the names is that of the training."""
    return f"epoch_{epoch:05d}_batch_{batch:06d}.pt"


def checkpoints_in(folder: Path) -> list[Path]:
    """From the oldest to the newest."""
    return sorted(folder.glob("epoch_*.pt"))


def save_atomically(state: Mapping[str, Any], path: Path) -> None:
    """`torch.save`, all or nothing.

    Raises:
        CxrPairError: it cannot be written; whatever stood there before still does.
    """
    with atomic_path(path, mode=None) as temporary, temporary.open("wb") as file:
        try:
            torch.save(dict(state), file)
        except RuntimeError as error:  # torch puts words of its own around what went wrong with the file
            reason = error.__context__
            raise reason if isinstance(reason, OSError) else OSError(errno.EIO, str(error)) from error


def move_aside(path: Path) -> Path:
    """Rename what an earlier run has left, to `name.1.suffix` or the next free number, and give the new path.

    Raises:
        CxrPairError: it cannot be renamed.
    """
    number = 1
    while (aside := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return rename(path, aside)


def rename(path: Path, new: Path) -> Path:
    """Give a file or folder another name, and return that.

    Raises:
        CxrPairError: it cannot be renamed.
    """
    try:
        return path.rename(new)
    except OSError as error:
        raise CxrPairError(f"cannot rename {path} to {new.name}: {error.strerror or error}") from error


def remove_leftovers(folder: Path, name: str) -> None:
    """Delete what runs that were killed while writing `name` (a pattern) have left of it."""
    for temporary in folder.glob(f".{name}.*.tmp"):
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint, nothing unpickled but tensors and plain values.

    Raises:
        DamagedError: it cannot be read, or its checksums do not agree with what is in it.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at the checksums that it writes
            damaged = archive.testzip()
        if damaged:
            raise DamagedError(f"{path}: damaged: the checksum of {damaged} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise DamagedError(f"{path}: damaged: it holds a {type(state).__name__}")
        return state
    except (CxrPairError, MemoryError):
        raise
    except Exception as error:  # torch and zipfile raise many types for damaged files
        raise DamagedError(f"{path}: damaged: {' '.join(str(error).split())[:200]}") from error


def size_of(state: Any) -> int:
    """Bytes of all tensors in nested mappings and sequences."""
    if isinstance(state, Mapping):
        return sum(map(size_of, state.values()))
    if isinstance(state, (list, tuple)):
        return sum(map(size_of, state))
    return state.nbytes if isinstance(state, torch.Tensor) else 0
