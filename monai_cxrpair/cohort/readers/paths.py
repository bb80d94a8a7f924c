"""Paths as tables write them, made relative to the root."""

import posixpath
import re
from pathlib import Path

import pandas as pd

from monai_cxrpair.errors import CxrPairError


def relative_paths(texts: pd.Series, root: Path) -> pd.Series:
    r"""Make the paths of a table relative to the root.

    Args:
        texts: Paths with `/` or with `\`, relative to the root or absolute beneath it.
        root: The folder with the images.

    Returns:
        Paths with `/`; empty where a path is empty or leads out of the root.

    Raises:
        CxrPairError: All paths are absolute and none lies beneath the root.
    """
    paths = texts.str.strip().str.replace("\\", "/", regex=False)
    absolute = paths.str.startswith("/")
    if absolute.any():
        prefix = root.absolute().as_posix().rstrip("/") + "/"
        beneath = paths.str.startswith(prefix)
        if absolute.all() and not beneath.any():
            raise CxrPairError(
                f"the paths of the table are absolute and not beneath {root}: give --root (/ fits always)"
            )
        paths = paths.mask(beneath, paths.str.slice(len(prefix)))
        paths = paths.mask(paths.str.startswith("/"), "")
    untidy = paths.str.contains(r"(?:^|/)\.{0,2}(?:/|$)", regex=True) & (paths != "")
    if untidy.any():
        paths = paths.mask(untidy, paths.where(untidy, "x").map(posixpath.normpath))
    return paths.mask(paths.isin(["."]) | paths.str.startswith(".."), "")


def strip_leading_folder(paths: pd.Series, root: Path) -> pd.Series:
    """Drop the leading folder that all paths share where the root is that folder.

    Published tables name their own folder (`CheXpert-v1.0-small/train/...`) and lie inside of it. It is dropped when
    the root has that name, or when the first file is found without it and not with it.
    """
    first = str(paths.iloc[0])
    leading, slash, rest = first.partition("/")
    if not slash or not paths.str.startswith(leading + "/").all():
        return paths
    with_it, without = (root / first).exists(), (root / rest).exists()
    if with_it or not (without or root.absolute().name == leading):
        return paths
    return paths.str.slice(len(leading) + 1)


def names_patient(path: str, patient_id: str, patient_name: str = "") -> bool:
    """Say whether a path holds the patient's id or a part of the name."""
    words = {word for word in re.split(r"[\W_]+", path.casefold()) if word}
    parts = {part for part in re.split(r"[\W_]+", patient_name.casefold()) if len(part) > 1}
    folded = patient_id.casefold()
    return bool(words & parts) or folded in words or (len(folded) > 3 and folded in path.casefold())
