"""Mutations of parquet."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from mutate_raw import cut
from mutate_text import WORDS, json_text


def parquet(data: bytes, rng: Random) -> bytes:
    """Types and values of the columns, what the file says of itself; or its bytes, mostly those of the footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if rng.random() < 0.5:
        (footer,) = struct.unpack("<L", data[-8:-4])
        at = max(len(data) - 8 - rng.randrange(footer + 8), 0) if rng.random() < 0.7 else rng.randrange(len(data))
        piece = rng.choice((bytes([rng.randrange(256)]), b"\xff\xff\xff\xff\x0f", b"\0", rng.randbytes(4)))
        changed = data[:at] + piece + data[at + len(piece) * rng.choice((0, 1, 1, 1)) :]
        return changed if rng.random() < 0.8 else cut(data, rng)
    table = pq.read_table(io.BytesIO(data))
    metadata = dict(table.schema.metadata or {})
    for _ in range(rng.choice((1, 1, 2))):
        at, what = rng.randrange(table.num_columns), rng.randrange(7)
        name, rows = table.column_names[at], table.num_rows
        if what <= 2:
            made = rng.choice(_COLUMNS)(rows, rng, pa)
            table = table.set_column(at, name, made)
        elif what == 3:
            table = table.remove_column(at)
        elif what == 4:
            table = table.append_column(rng.choice((name, "x", "", "pleural_effusion")), table.column(at))
        elif what == 5:
            table = (
                pa.concat_tables([table, table.slice(0, rng.choice((0, 1)))])
                if rng.random() < 0.5
                else table.slice(0, 0)
            )
        else:
            key = rng.choice(list(metadata) or [b"pandas"])
            metadata[key] = json_text(metadata.get(key, b"{}"), rng)
    metadata = {key: value for key, value in metadata.items() if rng.random() < 0.9}
    out = io.BytesIO()
    try:
        pq.write_table(table.replace_schema_metadata(metadata), out)
    except (pa.ArrowException, ValueError):
        return cut(data, rng)
    return out.getvalue()


_COLUMNS: tuple[Callable[[int, Random, Any], Any], ...] = (
    lambda rows, rng, pa: pa.array([rng.choice(WORDS) for _ in range(rows)]),
    lambda rows, rng, pa: pa.array([rng.choice((None, "a", "b")) for _ in range(rows)]),
    lambda rows, rng, pa: pa.array([rng.choice((None, 0, 1, -1, 7)) for _ in range(rows)], pa.int64()),
    lambda rows, rng, pa: pa.array(
        [rng.choice((None, 0.5, float("nan"), float("inf"))) for _ in range(rows)], pa.float64()
    ),
    lambda rows, rng, pa: pa.array([rng.choice((2**62, -(2**62), 0, None)) for _ in range(rows)], pa.timestamp("s")),
    lambda rows, rng, pa: pa.array([0] * rows, pa.timestamp("us", "Europe/Berlin")),
    lambda rows, rng, pa: pa.array([rng.choice((None, b"\xff\xfe", b"")) for _ in range(rows)], pa.binary()),
    lambda rows, rng, pa: pa.array([[1, 2]] * rows, pa.list_(pa.int8())),
    lambda rows, rng, pa: pa.array([{"a": 1}] * rows),
    lambda rows, rng, pa: pa.array([None] * rows, pa.null()),
    lambda rows, rng, pa: pa.array([True] * rows),
    lambda rows, rng, pa: pa.array(["a"] * rows).dictionary_encode(),
    lambda rows, rng, pa: pa.array([1] * rows, pa.duration("ns")),
    lambda rows, rng, pa: pa.array([1] * rows, pa.decimal128(10, 2)),
    lambda rows, rng, pa: pa.array([1] * rows, pa.time64("us")),
    lambda rows, rng, pa: pa.array([2**31 - 1] * rows, pa.date32()),
    lambda rows, rng, pa: pa.array([[("a", 1)]] * rows, pa.map_(pa.string(), pa.int8())),
)
