"""The patient bootstrap of 9 models x 2,000 replicates x 500 test studies, against a loop over scikit-learn.

    python benchmarks/bootstrap_speed.py [--models 9] [--replicates 2000] [--studies 500] [--rounds 5]

The weights are drawn once for all models, and drawing them counts. scikit-learn's loop (`roc_auc_score` with
`sample_weight`) is timed on a slice of the replicates and scaled; the slice also shows that both give the same.
The file is not called `statistics.py`, which would hide the standard library's module from the scripts beside it.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from monai_cxrpair.evaluation.statistics.auc import weighted_aucs, weighted_average_precisions
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, patient_weights
from monai_cxrpair.evaluation.statistics.delong import delong

SLICE = 20  # replicates that scikit-learn's loop is timed on
CLAIM = 2.0  # seconds


def main() -> int:
    """Print seconds and ratio; 1 where the claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("models", 9), ("replicates", 2000), ("studies", 500), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    labels = rng.random(given.studies) < 0.3
    models = np.round(rng.normal(size=(given.models, given.studies)) + labels, 2)  # with ties
    patients = rng.integers(0, max(2, given.studies * 4 // 5), given.studies)

    ours, loops, others, worst = [], [], [], 0.0
    for _ in range(given.rounds):
        start = time.perf_counter()
        weights = patient_weights(patients, replicates=given.replicates, seed=0)
        samples = weighted_aucs(labels, models, weights)
        for row in samples:
            ci95(row)
        ours.append(time.perf_counter() - start)

        start = time.perf_counter()
        expected = [[roc_auc_score(labels, row, sample_weight=weight) for weight in weights[:SLICE]] for row in models]
        loops.append((time.perf_counter() - start) * given.replicates / SLICE)
        worst = max(worst, float(np.abs(samples[:, :SLICE] - expected).max()))

        start = time.perf_counter()
        weighted_average_precisions(labels, models, weights)
        middle = time.perf_counter()
        delong(labels, models, patients)
        others.append((middle - start, time.perf_counter() - middle))

    ratios = [loop / our for loop, our in zip(loops, ours, strict=True)]
    print(f"{given.models} models x {given.replicates} replicates x {given.studies} studies, {given.rounds} rounds")
    print(f"bootstrap of the AUC: {statistics.median(ours):.3f} s ({min(ours):.3f} to {max(ours):.3f})")
    print(f"scikit-learn in a loop, scaled from {SLICE} replicates: {statistics.median(loops):.1f} s")
    print(f"ratio {statistics.median(ratios):.0f} ({min(ratios):.0f} to {max(ratios):.0f})")
    print(f"largest difference {worst:.1e}")
    precision, direct = (statistics.median(column) for column in zip(*others, strict=True))
    print(f"average precision, same weights: {precision:.3f} s; clustered DeLong of all: {direct * 1000:.1f} ms")
    return int(statistics.median(ours) >= CLAIM or worst > 1e-9)


if __name__ == "__main__":
    raise SystemExit(main())
