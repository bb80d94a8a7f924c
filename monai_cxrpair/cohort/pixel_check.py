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
            yield pd.DataFrame(found, index=range(number - len(found), number), columns=CHECKED.names)
            found = []


def _check(check: PixelCheck, path: Path) -> dict[str, Any]:
    try:
        return {"decodable": True, **check(path)}
    except CxrPairError:
        return {"decodable": False}


def leave_out_checked(reading: Reading) -> None:
    """Leave out what cannot be decoded, and all but the first of the same pixels; `CHECKED` must be filled."""
    reading.leave_out(~reading.table["decodable"].astype(bool), Reason.UNDECODABLE)
    reading.leave_out(reading.table["pixel_hash"].duplicated(), Reason.DUPLICATE)
    reading.table = reading.table.drop(columns="decodable")
