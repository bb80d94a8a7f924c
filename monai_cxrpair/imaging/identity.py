"""What makes a cached radiograph the same: its file, its preprocessing, and the versions of the software.

The keys are hashes under a secret of the cache folder, so that a file name, which may hold a patient's name, cannot be
guessed from them.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import os
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose

from monai_cxrpair import __version__
from monai_cxrpair.errors import CxrPairError

PLAIN = (type(None), bool, int, float, complex, str, bytes)


def radiograph_keys(
    paths: Sequence[str], frames: Sequence[object], *, preprocessing: str, secret: bytes
) -> list[bytes | None]:
    """The key of each radiograph, 16 bytes; None where its file is not there.

    Args:
        paths: of the files, or of files in archives.
        frames: of the cohort; the same path may hold several radiographs.
        preprocessing: see `describe`.
        secret: of the cache folder.
    """
    base = hashlib.blake2b(f"{__version__}\0{preprocessing}\0".encode(), key=secret, digest_size=16)
    resolve = functools.cache(os.path.realpath)  # of a folder: it looks at every part of the path
    keys: list[bytes | None] = []
    for path, frame in zip(paths, frames, strict=True):
        status = _status(path)
        if status is None:
            keys.append(None)
            continue
        folder, name = os.path.split(path)
        hashed = base.copy()
        text = f"{resolve(folder)}\0{name}\0{status.st_size}\0{status.st_mtime_ns}\0{frame}"
        hashed.update(text.encode(errors="surrogateescape"))
        keys.append(hashed.digest())
    return keys


def _status(path: str) -> os.stat_result | None:
    """Of the file, or of the archive it lies in."""
    try:
        return os.stat(path)
    except NotADirectoryError:
        return _status(os.path.dirname(path))
    except OSError:
        return None


def describe(transform: Any) -> str:
    """A preprocessing as text: class names, arguments, and versions of the libraries they are from.

    Raises:
        CxrPairError: the text would not tell two of them apart (a lambda), or the preprocessing is random.
    """
    if isinstance(transform, PLAIN):
        return repr(transform)
    if isinstance(transform, (list, tuple)):
        return "[" + ", ".join(map(describe, transform)) + "]"
    if isinstance(transform, (set, frozenset)):
        return "{" + ", ".join(sorted(map(describe, transform))) + "}"
    if isinstance(transform, Mapping):
        return "{" + ", ".join(f"{describe(k)}: {describe(v)}" for k, v in transform.items()) + "}"
    if isinstance(transform, torch.Tensor):
        transform = transform.detach().cpu().numpy()
    if isinstance(transform, np.ndarray) and transform.dtype != object:
        digest = hashlib.sha256(transform.tobytes()).hexdigest()
        return f"array({transform.dtype}, {transform.shape}, {digest})"
    if isinstance(transform, (np.generic, np.dtype, torch.dtype, torch.device, enum.Enum, os.PathLike)):
        return f"{type(transform).__name__}({transform})"
    if isinstance(transform, functools.partial):
        return describe([transform.func, transform.args, transform.keywords])
    named = isinstance(transform, (type, types.FunctionType, types.BuiltinFunctionType, np.ufunc))
    kind = transform if named else type(transform)
    module, name = getattr(kind, "__module__", None) or "", getattr(kind, "__qualname__", kind.__name__)
    if "<" in name or not (named or hasattr(transform, "__dict__")):
        raise CxrPairError(
            f"cache_dir: the preprocessing holds {name}, which cannot be told from another one: use transforms and "
            "functions that have a name in a module, or set cache_dir null"
        )
    library = sys.modules.get(module.partition(".")[0])
    text = f"{module}.{name}@{getattr(library, '__version__', '')}"
    if named:
        return text
    random = [n for n, value in vars(transform).items() if isinstance(value, np.random.RandomState)]
    if random and not isinstance(transform, Compose):
        raise CxrPairError(f"cache_dir: the preprocessing holds {name}, which is random: random transforms of views "
                           "belong into `augmentation`")  # fmt: skip
    return text + describe({n: value for n, value in sorted(vars(transform).items()) if n not in random})
