"""Drawing a partner: the candidate index against filtering the table for every sample, as the paper's code does.

    python benchmarks/pair_draw.py [CHEXPERT_TABLE]

Without a table, a made-up cohort of CheXpert's size (223,414 radiographs of 64,540 patients) is used.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import pandas as pd

from monai_cxrpair.pairing.candidates import build_index_from_codes
from monai_cxrpair.pairing.criterion import PairCriterion

ROWS, PATIENTS, PAIRS = 223_414, 64_540, 15


def columns(path: str | None) -> pd.DataFrame:
    """patient, study, laterality (0 frontal, 1 lateral) of every radiograph."""
    if path:
        parts = pd.read_csv(path, usecols=["Path"])["Path"].str.extract(r"(patient\d+)/(study\d+)/view\d+_(\w+)")
        study = pd.factorize(parts[0] + "/" + parts[1])[0]
        return pd.DataFrame(
            {"patient": pd.factorize(parts[0])[0], "study": study, "laterality": (parts[2] == "lateral").astype(int)}
        )
    rng = np.random.default_rng(0)
    patient = np.sort(rng.integers(0, PATIENTS, ROWS))
    study = patient * 8 + rng.integers(0, 3, ROWS)
    return pd.DataFrame(
        {"patient": patient, "study": pd.factorize(study)[0], "laterality": (rng.random(ROWS) < 0.145).astype(int)}
    )


def by_filter(table: pd.DataFrame, row: int, rng: np.random.Generator) -> int:
    """One draw by scanning a copy of the table, whose ids are text."""
    copy = table.copy(deep=True)  # pandas 3 copies on write; the paper's code, on pandas 1, copied here
    found = copy[(copy["patient"] == copy["patient"][row]) & (copy["study"] == copy["study"][row])]
    return int(found.index[rng.integers(0, len(found))])


def main() -> None:
    """Time both in turn, and print the medians and their ratio."""
    table = columns(sys.argv[1] if len(sys.argv) > 1 else None)
    codes = [table[name].to_numpy(dtype=np.int64) for name in ("patient", "study", "laterality")]
    text = pd.DataFrame(
        {"patient": "patient" + table["patient"].astype(str), "study": "study" + table["study"].astype(str)}
    )
    text = text.astype(object)  # as pandas 1 kept text
    started = time.perf_counter()
    index = build_index_from_codes(*codes, PairCriterion(study="same", include_self=True))
    built = time.perf_counter() - started
    rng = np.random.default_rng(0)
    slow, fast = [], []
    for _ in range(PAIRS):
        rows = rng.integers(0, len(table), 1024)
        started = time.perf_counter()
        for row in rows[:4]:
            by_filter(text, int(row), rng)
        slow.append((time.perf_counter() - started) / 4)
        started = time.perf_counter()
        index.nth(rows, rng.integers(0, index.sizes[rows]))
        fast.append((time.perf_counter() - started) / len(rows))
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    print(f"{len(table):,} radiographs, index built in {built:.2f} s, {5 * 8} bytes per radiograph")
    print(f"filter {statistics.median(slow) * 1e3:.2f} ms, index {statistics.median(fast) * 1e6:.2f} us per draw")
    print(
        f"ratio: median {statistics.median(ratios):,.0f} ({min(ratios):,.0f} to {max(ratios):,.0f}) over {PAIRS} pairs"
    )


if __name__ == "__main__":
    main()
