"""What the multi-positive loss costs: positives found among 65,536 keys by metadata, against plain InfoNCE.

    python benchmarks/loss_cost.py

Forward and backward of one batch of 256 on two threads in fp32, from the encoder's vectors on; ours includes the
comparison of metadata codes, the affinities and the masks. Time: in turn in one process. Memory: each alone in a
process of its own, its highest resident size above what it had before.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_cxrpair.contrast.method.loss import contrastive_loss
from monai_cxrpair.contrast.method.queue import KeyQueue
from monai_cxrpair.contrast.method.relatives import find_relatives
from monai_cxrpair.pairing import Affinity
from monai_cxrpair.pairing.codes import CODES

QUEUE, BATCH, DIM, PATIENTS, TEMPERATURE, ROUNDS = 65_536, 256, 128, 20_000, 0.2, 21
AFFINITY = Affinity(kernel="exponential", half_life_days=30, other_laterality=0.8, threshold=0.1)


def codes(n: int, generator: torch.Generator) -> Tensor:
    """Metadata of n radiographs of 20,000 patients (CheXpert: 64,540, of whom a queue of this size meets fewer)."""
    out = torch.zeros(n, len(CODES), dtype=torch.int64)
    out[:, 0] = torch.randint(0, PATIENTS, (n,), generator=generator)
    order = torch.randint(0, 4, (n,), generator=generator)
    out[:, 1], out[:, 2], out[:, 3] = out[:, 0] * 4 + order, order * 20, order
    out[:, 4:] = torch.randint(0, 2, (n, len(CODES) - 4), generator=generator)
    return out


class Step:
    """One batch, its drawn keys, and a full queue."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.q = F.normalize(torch.randn(BATCH, DIM, generator=generator), dim=1)
        self.k = F.normalize(torch.randn(BATCH, 1, DIM, generator=generator), dim=2)
        self.queue = KeyQueue(size=QUEUE, dim=DIM)
        keys = F.normalize(torch.randn(QUEUE, DIM, generator=generator), dim=1)
        self.queue.enqueue(keys, codes(QUEUE, generator))
        self.codes = codes(BATCH, generator)

    def info_nce(self) -> Tensor:
        """As in MoCo's own builder: concatenate, divide, cross-entropy."""
        q = self.q.clone().requires_grad_()
        positive = torch.einsum("bd,bkd->bk", q, self.k)
        negative = q @ self.queue.keys.clone().T
        logits = torch.cat([positive, negative], dim=1) / TEMPERATURE
        loss = F.cross_entropy(logits, torch.zeros(BATCH, dtype=torch.long))
        loss.backward()
        return loss.detach()

    def multi_positive(self) -> Tensor:
        """As in `MoCo`."""
        q = self.q.clone().requires_grad_()
        positive = torch.einsum("bd,bkd->bk", q, self.k)
        keys = self.queue.keys.clone()
        negative = q @ keys.T
        own = find_relatives(
            self.codes, self.queue.codes, ~self.queue.filled[None], ignore="patient", affinity=AFFINITY
        )
        loss = contrastive_loss(
            positive, torch.ones(BATCH, 1), negative, own.ignored, temperature=TEMPERATURE, found=own.found(q, keys)
        )
        loss.backward()
        return loss.detach()


def resident() -> int:
    """Resident size of this process in bytes."""
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * 4096


def peak(name: str) -> float:
    """MiB that one step needs at its highest, seen by a thread that looks every 0.2 ms."""
    step, highest, done = Step(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, resident())
            time.sleep(0.0002)

    before = resident()
    watcher = threading.Thread(target=watch)
    watcher.start()
    getattr(step, name)()
    done.set()
    watcher.join()
    return (highest - before) / 2**20


def main() -> None:
    """Print medians and ratios."""
    torch.set_num_threads(2)
    if len(sys.argv) > 1:
        print(peak(sys.argv[1]))
        return
    names = ("info_nce", "multi_positive")
    step = Step()
    times: dict[str, list[float]] = {name: [] for name in names}
    for i in range(ROUNDS + 1):
        for name in names if i % 2 else names[::-1]:
            started = time.perf_counter()
            getattr(step, name)()
            if i:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    ratios = [b / a for a, b in zip(times["info_nce"], times["multi_positive"], strict=True)]
    print(f"{BATCH} queries, {QUEUE:,} keys of {DIM} numbers, {ROUNDS} rounds in turn")
    print("; ".join(f"{name} {1e3 * statistics.median(times[name]):.0f} ms" for name in names))
    print(f"time ratio: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    memory: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(3):
        for name in names:
            out = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True).stdout
            memory[name].append(float(out))
    peaks = {name: statistics.median(values) for name, values in memory.items()}
    print("; ".join(f"{name} {value:.0f} MiB" for name, value in peaks.items()))
    print(f"memory ratio: {peaks['multi_positive'] / peaks['info_nce']:.2f}")


if __name__ == "__main__":
    main()
