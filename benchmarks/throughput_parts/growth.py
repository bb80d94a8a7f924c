"""(e): what a step and a batch cost as the queue, the cohort and the radiographs grow."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from throughput_parts.common import ROUNDS, in_turn, make_cohort, make_jpegs, preprocessing
from throughput_parts.lightly_steps import our_step
from throughput_parts.steps import make_dataset, make_loader, make_network, make_trainer, seconds_per_step

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.imaging import PairCacheDataset

QUEUES, COUNTS, IMAGE_SIZES = (1024, 4096, 16_384, 65_536), (2000, 20_000, 200_000), (64, 128, 224, 320)
SMALL, BATCH, BATCH_OF_SIZES = 64, 32, 8  # views of the first two in pixels, pairs per step, those of the last
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "throughput.png"


class Curve(NamedTuple):
    """Times of one thing as another grows, `values` -> those of each round, in `unit`."""

    grows: str
    name: str
    unit: str
    values: Sequence[int]
    times: list[list[float]]


def measure(
    grows: str, values: Sequence[int], name: str, runs: Sequence[Callable[[], float]], *, unit: str, scale: float
) -> Curve:
    """Run all in turn; seconds are multiplied by `scale`."""
    times = in_turn({str(value): run for value, run in zip(values, runs, strict=True)})
    return Curve(grows, name, unit, values, [[scale * seconds for seconds in times[str(value)]] for value in values])


def training_step(dataset: PairCacheDataset, batch: int, queue_size: int) -> Callable[[], float]:
    """Seconds of one step on batches in memory."""
    step = our_step(make_trainer(dataset, make_network(dataset, queue_size=queue_size), batch))
    batches = cycle(list(islice(make_loader(dataset, batch), 4)))
    return lambda: seconds_per_step(lambda: step(next(batches)), 1)


def loading(dataset: PairCacheDataset, batch: int, batches: int = 20) -> Callable[[], float]:
    """Seconds per batch that comes out of the loader when nothing else is done; every pass is another epoch."""
    epochs = iter(range(1, 1000))

    def run() -> float:
        dataset.set_epoch(epoch := next(epochs))
        loader = make_loader(dataset, batch)
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        source: Iterator[Any] = iter(loader)
        next(source)
        return seconds_per_step(lambda: next(source), batches)

    return run


def drawing(dataset: PairCacheDataset, batches: int = 100) -> Callable[[], float]:
    """Seconds per batch of partners."""
    rng = np.random.default_rng(0)

    def run() -> float:
        rows = iter(rng.integers(len(dataset), size=(batches, BATCH)))
        return seconds_per_step(lambda: dataset.sampler.draw(next(rows), 1, rng=rng), batches)

    return run


def part_e(folder: Path, _workers: int) -> None:
    """A table and a picture."""
    paths = make_jpegs(folder).table["path"].tolist()
    cohorts = [make_cohort(folder, (paths * -(-count // len(paths)))[:count]) for count in COUNTS]
    datasets = [open_dataset(folder, cohort) for cohort in cohorts]
    opening = [partial(seconds_per_step, partial(open_dataset, folder, cohort), 1) for cohort in cohorts]
    by_size = [make_dataset(folder, size) for size in IMAGE_SIZES]
    queue = partial(measure, "keys in the queue", QUEUES, unit="ms")
    count = partial(measure, "radiographs", COUNTS)
    size = partial(measure, "pixels a side", IMAGE_SIZES, unit="ms", scale=1e3 / BATCH_OF_SIZES)
    curves = [
        queue(f"step of {BATCH} pairs, {SMALL} px", [training_step(datasets[-1], BATCH, k) for k in QUEUES], scale=1e3),
        count("opening the cohort", opening, unit="ms", scale=1e3),
        count(f"loading {BATCH} pairs, {SMALL} px", [loading(d, BATCH) for d in datasets], unit="ms", scale=1e3),
        count(f"drawing {BATCH} partners", [drawing(d) for d in datasets], unit="ms", scale=1e3),
        size("step, a pair", [training_step(d, BATCH_OF_SIZES, len(d) // 4) for d in by_size]),
        size("loading, a pair", [loading(d, BATCH_OF_SIZES) for d in by_size]),
    ]
    print(table(curves))
    draw(curves).savefig(PICTURE, dpi=130)
    print(f"drawn: {PICTURE}")


def open_dataset(folder: Path, cohort: Cohort) -> PairCacheDataset:
    """With a warm cache."""
    return PairCacheDataset(
        cohort, transform=preprocessing(SMALL), pairing={"study": "same"}, augmentation={}, image_size=SMALL,
        cache_dir=folder / f"cache{SMALL}",
    )  # fmt: skip


def table(curves: Sequence[Curve]) -> str:
    """In Markdown."""
    lines = ["| (e) what grows | to | time of | median | quartiles |", "|---|---|---|---|---|"]
    for curve in curves:
        for value, times in zip(curve.values, curve.times, strict=True):
            low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
            lines.append(
                f"| {curve.grows} | {value:,} | {curve.name} | {middle:,.3g} {curve.unit} | {low:,.3g} to {high:,.3g} |"
            )
    return "\n".join(lines)


def draw(curves: Sequence[Curve]) -> Figure:
    """A panel for each thing that grows: medians and quartiles."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    panels = list(dict.fromkeys(curve.grows for curve in curves))
    for axes, grows in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for curve in (curve for curve in curves if curve.grows == grows):
            low, middle, high = np.array(
                [statistics.quantiles(times, n=4, method="inclusive") for times in curve.times]
            ).T
            axes.errorbar(curve.values, middle, [middle - low, high - middle], marker="o", capsize=3, label=curve.name)
        decorate(axes, grows, curves)
    figure.suptitle(f"ResNet-18, medians of {ROUNDS} rounds in turn, quartiles")
    return figure


def decorate(axes: Axes, grows: str, curves: Sequence[Curve]) -> None:
    """Axes, names and units."""
    shown = next(curve for curve in curves if curve.grows == grows)
    axes.set_xscale("log")
    axes.set_xticks(shown.values, [f"{value:,}" for value in shown.values])
    axes.minorticks_off()
    axes.set_xlabel(grows)
    axes.set_ylabel(shown.unit)
    if sum(curve.grows == grows for curve in curves) > 1:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_ylim(0, 1.3 * max(map(max, shown.times)))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
