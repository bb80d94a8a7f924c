"""The pixel cache on disk, built: what is missing is decoded in several processes, each of which adds whole shards.

A run waits where another one is building in the same folder, and then takes what that one has made. A killed run
leaves whole shards only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.cohort.processes import in_processes
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging.identity import radiograph_keys
from monai_cxrpair.imaging.pixel_store import Decode, PixelStore, Source
from monai_cxrpair.imaging.shards import SUFFIX, Pixels, new_shard, write_shard

logger = logging.getLogger(__name__)

LARGEST_SHARD = 512  # radiographs; what a killed process loses at most
SMALLEST_SHARD = 16
SECRET, SECRET_BYTES, LOCK = "secret", 32, "lock"


def open_store(
    cache_dir: str | Path,
    *,
    paths: Sequence[str],
    frames: Sequence[object],
    ids: Sequence[str],
    preprocessing: str,
    decode: Decode,
    image_size: int,
    workers: int | None = None,
) -> tuple[PixelStore, dict[int, str]]:
    """The store of some radiographs; those that the folder does not hold are decoded and added.

    Args:
        cache_dir: a folder of its own; made, for its owner only, where it does not exist.
        paths: of the files of the radiographs.
        frames: in these files.
        ids: their image_ids.
        preprocessing: what `decode` does, as a text.
        decode: path -> uint8 (h, w), or why the file cannot be read; can be pickled.
        image_size: the shorter side is at least this long: how much space is needed at least.
        workers: processes; None: one per core that this process may use.

    Returns:
        The store, and for the rows that could not be read (and are not in it) the reason.

    Raises:
        CxrPairError: the folder cannot be used, or has too little space.
    """
    folder, started = Path(cache_dir), time.perf_counter()
    secret = _open_folder(folder)
    keys = radiograph_keys(paths, frames, preprocessing=preprocessing, secret=secret)
    store = PixelStore(folder, Source(paths=paths, ids=ids, keys=keys, decode=decode))
    unreadable: dict[int, str] = {}
    if store.missing() or store.damaged:
        with _alone(folder) as (writable, locked):
            store.scan()  # another run may have built them meanwhile
            if store.damaged:
                logger.warning("pixel cache: %d files in %s are damaged: decoded anew", len(store.damaged), folder)
            if writable and locked:
                _remove([*store.damaged, *folder.glob(".*.tmp")])  # the latter of killed runs
            if missing := store.missing():
                if writable:
                    unreadable = _build(store, missing, least=len(missing) * image_size**2, workers=workers)
                    store.scan()
                unreadable |= _decode_here(store, [row for row in store.missing() if row not in unreadable])
    logger.info(
        "pixel cache: %d of %d radiographs (%.2f GB) are in %s, ready after %.1f s; %d further ones in it are not of "
        "this cohort, preprocessing and version",
        len(store) - len(store.missing()), len(store), store.nbytes / 1e9, folder, time.perf_counter() - started,
        store.unused,
    )  # fmt: skip
    return store, unreadable


def _open_folder(folder: Path) -> bytes:
    """Make the folder where it is not there; give its secret."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        secret = _read_secret(folder)
        if secret is None:
            with _alone(folder) as (writable, _):
                secret = _read_secret(folder)
                if secret is None:
                    if not writable:
                        raise PermissionError(errno.EACCES, "it cannot be written to")
                    secret = secrets.token_bytes(SECRET_BYTES)
                    with atomic_path(folder / SECRET) as temporary:
                        temporary.write_bytes(secret)
        return secret
    except OSError as error:
        raise CxrPairError(f"cache_dir {folder}: cannot be used ({error.strerror or error})") from error


def _read_secret(folder: Path) -> bytes | None:
    ours = {SECRET, LOCK}
    if not (folder / SECRET).exists():
        other = [path.name for path in folder.iterdir() if not (path.name in ours or SUFFIX in path.name)]
        if [name for name in other if not name.startswith(".")]:
            raise CxrPairError(f"cache_dir {folder}: holds other files; name a folder that is for the cache alone")
        return None
    secret = (folder / SECRET).read_bytes()
    return secret if len(secret) == SECRET_BYTES else None  # damaged: the shards are of no use any more


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[tuple[bool, bool]]:
    """Wait until no other process builds in the folder; give whether it can be written to, and whether that is so.

    A POSIX lock: it ends with the process however that ends, and forked processes do not inherit it.
    """
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise CxrPairError(f"cache_dir {folder}: cannot be used ({error.strerror or error})") from error
        handle = None
    try:
        locked = handle is not None and _wait_for(handle, folder)
        yield handle is not None and os.access(folder, os.W_OK), locked
    finally:
        if handle is not None:
            os.close(handle)


def _wait_for(handle: int, folder: Path) -> bool:
    """Whether the lock is held; where there are no locks, two builders do the same work and do not harm each other."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            logger.info("pixel cache: another process is building in %s, waiting for it", folder)
            fcntl.lockf(handle, fcntl.LOCK_EX)
        else:
            logger.warning("pixel cache: no locks in %s (%s)", folder, error.strerror)
            return False
    return True


def _remove(useless: Iterable[Path]) -> None:
    for path in useless:
        path.unlink(missing_ok=True)


class _Built(NamedTuple):
    """What one process has done: bytes of its shard, row -> why not, and what ended it."""

    size: int
    unreadable: dict[int, str]
    error: str | None = None


def _build(store: PixelStore, rows: Sequence[int], *, least: int, workers: int | None) -> dict[int, str]:
    folder, source = store.folder, store.source
    free = shutil.disk_usage(folder).free
    if free < least:
        raise CxrPairError(
            f"cache_dir {folder}: at least {least:,} bytes are needed for {len(rows)} radiographs, {free:,} are free; "
            "make room, or set cache_dir to another folder or null"
        )
    size = min(LARGEST_SHARD, max(SMALLEST_SHARD, -(-len(rows) // (4 * (workers or os.cpu_count() or 1)))))
    parts = [rows[i : i + size] for i in range(0, len(rows), size)]
    tasks = [[(row, source.paths[row], source.keys[row]) for row in part] for part in parts]
    work = partial(_build_shard, folder=folder, decode=source.decode, builder=os.getpid())
    started, done, written = time.perf_counter(), 0, 0
    unreadable: dict[int, str] = {}
    logger.info("pixel cache: decoding %d radiographs into %s", len(rows), folder)
    with tqdm(total=len(rows), desc="pixel cache", unit="img", disable=not sys.stderr.isatty()) as bar:
        for task, built in zip(tasks, in_processes(work, tasks, workers=workers, few=1), strict=True):
            if built.error is not None:
                each = written / done if done else least / len(rows)
                raise CxrPairError(
                    f"cache_dir {folder}: {built.error}; about {int(each * (len(rows) - done)):,} bytes are needed for "
                    f"the other {len(rows) - done} radiographs: make room, or set cache_dir to another folder or null"
                )
            unreadable |= built.unreadable
            done, written = done + len(task), written + built.size
            bar.update(len(task))
    seconds = time.perf_counter() - started
    built_here = done - len(unreadable)
    logger.info("pixel cache: %d radiographs built, %.0f img/s, %d bytes", built_here, done / seconds, written)
    return unreadable


def _build_shard(
    task: Sequence[tuple[int, str, bytes | None]], *, folder: Path, decode: Decode, builder: int
) -> _Built:
    if os.getpid() != builder:  # the pools of threads did not survive the fork
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
    unreadable: dict[int, str] = {}

    def radiographs() -> Iterator[tuple[bytes, Pixels]]:
        for row, path, key in task:
            pixels = decode(path)
            if isinstance(pixels, str):
                unreadable[row] = pixels
            elif key is not None:  # else the file came only now: it is read as those that cannot be written
                yield key, pixels

    try:
        size = write_shard(new_shard(folder), radiographs())
    except CxrPairError as error:
        return _Built(0, unreadable, getattr(error.__cause__, "strerror", None) or str(error))
    return _Built(size, unreadable)


def _decode_here(store: PixelStore, rows: Sequence[int]) -> dict[int, str]:
    """Where the folder cannot be written to: the few that it lacks are held in memory."""
    unreadable = {}
    for row in rows:
        pixels = store.source.decode(store.source.paths[row])
        if isinstance(pixels, str):
            unreadable[row] = pixels
        else:
            store.keep(row, pixels)
    if len(rows) > len(unreadable):
        logger.warning(
            "pixel cache: %s cannot be written to; %d radiographs that it lacks are held in memory",
            store.folder, len(rows) - len(unreadable),
        )  # fmt: skip
    return unreadable
