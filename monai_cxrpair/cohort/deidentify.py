"""Take the patient out of the table: keyed hashes for ids, shifted dates, capped ages, and nothing else kept.

The hashes are HMAC-SHA256 under a key that stays with the owner of the data: without it, nobody can find out by
trying whether a known patient is in the cohort. The same key gives the same ids, so that a grown export keeps them.
"""

import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort.files import write_csv
from monai_cxrpair.errors import CxrPairError

OLDEST_SHOWN = 90  # ages above 89 are identifying (HIPAA Safe Harbor, 45 CFR 164.514(b)(2)(i)(C)): all become 90
_HEX = 16  # 64 bits: a collision among 10 million images has a chance of 3 in a million, and would be an error
_KEY_BYTES = 32
_FURTHEST = 3650  # days


def load_key(path: Path) -> bytes:
    """Read the key of a cohort, or make one that only the owner can read.

    Args:
        path: `<out stem>.key`.

    Returns:
        The key.

    Raises:
        CxrPairError: The file cannot be read or written, or holds no key.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_key(path)
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise CxrPairError(f"the key {path} cannot be used: {getattr(error, 'strerror', None) or error}") from error
    if len(key) < _KEY_BYTES:
        raise CxrPairError(f"the key {path} is too short: {_KEY_BYTES} bytes in hexadecimal digits are expected")
    if path.stat().st_mode & 0o077:
        raise CxrPairError(f"the key {path} can be read by others: chmod 600 {path}")
    return key


def _make_key(path: Path) -> None:
    """Write a new key whole or not at all; where another process is first, its key stays."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _digest(key: bytes, kind: str, value: str) -> bytes:
    return hmac.new(key, f"{kind}\0{value}".encode(), hashlib.sha256).digest()


def pseudonyms(values: pd.Series, kind: str, key: bytes) -> pd.Series:
    """Hash identifiers.

    Args:
        values: Identifiers.
        kind: `patient`, `study` or `image`: equal texts of different kinds get different hashes.
        key: The key.

    Returns:
        16 hexadecimal digits each.

    Raises:
        CxrPairError: Two identifiers got the same hash.
    """
    table = {value: _digest(key, kind, value).hex()[:_HEX] for value in values.unique()}
    if len(set(table.values())) < len(table):
        raise CxrPairError(f"two {kind} ids have the same hash: index again with a new key")
    return values.map(table).astype("str")


def day_shift(patient: str, key: bytes) -> int:
    """Return the days by which all dates of a patient move into the past: 1 to 3650, never 0."""
    return -1 - int.from_bytes(_digest(key, "shift", patient)[:8], "big") % _FURTHEST


def without_identifiers(table: pd.DataFrame, key: bytes) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Replace the identifiers of a table.

    Args:
        table: `image_id`, `patient_id`, `study_id`, `study_order`, `study_datetime`, `age`, `path` and more. The
            rank of a study must be there already: the order of hashes means nothing.
        key: The key.

    Returns:
        The table, and the owner's mapping: new and original ids, path, and days of the shift, one row per image.
    """
    table = table.copy()
    mapping = pd.DataFrame(index=table.index)
    for name, kind in (("image_id", "image"), ("patient_id", "patient"), ("study_id", "study")):
        mapping[name] = pseudonyms(table[name], kind, key)
        mapping[f"original_{name}"] = table[name]
    mapping["path"] = table["path"]
    shifts = {patient: day_shift(patient, key) for patient in table["patient_id"].unique()}
    mapping["shift_days"] = table["patient_id"].map(shifts)
    table["study_datetime"] = table["study_datetime"] + pd.to_timedelta(mapping["shift_days"], unit="D")
    for name in ("image_id", "patient_id", "study_id"):
        table[name] = mapping[name]
    table["age"] = table["age"].mask(table["age"] > OLDEST_SHOWN - 1, OLDEST_SHOWN)
    return table, mapping


def write_mapping(mapping: pd.DataFrame, path: Path) -> None:
    """Write the owner's mapping, readable by the owner only."""
    write_csv(mapping, path)
