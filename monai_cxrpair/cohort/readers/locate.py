"""Where the images of a published data set lie: as it is distributed, or as somebody has put or converted them."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd


def locate(
    expected: pd.Series, root: Path, *, folders: Sequence[str] = (), names: pd.Series | None = None
) -> pd.Series:
    """Find the images of a table.

    Nothing is looked up where the first one lies where it is expected. Otherwise the folders are listed once, and an
    image is known by its file name without the suffix: DICOM and 16-bit PNG are often converted.

    Args:
        expected: Paths of the distribution, relative to `root`.
        root: The folder with the images.
        folders: Glob patterns of folders beneath the root; the root itself is the first.
        names: Further file names, without suffix, by which an image may be known.

    Returns:
        The paths; the expected one where an image is in none of the folders.
    """
    if not len(expected) or os.path.exists(root / expected.iloc[0]):
        return expected
    found: dict[str, str] = {}
    for folder in [root, *(entry for pattern in folders for entry in sorted(root.glob(pattern)) if entry.is_dir())]:
        for entry in sorted(folder.iterdir()):
            if entry.suffix and not entry.is_dir():
                found.setdefault(entry.stem, entry.relative_to(root).as_posix())
    if not found:
        return expected
    located = expected.map(lambda path: found.get(PurePosixPath(path).stem))
    if names is not None:
        located = located.fillna(names.map(found))
    return located.fillna(expected).astype("str")
