"""Drawing a partner: the candidate index against filtering the table for every sample, as the paper's code does.

    python benchmarks/pair_draw.py [--table CHEXPERT_TRAIN_CSV] [--rows 223414 1000000 10000000]

Without a table, a made-up cohort of CheXpert's size (223,414 radiographs of 64,540 patients) is used. `--rows` builds
the index and draws from it at these sizes, patient after patient as `cxrpair index` writes them (`--shuffled`: in
random order, the worst case); 10 million need about 2 GB. Building is timed in seconds of the processor.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
import tracemalloc

import numpy as np
import pandas as pd

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.pairing import CandidateIndex, PairCriterion, PairSampler, build_index
from monai_cxrpair.pairing.candidates import build_index_from_codes

ROWS, ROWS_PER_PATIENT, PAIRS, BATCH = 223_414, 3.46, 15, 1024
DAY = 86_400_000_000  # microseconds

RULES = {
    "same study": PairCriterion(study="same"),
    "distinct study and laterality": PairCriterion(study="distinct", laterality="distinct"),
    "another study within a year": PairCriterion(study="distinct", max_days=365),
    "all studies, size of distinct": PairCriterion(size_like=PairCriterion(study="distinct")),
}


def made_up(rows: int, *, shuffled: bool = False) -> dict[str, np.ndarray]:
    """Codes of patients with 1 to 3 studies."""
    rng = np.random.default_rng(0)
    patient = rng.integers(0, int(rows / ROWS_PER_PATIENT), rows)
    patient = patient if shuffled else np.sort(patient)
    study = pd.factorize(patient * 4 + np.minimum(rng.geometric(0.5, rows), 3))[0].astype(np.int64)
    return {
        "patient": patient, "study": study, "laterality": (rng.random(rows) < 0.145).astype(np.int64),
        "time": rng.integers(0, 3650, int(study.max()) + 1)[study] * DAY,
    }  # fmt: skip


def made_up_table(rows: int) -> pd.DataFrame:
    """The same as text."""
    codes = made_up(rows)
    laterality = np.where(codes["laterality"] == 1, "lateral", "frontal")
    patient, study = (pd.Series(codes[name]).astype(str) for name in ("patient", "study"))
    return pd.DataFrame({"patient_id": "patient" + patient, "study_id": "study" + study, "laterality": laterality})


def chexpert(path: str) -> pd.DataFrame:
    """Patient, study and laterality of the published table."""
    parts = pd.read_csv(path, usecols=["Path"])["Path"].str.extract(r"(patient\d+)/(study\d+)/view\d+_(\w+)")
    return pd.DataFrame({"patient_id": parts[0], "study_id": parts[0] + "/" + parts[1], "laterality": parts[2]})


def by_filter(table: pd.DataFrame, row: int, rng: np.random.Generator) -> int:
    """One draw by scanning a copy of the table, whose ids are text."""
    copy = table.copy(deep=True)  # pandas 3 copies on write; the paper's code, on pandas 1, copied here
    same_patient = copy["patient_id"] == copy["patient_id"][row]
    found = copy[same_patient & (copy["study_id"] == copy["study_id"][row])]
    return int(found.index[rng.integers(0, len(found))])


def against_filter(table: pd.DataFrame) -> None:
    """Time both in turn through the public interface, and print the medians and their ratio."""
    table["image_id"] = [f"i{i}" for i in range(len(table))]
    table["path"] = table["image_id"]
    cohort = Cohort(table, root=".", findings=[], source="benchmark")  # type: ignore[arg-type]
    for name, rule in RULES.items():
        if not rule.by_time:
            started = time.perf_counter()
            index = build_index(cohort, rule)
            seconds = time.perf_counter() - started
            print(
                f"{len(table):,} radiographs, {name}: index built in {seconds:.2f} s, {per_row(index):.0f} bytes each"
            )
    sampler = PairSampler(cohort, PairCriterion(study="same", include_self=True), seed=0)
    text = table[["patient_id", "study_id"]].astype(object)  # as pandas 1 kept text
    rng = np.random.default_rng(0)
    slow, fast = [], []
    for _ in range(PAIRS):
        rows = rng.integers(0, len(table), BATCH)
        started = time.perf_counter()
        for row in rows[:4]:
            by_filter(text, int(row), rng)
        slow.append((time.perf_counter() - started) / 4)
        started = time.perf_counter()
        sampler.draw(rows)
        fast.append((time.perf_counter() - started) / len(rows))
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    print(f"filter {statistics.median(slow) * 1e3:.2f} ms, index {statistics.median(fast) * 1e9:.0f} ns per draw")
    print(
        f"ratio: median {statistics.median(ratios):,.0f} ({min(ratios):,.0f} to {max(ratios):,.0f}) over {PAIRS} pairs"
    )


def per_row(index: CandidateIndex) -> float:
    """Bytes of the index for each radiograph."""
    return index.nbytes / len(index.sizes)


def at_scale(sizes: list[int], *, shuffled: bool) -> None:
    """Build every rule at every size, and draw from all sizes in turn."""
    for name, rule in RULES.items():
        indices, seconds = {}, {}
        for rows in sizes:
            codes = made_up(rows, shuffled=shuffled)
            tracemalloc.start()
            started = time.process_time()  # of the processor: others may be at work here
            indices[rows] = build_index_from_codes(
                codes["patient"], codes["study"], codes["laterality"], rule, time=codes["time"]
            )
            seconds[rows] = time.process_time() - started
            peak = tracemalloc.get_traced_memory()[1] / rows
            tracemalloc.stop()
            print(
                f"{name}, {rows:,} rows: built in {seconds[rows]:.2f} s, {per_row(indices[rows]):.0f} bytes per row, "
                f"{peak:.0f} at the peak of building"
            )
        rng, draws = np.random.default_rng(0), {rows: [] for rows in sizes}
        for _ in range(200):
            for rows, times in draws.items():
                queries = rng.integers(0, rows, BATCH)
                started = time.perf_counter()
                indices[rows].draw(queries, 1, rng)
                times.append((time.perf_counter() - started) / BATCH)
        for rows, times in draws.items():
            ratio = statistics.median(times) / statistics.median(draws[sizes[0]])
            built = seconds[rows] / seconds[sizes[-2]] if len(sizes) > 1 else 1.0
            print(
                f"{name}, {rows:,} rows: {statistics.median(times) * 1e9:.0f} ns per draw, {ratio:.2f} x that of "
                f"{sizes[0]:,}; built in {built:.2f} x the time of {sizes[max(0, len(sizes) - 2)]:,}"
            )
    print(f"most memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


def main() -> None:
    """Read the arguments and run both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", help="CheXpert's train.csv, in place of a made-up cohort of its size")
    parser.add_argument("--rows", type=int, nargs="*", default=[ROWS, 1_000_000], help="sizes to build and draw at")
    parser.add_argument("--shuffled", action="store_true", help="rows in random order")
    arguments = parser.parse_args()
    against_filter(chexpert(arguments.table) if arguments.table else made_up_table(ROWS))
    if arguments.rows:
        at_scale(arguments.rows, shuffled=arguments.shuffled)


if __name__ == "__main__":
    main()
