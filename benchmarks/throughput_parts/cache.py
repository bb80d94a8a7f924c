"""Building, opening and verifying the pixel cache."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)
from throughput_parts.common import make_cohort, make_jpegs, picture, preprocessing

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.imaging import RadiographCacheDataset, read_radiograph
from monai_cxrpair.imaging.cache import decode
from monai_cxrpair.imaging.identity import describe, radiograph_keys
from monai_cxrpair.imaging.pixel_store import PixelStore, Source
from monai_cxrpair.imaging.shards import new_shard, write_shard


def write_dicom(path: Path, i: int, syntax: str) -> None:
    """A DX image of 2048 x 2048, 12 bits."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax if syntax == DeflatedExplicitVRLittleEndian else ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.Modality, ds.PatientID, ds.StudyInstanceUID = "DX", str(i), generate_uid()
    ds.Rows = ds.Columns = 2048
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    ds.PixelData = picture(i, (2048, 2048), np.uint16, 4095).tobytes()
    ds["PixelData"].VR = "OW"
    if syntax in (RLELossless, JPEG2000Lossless):
        ds.compress(syntax)
    ds.save_as(path, enforce_file_format=True)


def sources(folder: Path) -> Iterator[tuple[str, Cohort]]:
    """A cohort per kind of file."""
    for syntax in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless):
        paths = [f"{syntax}_{i}.dcm" for i in range(12)]
        for i, path in enumerate(paths):
            write_dicom(folder / path, i, syntax)
        yield f"DICOM 2048 x 2048, {syntax.name}", make_cohort(folder, paths)


def part_cache(folder: Path, workers: int) -> None:
    """Bytes, building by transfer syntax, opening, verifying."""
    cohort = make_jpegs(folder)
    for name, radiographs in [("JPEG 390 x 320", cohort.take(np.arange(400))), *sources(folder)]:
        build(name, radiographs, folder, workers)
    verify(RadiographCacheDataset(cohort, transform=preprocessing(224), image_size=224, cache_dir=folder / "cache"))
    reopen(folder / "large", [str(path) for path in cohort.paths()])


def build(name: str, cohort: Cohort, folder: Path, workers: int) -> None:
    """Images per second of one core, and the share of it that reading and resizing without a cache takes too.

    In processor time, so that what else runs on the machine does not count.
    """
    transform = preprocessing(224)
    paths = [str(path) for path in cohort.paths()]

    def cached(folder: Path, processes: int) -> RadiographCacheDataset:
        return RadiographCacheDataset(
            cohort, transform=transform, image_size=224, cache_dir=folder, num_workers=processes
        )

    times: dict[str, list[float]] = {"read": [], "decode": [], "build": [], "several": []}
    for i in range(3):
        started = time.process_time()
        for path in paths:
            read_radiograph(path)
        times["read"].append(time.process_time() - started)
        started = time.process_time()
        for path in paths:
            decode(path, transform=transform)
        times["decode"].append(time.process_time() - started)
        cache = folder / f"{cohort.table['path'][0]}-{i}"
        started = time.process_time()
        cached(cache, 1)
        times["build"].append(time.process_time() - started)
        clock = time.perf_counter()
        cached(cache.with_name(f"{cache.name}-several"), workers)
        times["several"].append(time.perf_counter() - clock)
    read, alone, built, several = (statistics.median(times[key]) for key in times)
    size = sum(path.stat().st_size for path in cache.glob("*.pixels"))
    dataset = cached(cache, 1)
    area = sum(dataset._cache[row].size for row in range(len(dataset)))
    print(
        f"{name}: {len(paths) / built:.0f} img/s per core, of which reading {100 * read / built:.0f} %, reading and "
        f"resizing {100 * alone / built:.0f} %; {len(paths) / several:.0f} img/s by the clock in {workers} processes; "
        f"{size / len(paths):,.0f} bytes each, {size / area:.4f} of H x W"
    )


def verify(dataset: RadiographCacheDataset) -> None:
    """The first pass over all pixels against later ones, which do not verify."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        for row in range(len(dataset)):
            dataset._cache[row]
        seconds.append(time.perf_counter() - started)
    size = sum(dataset._cache[row].size for row in range(len(dataset)))
    print(
        f"first access to {len(dataset)} radiographs of 224: {1e6 * seconds[0] / len(dataset):.0f} us each "
        f"({size / seconds[0] / 1e6:.0f} MB/s verified), later {1e6 * seconds[1] / len(dataset):.1f} us"
    )


def reopen(folder: Path, paths: list[str]) -> None:
    """A cache of 200,000 radiographs (of 8 x 8 pixels)."""
    folder.mkdir()
    keys = [os.urandom(16) for _ in range(200_000)]
    for i in range(0, len(keys), 512):
        write_shard(new_shard(folder), [(key, np.zeros((8, 8), np.uint8)) for key in keys[i : i + 512]])
    started = time.perf_counter()
    store = PixelStore(folder, Source(paths=keys, ids=keys, keys=keys, decode=str))  # type: ignore[arg-type]
    opened = time.perf_counter() - started
    assert not store.missing()
    paths = paths * (200_000 // len(paths))
    started = time.perf_counter()
    radiograph_keys(paths, [0] * len(paths), preprocessing=describe(preprocessing(224)), secret=bytes(32))
    looked = time.perf_counter() - started
    print(f"200,000 radiographs in 391 shards: opened in {opened:.2f} s, and {looked:.2f} s to look at as many files")
