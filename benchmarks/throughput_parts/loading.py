"""(a): pairs per second that reach the network."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai import data as monai_data
from monai import transforms as mt
from PIL import Image
from throughput_parts.common import MEAN, SHAPE, STD, N, in_turn, ratio, row
from throughput_parts.steps import make_dataset
from torch.utils.data import DataLoader, RandomSampler

from monai_cxrpair.imaging import BatchLoader

BATCH, DEGREES = 32, 10


class PlainPairs(torch.utils.data.Dataset[Any]):
    """PIL and torch: two radiographs of a study are opened and altered for every pair; in RGB, as the paper's code."""

    def __init__(self, paths: list[str], size: int, mode: str) -> None:
        self.paths, self.size, self.mode = paths, size, mode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.view(self.paths[i]), self.view(self.paths[i ^ 1])

    def view(self, path: str) -> torch.Tensor:
        """Resize the shorter side, rotate, crop a square, flip, tensor, normalise."""
        image, size = Image.open(path).convert(self.mode), self.size
        scale = size / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        image = image.rotate(random.uniform(-DEGREES, DEGREES), resample=Image.Resampling.BILINEAR)
        left, top = random.randint(0, image.width - size), random.randint(0, image.height - size)
        image = image.crop((left, top, left + size, top + size))
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image, dtype=np.uint8).reshape(size, size, -1))
        # (H, W, C) -> (C, H, W)
        return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255).sub_(MEAN).div_(STD)


def monai_pairs(paths: list[str], size: int) -> monai_data.CacheDataset:
    """MONAI's stock dictionary transforms; all before the first random one is cached."""
    wide = tuple(round(side * size / min(SHAPE)) for side in SHAPE)
    steps: list[Any] = [
        mt.LoadImaged(keys=["query", "key"], reader="PILReader"),
        mt.EnsureChannelFirstd(keys=["query", "key"]),
        mt.Resized(keys=["query", "key"], spatial_size=wide),
        mt.ScaleIntensityRanged(keys=["query", "key"], a_min=0, a_max=255, b_min=0, b_max=1),
    ]
    for key in ("query", "key"):
        steps += [
            mt.RandRotated(keys=key, range_x=math.radians(DEGREES), prob=1.0, padding_mode="zeros"),
            mt.RandSpatialCropd(keys=key, roi_size=(size, size), random_size=False),
            mt.RandFlipd(keys=key, prob=0.5, spatial_axis=1),
            mt.NormalizeIntensityd(keys=key, subtrahend=MEAN, divisor=STD),
        ]
    items = [{"query": path, "key": paths[i ^ 1]} for i, path in enumerate(paths)]
    return monai_data.CacheDataset(items, mt.Compose(steps), num_workers=2, progress=False)


def ours(size: int) -> Callable[[dict[str, torch.Tensor]], tuple[torch.Tensor, torch.Tensor]]:
    """8 bits until here; then normalised, into the same memory each time: fresh pages cost more than the arithmetic."""
    memory = {name: torch.empty(BATCH, 1, size, size) for name in ("query", "key")}

    def views(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        for name, floats in memory.items():
            floats.copy_(batch[name].view_as(floats)).sub_(255.0 * MEAN).div_(255.0 * STD)
        return memory["query"], memory["key"]

    return views


def epoch_time(loader: DataLoader[Any], views: Callable[[Any], tuple[Any, Any]], size: int) -> float:
    """Seconds per pair over one pass, its start included."""
    started, pairs = time.perf_counter(), 0
    for batch in loader:
        query, key = views(batch)
        assert query.shape == key.shape == (BATCH, query.shape[1], size, size)
        assert query.dtype == torch.float32
        pairs += len(query)
    return (time.perf_counter() - started) / pairs


def part_a(folder: Path, workers: int) -> None:
    """Pairs delivered per second: normalised float views on both sides, warm caches, the same number of workers."""
    for size in (224, 64):
        pairs = make_dataset(folder, size)
        paths = [str(path) for path in pairs.cohort.paths()]
        shared: dict[str, Any] = {"batch_size": BATCH, "num_workers": workers, "persistent_workers": workers > 0}

        def sampler(n: int) -> RandomSampler:
            return RandomSampler(range(N), num_samples=n * BATCH)

        loaders: dict[str, tuple[DataLoader[Any], Callable[[Any], tuple[Any, Any]]]] = {
            "ours": (BatchLoader(pairs, batch_size=BATCH, num_workers=workers, sampler=sampler(30)), ours(size)),
            "PIL and torch in RGB": (DataLoader(PlainPairs(paths, size, "RGB"), sampler=sampler(6), **shared), tuple),
            "PIL and torch in grey": (DataLoader(PlainPairs(paths, size, "L"), sampler=sampler(6), **shared), tuple),
            "MONAI's dictionary transforms": (
                monai_data.DataLoader(monai_pairs(paths, size), sampler=sampler(6), **shared),
                lambda batch: (batch["query"], batch["key"]),
            ),
        }
        times = in_turn({name: partial(epoch_time, *loader, size) for name, loader in loaders.items()})
        mine = times.pop("ours")
        for name, theirs in times.items():
            row(
                f"a, {size} px, {workers} workers", f"our loader against {name}",
                f"{1 / statistics.median(mine):,.0f} against {1 / statistics.median(theirs):,.0f} pairs/s, ratio "
                f"{ratio(theirs, mine, digits=1)}",
            )  # fmt: skip
