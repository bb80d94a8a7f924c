"""What an index step knows about the files of an export, so that the next one reads only what is new.

The state holds identifiers as they stand in the headers and is for the owner of the data only, like key and mapping.
It is three Arrow tables in one file: the files with size and time, the folders with their times, the rows.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pydicom

import monai_cxrpair
from monai_cxrpair.cohort.dicom.rows import SCHEMA
from monai_cxrpair.cohort.dicom.walk import UNTRUSTED, Listing
from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.cohort.pixel_check import CHECKED

_METADATA = b"cxrpair-state"
ROWS = pa.schema([*SCHEMA, *CHECKED])


@dataclass(kw_only=True)
class State:
    """Files of an export and their rows.

    Attributes:
        listing: The files and folders.
        rows: Columns `ROWS`; files without a row have not been read yet.
        about: Of an index step that was finished: its options, its outputs and what it said; else empty.
    """

    listing: Listing
    rows: pa.Table
    about: dict[str, Any] = field(default_factory=dict)

    def has_all(self, *, checked: bool) -> bool:
        """Say whether every file could be opened, and, where pixels are checked, those of every radiograph."""
        if pc.any(self.rows["_again"]).as_py():
            return False
        open_ = pc.and_(pc.is_null(self.rows["reason"]), pc.is_null(self.rows["decodable"]))
        return not (checked and pc.any(open_).as_py())


class StateFile:
    """`<out stem>.state`."""

    def __init__(self, path: Path, *, root: Path) -> None:
        self.path = path
        self._root = str(root.absolute())

    def read(self, *, rows: bool = True) -> State | None:
        """Read the state; None where there is none, or none that is of use (it is made anew then).

        Args:
            rows: False leaves out the rows, which are most of it.
        """
        try:
            with pa.memory_map(str(self.path)) as file:
                with pa.ipc.open_stream(file) as stream:
                    metadata = json.loads(stream.schema.metadata[_METADATA])
                    if (metadata["format"], metadata["root"]) != (_format(), self._root):
                        return None
                    files = stream.read_all()
                with pa.ipc.open_stream(file) as stream:
                    folders = stream.read_all()
                table = ROWS.empty_table()
                if rows:
                    with pa.ipc.open_stream(file) as stream:
                        table = stream.read_all().cast(ROWS)
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            return None
        listing = Listing(
            files=files["name"].to_pylist(),
            sizes=files["size"].to_numpy(),
            times=files["time"].to_numpy(),
            folders=folders["name"].to_pylist(),
            folder_times=folders["time"].to_numpy(),
        )
        return State(listing=listing, rows=table, about=metadata["about"])

    def write(self, state: State) -> None:
        """Write the state at once or not at all, for the owner only."""
        files = pa.table({"name": state.listing.files, "size": state.listing.sizes, "time": state.listing.times})
        folders = pa.table({"name": pa.array(state.listing.folders, pa.string()), "time": state.listing.folder_times})
        metadata = {"format": _format(), "root": self._root, "about": state.about}
        files = files.replace_schema_metadata({_METADATA: json.dumps(metadata).encode()})
        with atomic_path(self.path) as temporary, pa.OSFile(str(temporary), "wb") as file:
            for table in (files, folders, state.rows):
                with pa.ipc.new_stream(file, table.schema) as stream:
                    stream.write_table(table)


@lru_cache(maxsize=1)
def _format() -> str:
    """Name layout and code: other code, also of the same version, may judge a file differently, and reads all again."""
    digest = hashlib.sha256(pydicom.__version__.encode())
    for path in sorted(Path(monai_cxrpair.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return f"1/{monai_cxrpair.__version__}/{digest.hexdigest()}"


def divide(state: State | None, listing: Listing) -> tuple[pa.Table, list[str]]:
    """Tell what is known from what is new.

    Args:
        state: What was known.
        listing: What is there now.

    Returns:
        The rows of the files that have not changed, and the files that are to be read.
    """
    if state is None or not len(state.rows):
        return ROWS.empty_table(), listing.files
    old = state.listing
    at = pd.Index(old.files).get_indexer(pd.Index(listing.files))
    same = (at >= 0) & (listing.times != UNTRUSTED)
    same &= (old.sizes[at] == listing.sizes) & (old.times[at] == listing.times)
    names = np.asarray(listing.files, dtype=object)
    owners = pc.coalesce(state.rows["file"], state.rows["path"])
    again = owners.filter(pc.fill_null(state.rows["_again"], False))
    kept = pc.is_in(owners, value_set=pa.array(names[same], pa.string()))
    kept = pc.and_(kept, pc.invert(pc.is_in(owners, value_set=again.combine_chunks())))
    known = set(owners.filter(kept).to_pylist())
    return state.rows.filter(kept), [name for name in listing.files if name not in known]


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Put rows together, in the order of their paths; columns that a table lacks are missing there."""
    table = pa.concat_tables(tables, promote_options="default").select(ROWS.names).combine_chunks()
    return table.take(pc.sort_indices(table["path"]))
