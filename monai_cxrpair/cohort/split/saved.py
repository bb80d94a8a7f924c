"""The split as a file: who is on which side, how it came about, and a hash that shows whether it was changed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.cohort.split.draws import SavedDraws
from monai_cxrpair.cohort.split.near_duplicates import hash_digest
from monai_cxrpair.cohort.split.split import SIDES, Split, split_of, split_patients
from monai_cxrpair.errors import CxrPairError

FORMAT = "cxrpair-split/1"


def content_hash(content: Mapping[str, Any]) -> str:
    """SHA-256 over everything but the hash itself, whatever the spaces and the order of the keys."""
    kept = {key: value for key, value in content.items() if key != "hash"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_split(content: Mapping[str, Any], path: Path) -> None:
    """Write a split file at once or not at all, readable by its owner only: it holds the ids of the patients.

    Raises:
        CxrPairError: The file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_split(path: str | Path, cohort: Cohort) -> Split:
    """Read a split file and apply it to the cohort that it was made for.

    Args:
        path: A file that `write_split` wrote.
        cohort: The whole cohort; for a part of it take `within` of the result.

    Returns:
        The split, with the label draws of the file.

    Raises:
        CxrPairError: The file is no split, was changed, overlaps, or was made for another cohort.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CxrPairError(f"no split file {path}: write one with `cxrpair split`") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CxrPairError(f"{path} cannot be read as a split file") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CxrPairError(f"{path} is not a split file of the form {FORMAT}: write one with `cxrpair split`")
    try:
        return _split_of_content(content, cohort, path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # its hash is right, and yet it is none
        raise CxrPairError(f"{path} lacks what a split file has: write it again with `cxrpair split`") from error


def _split_of_content(content: Mapping[str, Any], cohort: Cohort, path: str | Path) -> Split:
    if content.get("hash") != content_hash(content):
        raise CxrPairError(f"{path} was changed after it was written (its hash differs): write it again")
    if content["cohort"]["fingerprint"] != cohort.fingerprint():
        made = content["cohort"]
        raise CxrPairError(
            f"{path} was made for another cohort ({made['radiographs']} radiographs of {made['patients']} patients): "
            "write one for this cohort with `cxrpair split`"
        )
    if content["near_duplicates"]["digest"] != hash_digest(cohort):
        raise CxrPairError(f"{path} was made with other perceptual hashes than the cohort has now: write it again")
    return split_of(
        cohort,
        {side: tuple(content["patients"][side]) for side in SIDES},
        left_out=tuple(content["left_out"]),
        file_hash=str(content["hash"]),
        near_duplicates=str(content["near_duplicates"]["digest"]),
        label_draws=tuple(
            SavedDraws(**{**drawn, "image_ids": tuple(tuple(ids) for ids in drawn["image_ids"])})
            for drawn in content["label_draws"]
        ),
    )


def open_split(cohort: Cohort, *, split_file: str | Path | None, test_fraction: float, seed: int) -> Split:
    """Return the split of a run: of the split file where there is one, else by `split_patients`.

    Args:
        cohort: The whole cohort.
        split_file: A file that `cxrpair split` wrote, or None.
        test_fraction: Only without a file.
        seed: Only without a file.

    Returns:
        The split of the whole cohort.

    Raises:
        CxrPairError: The file is not for this cohort (`read_split`), or a side gets no patient (`split_patients`).
    """
    if split_file:
        return read_split(split_file, cohort)
    return split_patients(cohort, test_fraction=test_fraction, seed=seed)
