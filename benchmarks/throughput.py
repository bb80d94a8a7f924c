"""How fast radiographs reach the network, and how fast it is trained with them.

    python benchmarks/throughput.py                 # all parts
    python benchmarks/throughput.py --part a        # pairs/s of our loader against two usual ones
    python benchmarks/throughput.py --part cache    # building, opening and verifying the pixel cache
    python benchmarks/throughput.py --part b        # a training step against the same step on one batch in memory
    python benchmarks/throughput.py --part c        # the trainer against a bare PyTorch loop
    python benchmarks/throughput.py --part d        # our MoCo step against lightly's blocks; says what it needs
    python benchmarks/throughput.py --part e        # cost as queue, cohort and radiographs grow: table and picture

On a CPU; for an accelerator there is gpu.py. 2,000 JPEGs of 390 x 320 (CheXpert-small's size) are made first. What is
compared is run in turn, in one process; all but `cache` prints lines for RESULTS.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from throughput_parts.cache import part_cache
from throughput_parts.growth import part_e
from throughput_parts.lightly_steps import part_d
from throughput_parts.loading import part_a
from throughput_parts.steps import part_b, part_c

PARTS: dict[str, Callable[[Path, int], None]] = {
    "a": part_a, "cache": part_cache, "b": part_b, "c": part_c, "d": part_d, "e": part_e,
}  # fmt: skip


def main() -> None:
    """Print the figures of the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--workers", type=int, default=2, help="processes of the loaders of part a, and of builders")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    with tempfile.TemporaryDirectory() as pictures:  # a to e share JPEGs and caches
        for name, part in PARTS.items():
            if options.part in (name, "all"):
                with tempfile.TemporaryDirectory() as own:
                    part(Path(own if name == "cache" else pictures), options.workers)


if __name__ == "__main__":
    main()
