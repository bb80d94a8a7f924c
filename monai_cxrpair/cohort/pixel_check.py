"""`--check-pixels`: can the pixels be decoded, and is the same image there twice?

How pixels are read is not this room's business: the check is handed over by the command line.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from monai_cxrpair.cohort.processes import Progress, in_processes
from monai_cxrpair.cohort.reading import Reading
from monai_cxrpair.cohort.rejects import Reason
from monai_cxrpair.errors import CxrPairError

# Reads the pixels of a file and returns the columns `CHECKED`; raises CxrPairError where they cannot be decoded.
PixelCheck = Callable[[Path], Mapping[str, str | float]]
CHECKED = pa.schema(
    [
        ("decodable", pa.bool_()),  # missing: not checked yet
        *((name, pa.string()) for name in ("pixel_hash", "perceptual_hash", "scaling")),
        ("exposed_fraction", pa.float64()),
    ]
)
_PORTION = 1024
_FEW = 16


def check_all(
    paths: Sequence[Path], check: PixelCheck, *, workers: int | None, progress: Progress | None
) -> Iterator[pd.DataFrame]:
    """Check files, a portion at a time.

    Args:
        paths: The files.
        check: The check; can be pickled.
        workers: Processes; None for one per core.
        progress: Called with the files done and all files.

    Yields:
        The columns `CHECKED`; the index holds positions in `paths`.
    """
    found: list[dict[str, Any]] = []
    for number, result in enumerate(in_processes(partial(_check, check), paths, workers=workers, few=_FEW), 1):
        found.append(result)
        if progress is not None:
            progress(number, len(paths))
        if len(found) == _PORTION or number == len(paths):
            # Of the schema's types, also where all values of a column are missing.
            portion: pd.DataFrame = pa.Table.from_pylist(found, schema=CHECKED).to_pandas()
            yield portion.set_axis(range(number - len(found), number))
            found = []


def _check(check: PixelCheck, path: Path) -> dict[str, Any]:
    try:
        return {"decodable": True, **check(path)}
    except CxrPairError as error:
        cause = error.__cause__
        # What the system refuses (network, memory, disk) is no property of the file: it is tried again the next time.
        for_now = isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno is not None)
        return {} if for_now else {"decodable": False}


def leave_out_checked(reading: Reading) -> None:
    """Leave out what cannot be decoded, and all but the first of the same pixels; `CHECKED` must be filled."""
    reading.leave_out(~reading.table["decodable"].astype(bool), Reason.UNDECODABLE)
    reading.leave_out(reading.table["pixel_hash"].duplicated(), Reason.DUPLICATE)
    reading.table = reading.table.drop(columns="decodable")
