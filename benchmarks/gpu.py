"""How fast training is on an accelerator, and how close that is to what the accelerator could do.

    python benchmarks/gpu.py --out gpu.json

Needs nothing but this checkout and its dependencies: the radiographs are synthetic and made on the spot. For ResNet-18
and ResNet-50 at 224 and 320 pixels, in turn in one process:

    training    the real thing: loader, views, step, monitors
    pure        the same step on one batch that stays on the device, nothing else: the most that could be reached

The first rounds warm up and are not counted. Printed are pairs/s, the share of the pure rate (goal: 0.95), the share of
the time spent waiting for batches, and the peak memory, as medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from monai.transforms import Compose

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs without an installation, beside other versions than the pinned ones

from monai_cxrpair.cohort import Cohort  # noqa: E402
from monai_cxrpair.cohort.index import index_source  # noqa: E402
from monai_cxrpair.contrast import ContrastiveTrainer, MoCo, Monitors, ResumableSampler, build_encoder  # noqa: E402
from monai_cxrpair.imaging import BatchLoader, LoadRadiographd, PairCacheDataset, ResizeShorterSided  # noqa: E402
from monai_cxrpair.phantom import write_phantom  # noqa: E402

AUGMENTATION = {"rotate_degrees": 10.0, "flip_probability": 0.5, "crop_area": (0.95, 1.0)}
WARM_UP = 2


def main() -> None:
    """Measure every encoder at every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--encoders", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[224, 320], help="pixels")
    parser.add_argument("--batch", type=int, default=256, help="pairs per step")
    parser.add_argument("--steps", type=int, default=30, help="of a round")
    parser.add_argument("--rounds", type=int, default=5, help="counted")
    parser.add_argument("--patients", type=int, default=150, help="of the phantom, whose radiographs are repeated")
    parser.add_argument("--queue", type=int, default=24_576)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--views-on", default="auto", choices=["auto", "cpu", "device"])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args()
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {args.workers} workers, batch {args.batch}, views on {args.views_on}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cohort = make_cohort(Path(folder), patients=args.patients, radiographs=args.steps * args.batch)
        for size in args.sizes:
            dataset = make_dataset(cohort, size=size, device=device, views_on=args.views_on)
            for encoder in args.encoders:
                rows.append(measure(dataset, encoder=encoder, size=size, device=device, args=args))
                print(line(rows[-1]), flush=True)
    if args.out:
        args.out.write_text(json.dumps({"device": name, "torch": torch.__version__, "rows": rows}, indent=2) + "\n")


def make_cohort(folder: Path, *, patients: int, radiographs: int) -> Cohort:
    """A phantom, its rows repeated under other names until there are enough of them for a round."""
    started = time.perf_counter()
    write_phantom(folder / "phantom", patients=patients, file_format="png", seed=0)
    index_source(folder / "phantom" / "index.csv", out=folder / "cohort.parquet")
    one = Cohort.read(folder / "cohort.parquet")
    parts = []
    for copy in range(-(-radiographs // len(one))):
        table = one.table.copy()
        for column in ("image_id", "patient_id", "study_id"):
            table[column] = table[column].astype(str) + f"-{copy}"
        parts.append(table)
    table = pd.concat(parts, ignore_index=True).head(radiographs)
    print(f"{len(one)} phantom radiographs made in {time.perf_counter() - started:.0f} s, {len(table)} rows")
    return Cohort(table, root=one.root, findings=one.findings, source=one.source)


def make_dataset(cohort: Cohort, *, size: int, device: torch.device, views_on: str) -> PairCacheDataset:
    """Same-study pairs as in the paper's best row, from memory."""
    transform = Compose([LoadRadiographd("image"), ResizeShorterSided("image", size=size)])
    return PairCacheDataset(
        cohort, transform=transform, pairing={"study": "same"}, augmentation=AUGMENTATION, image_size=size,
        views_on=views_on, device=device,
    )  # fmt: skip


def measure(
    dataset: PairCacheDataset, *, encoder: str, size: int, device: torch.device, args: argparse.Namespace
) -> dict[str, Any]:
    """Rounds of training and of the pure step, in turn."""
    torch.manual_seed(0)
    network = MoCo(encoder=build_encoder(encoder), queue_size=min(args.queue, len(dataset))).to(device)
    sampler = ResumableSampler(dataset, num_replicas=1, rank=0, seed=0)
    loader = BatchLoader(dataset, batch_size=args.batch, sampler=sampler, drop_last=True, num_workers=args.workers)
    trainer = ContrastiveTrainer(
        device=device, max_epochs=0, train_data_loader=loader, network=network, normalisation=(0.5, 0.25),
        optimizer=torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-4),
        precision=args.precision, compile_network=args.compile, train_handlers=[Monitors(network)],
    )  # fmt: skip
    kept: dict[str, Any] = {}
    trainer.add_event_handler("ITERATION_COMPLETED", lambda engine: kept.update(engine.state.batch))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    figures: dict[str, list[float]] = {"training": [], "pure": [], "ratio": [], "data_wait": []}
    for number in range(WARM_UP + args.rounds):
        trainer.state.max_epochs += 1
        pairs = len(loader) * args.batch
        training = pairs / timed(trainer.run, device)
        batch = {name: value.to(device) for name, value in kept.items()}
        pure = pairs / timed(lambda: [trainer._iteration(trainer, batch) for _ in range(len(loader))], device)  # noqa: B023
        if number >= WARM_UP:
            found = training, pure, training / pure, trainer.state.metrics["data_wait"]
            for values, value in zip(figures.values(), found, strict=True):
                values.append(value)
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    spread = {name: [min(values), statistics.median(values), max(values)] for name, values in figures.items()}
    precision = trainer.arithmetic.name
    return {"encoder": encoder, "size": size, "precision": precision, "batch": args.batch, **spread, "memory": memory}


def timed(work: Any, device: torch.device) -> float:
    """Seconds until the device has done it too."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def line(row: dict[str, Any]) -> str:
    """One encoder at one size."""
    low, ratio, high = row["ratio"]
    return (
        f"{row['encoder']:>10} at {row['size']}, {row['precision']}: {row['training'][1]:7.0f} pairs/s, pure "
        f"{row['pure'][1]:7.0f}, share {ratio:.3f} ({low:.3f} to {high:.3f}), waiting {row['data_wait'][1]:.1%}, "
        f"peak {row['memory'] / 2**30:.1f} GiB"
    )


if __name__ == "__main__":
    main()
