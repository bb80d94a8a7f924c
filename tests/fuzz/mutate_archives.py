"""Mutations of ZIP (also .xlsx) and tar."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from random import Random

import mutate_dicom
from mutate_raw import raw


def zipped(data: bytes, rng: Random, inner: Callable[[bytes, Random], bytes]) -> bytes:
    """A ZIP (also .xlsx): a file in it, its name or kind; or the bytes of the archive."""
    if rng.random() < 0.45:
        return raw(data, rng) if rng.random() < 0.5 else _directory(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        files = [(info.filename, old.read(info)) for info in old.infolist()]
    at, what = rng.randrange(len(files)), rng.randrange(6)
    name, content = files[at]
    if what <= 2:
        files[at] = name, inner(content, rng)
    elif what == 3:
        files[at] = (
            rng.choice(
                ("../x", "/x", "a\\b", "", "x" * 300, "x/../../y", "\u202e", "inner.zip", "a/./b", name.upper())
            ),
            content,
        )
    elif what == 4:
        files.append((name, content))
    else:
        files[at] = name, bytes(rng.choice((1 << 10, 1 << 20, 1 << 24)))
    return pack_zip(files, kind=rng.choice((0, 0, 0, 0o120777 << 16, 0o020666 << 16)))


def _directory(data: bytes, rng: Random) -> bytes:
    """A field of a local head or of the central directory: flags, method, sizes, offsets."""
    heads = [at for mark in (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06") for at in _places(data, mark)]
    if not heads:
        return raw(data, rng)
    at = rng.choice(heads) + 4 + rng.randrange(40)
    return data[:at] + rng.choice((b"\0", b"\xff", b"\x01", b"\xff\xff\xff\xff", b"\x09\0", b"\x63\0")) + data[at + 1 :]


def _places(data: bytes, mark: bytes) -> list[int]:
    found, at = [], data.find(mark)
    while at >= 0 and len(found) < 50:
        found.append(at)
        at = data.find(mark, at + 1)
    return found


def pack_zip(files: list[tuple[str, bytes]], *, kind: int = 0) -> bytes:
    """A ZIP with the date 1980, so that its bytes are the same every time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            info = zipfile.ZipInfo(name)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, kind
            try:
                archive.writestr(info, content)
            except (ValueError, UnicodeError, struct.error):
                continue
    return out.getvalue()


def tarred(data: bytes, rng: Random, inner: Callable[[bytes, Random], bytes]) -> bytes:
    """A tar: a file in it, its name or kind; a field of a head with the right checksum; or the bytes."""
    if rng.random() < 0.3:
        return raw(data, rng)
    if rng.random() < 0.5:
        heads = [at for at in range(0, len(data) - 511, 512) if data[at + 257 : at + 262] == b"ustar"]
        if not heads:
            return raw(data, rng)
        at, out = rng.choice(heads), bytearray(data)
        start, length = rng.choice(((0, 100), (124, 12), (124, 12), (156, 1), (157, 100), (257, 8), (345, 155)))
        new = rng.choice(
            (
                b"x" * length,
                b"77777777777\0",
                b"-1",
                b"\x80" + b"\xff" * 11,
                b"\xff" * 12,
                b"L",
                b"x",
                b"g",
                b"S",
                b"../x",
                b"1",
                b"3",
                b"",
            )
        )
        out[at + start : at + start + length] = new[:length].ljust(length, b"\0")
        out[at + 148 : at + 156] = b" " * 8
        out[at + 148 : at + 156] = b"%06o\0 " % sum(out[at : at + 512])
        return bytes(out)
    with tarfile.open(fileobj=io.BytesIO(data)) as old:
        files = [(info.name, old.extractfile(info).read()) for info in old if info.isreg()]  # type: ignore[union-attr]
    at = rng.randrange(len(files))
    name, content = files[at]
    files[at] = rng.choice(
        ((name, inner(content, rng)), ("../x", content), ("/x", content), (name, b""), ("y" * 400, content))
    )
    return pack_tar([*files, rng.choice(files)])


def pack_tar(files: list[tuple[str, bytes]]) -> bytes:
    """A tar with the date 1970."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def dicom_inside(data: bytes, rng: Random) -> bytes:
    """A DICOM file in an archive."""
    return rng.choice(mutate_dicom.MUTATIONS)(data, rng)
