"""The paper's linear protocol on kept embeddings, against running the frozen encoder anew in every epoch.

    python benchmarks/linear_probe.py [--rows 223414] [--drawn 2234] [--draws 5] [--epochs 95] [--image_size 224]

Both train one linear layer for each draw with Adam, batches of 16. The paper's code passes the radiographs of every
batch through the encoder (a ResNet-18), though it is frozen; here each drawn radiograph is embedded once.

- theirs: whole training steps (encoder, layer, Adam) on a slice of the radiographs, scaled to all steps;
- ours: embedding on a slice, scaled to the radiographs that are in any draw, and the training itself, measured whole;
- ours, cached: the pixels of all radiographs hashed (a slice, scaled) to find the file, the file of all embeddings read
  and verified, and the training, both measured whole.

Decoding is on neither side: the radiographs are in memory. So is what both need alike, scoring the test side; the
paper's code also scores a validation side after every epoch, which is not held against it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from monai_cxrpair.contrast import build_encoder
from monai_cxrpair.contrast.encoders import channels_last
from monai_cxrpair.evaluation.embed import embed
from monai_cxrpair.evaluation.embedding_store import pixels_hash, read_features, write_features
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.evaluation.protocols.paper_probe import AdamSettings, train_probes

CLAIM, CLAIM_CACHED = 50.0, 200.0
FEATURES, OURS_BATCH, WARM = (
    512,
    64,
    2,
)  # features of a ResNet-18; batch_size of evaluate.yaml; batches before the clock


class Slice:
    """Radiographs in memory, as the pixel cache gives them."""

    def __init__(self, count: int, size: int) -> None:
        self.image_size = size
        self.images = np.random.default_rng(1).integers(0, 256, (count, 1, size, size), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, rows: range) -> dict[str, np.ndarray]:
        return {"image": self.images[rows.start : rows.stop]}

    def batches(self, size: int) -> list[dict[str, Tensor]]:
        """As a loader gives them."""
        return [{"image": torch.from_numpy(self.images[i : i + size])} for i in range(0, len(self), size)]


def clock(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def their_step(encoder: FrozenEncoder, batches: list[dict[str, Tensor]], settings: AdamSettings) -> float:
    """Seconds of a training step that runs the frozen encoder, as the paper's code does."""
    network, layer = channels_last(encoder.network.eval()), nn.Linear(FEATURES, 1)
    optimiser = torch.optim.Adam(layer.parameters(), lr=settings.learning_rate)
    truth = (torch.arange(settings.batch_size) % 2).float()
    seconds = []
    for batch in batches:
        start = time.perf_counter()
        views = ((batch["image"].float() / 255.0 - encoder.mean) / encoder.std).contiguous(
            memory_format=torch.channels_last
        )
        with torch.inference_mode():
            features = network(views)
        loss = nn.functional.binary_cross_entropy_with_logits(layer(features.clone()).squeeze(1), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    return statistics.mean(seconds[WARM:])


def main() -> int:
    """Print seconds and ratios; 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given_by = {"rows": 223_414, "drawn": 2_234, "draws": 5, "epochs": 95, "image_size": 224, "slice": 256, "rounds": 3}
    for name, default in given_by.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=None, help="of torch; by default all cores")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    rng = np.random.default_rng(0)
    settings = AdamSettings(epochs=given.epochs)
    draws = [np.sort(rng.choice(given.rows, given.drawn, replace=False)) for _ in range(given.draws)]
    distinct = len(np.unique(np.concatenate(draws)))
    steps = given.draws * given.epochs * -(-given.drawn // settings.batch_size)
    table = rng.standard_normal((given.rows, FEATURES), dtype=np.float32)
    labels = (rng.random(given.rows) < 0.7).astype(np.float64)
    seeds = [[0, number] for number in range(given.draws)]
    radiographs = Slice(given.slice, given.image_size)
    network = build_encoder("resnet18", in_channels=1, image_size=given.image_size)
    encoder = FrozenEncoder(network=network, mean=0.5, std=0.25, card={})

    figures: dict[str, list[float]] = {name: [] for name in ("theirs", "embed", "hash", "read", "train")}
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "all.npz"
        write_features(kept, table)
        embed({"x": encoder}, radiographs.batches(OURS_BATCH)[:WARM], device="cpu")
        for _ in range(given.rounds):
            step = their_step(encoder, radiographs.batches(settings.batch_size), settings)
            figures["theirs"].append(step * steps)
            seconds = clock(lambda: embed({"x": encoder}, radiographs.batches(OURS_BATCH), device="cpu"))
            figures["embed"].append(seconds * distinct / given.slice)
            figures["hash"].append(clock(lambda: pixels_hash(radiographs)) * given.rows / given.slice)
            figures["read"].append(clock(lambda: read_features(kept, rows=given.rows)))
            figures["train"].append(clock(lambda: train_probes(table, labels, draws, seeds, settings)))

    ours = [a + b for a, b in zip(figures["embed"], figures["train"], strict=True)]
    cached = [a + b + c for a, b, c in zip(figures["hash"], figures["read"], figures["train"], strict=True)]
    print(
        f"{given.draws} draws x {given.epochs} epochs x {given.drawn} of {given.rows} radiographs of "
        f"{given.image_size} pixels, {distinct} distinct; ResNet-18 on {torch.get_num_threads()} threads; "
        f"{given.rounds} rounds"
    )
    for name, what in (
        ("theirs", f"theirs, {steps} steps, scaled from {given.slice // settings.batch_size - WARM}"),
        ("embed", f"embedding the drawn ones once, scaled from {given.slice}"),
        ("hash", f"hashing the pixels of all, scaled from {given.slice}"),
        ("read", f"reading and verifying the embeddings of all ({table.nbytes / 1e6:.0f} MB)"),
        ("train", "training all probes"),
    ):
        print(f"{what}: {statistics.median(figures[name]):.2f} s")
    held = True
    for what, seconds, claim in (("embedding counted", ours, CLAIM), ("embeddings cached", cached, CLAIM_CACHED)):
        ratios = [their / our for their, our in zip(figures["theirs"], seconds, strict=True)]
        ratio = statistics.median(ratios)
        print(f"{what}: ratio {ratio:.0f} ({min(ratios):.0f} to {max(ratios):.0f}), wanted at least {claim:.0f}")
        held &= ratio >= claim
    return int(not held)


if __name__ == "__main__":
    raise SystemExit(main())
