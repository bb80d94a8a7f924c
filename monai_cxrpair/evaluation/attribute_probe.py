"""Can the view or the machine be read from the embedding? A linear probe for something that is no finding."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monai_cxrpair.evaluation.patient_pairs import bounded_rows
from monai_cxrpair.evaluation.probe import LinearProbe
from monai_cxrpair.evaluation.statistics.auc import weighted_aucs
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, patient_weights
from monai_cxrpair.evaluation.statistics.subgroups import MIN_PATIENTS

# What is plain to see needs few rows: more than these would cost time and change nothing.
MAX_TRAIN, MAX_TEST, MAX_CLASSES = 2_000, 10_000, 20
REPLICATES = 1_000


def attribute_probe(
    embeddings: Mapping[str, NDArray[np.floating[Any]]],
    values: NDArray[Any],
    patients: NDArray[np.int64],
    train_rows: NDArray[np.int64],
    test_rows: NDArray[np.int64],
    *,
    seed: int,
    replicates: int = REPLICATES,
) -> dict[str, dict[str, Any]]:
    """The AUC of a linear probe for each value of an attribute against the others, and their plain mean.

    The probe learns from the training side, from at most `MAX_TRAIN` radiographs of randomly drawn patients; a value
    counts where both sides have ten patients with it. All encoders get the same rows and the same replicates.

    Args:
        embeddings: name -> (N, F).
        values: (N,) text; empty where it is not known.
        patients: (N,) codes.
        train_rows: rows to learn from.
        test_rows: rows to measure on, of other patients.
        seed: of draws and bootstrap.
        replicates: of the patient bootstrap.

    Returns:
        Name -> `auc` (mean over the values; of two values that of one), `ci95`, `classes`, `radiographs` and
        `patients` of the test side, `replicates_dropped`; or `not_measured`, why not.
    """
    learn, ask = (
        rows[bounded_rows(patients[rows], seed=seed, at_most=most)]
        for rows, most in (
            (train_rows[values[train_rows] != ""], MAX_TRAIN),
            (test_rows[values[test_rows] != ""], MAX_TEST),
        )
    )
    classes = _usable(values, patients, learn, ask)
    if len(classes) < 2:
        known = len(np.unique(values[np.concatenate([learn, ask])].astype(str)))
        reason = f"of {known} values {len(classes)} have {MIN_PATIENTS} patients on both sides, two are needed"
        reason = {0: "not recorded", 1: "the same for all radiographs"}.get(known, reason)
        return {name: {"not_measured": reason} for name in embeddings}
    learn, ask = (rows[np.isin(values[rows], classes)] for rows in (learn, ask))
    weights = patient_weights(patients[ask], replicates=replicates, seed=seed)
    weights = np.concatenate([np.ones((1, len(ask)), dtype=weights.dtype), weights])  # first everybody once
    asked = classes[:1] if len(classes) == 2 else classes
    found = {}
    for name, table in embeddings.items():
        aucs = []
        for value in asked:
            probe = LinearProbe(seed=seed).fit(table[learn], values[learn] == value, patients[learn])
            aucs.append(weighted_aucs(values[ask] == value, probe.predict_proba(table[ask]), weights))
        macro = np.mean(aucs, axis=0)  # (1 + R,); NaN where a class is not in the replicate
        found[name] = {
            "auc": float(macro[0]),
            "ci95": list(ci95(macro[1:])),
            "classes": len(classes),
            "radiographs": len(ask),
            "patients": len(np.unique(patients[ask])),
            "replicates_dropped": int(np.isnan(macro).sum()),
        }
    return found


def _usable(
    values: NDArray[Any], patients: NDArray[np.int64], learn: NDArray[np.int64], ask: NDArray[np.int64]
) -> list[str]:
    """Values of at least ten patients on both sides, the most frequent ones of the test side, in alphabetic order."""
    counts = [pd.Series(patients[rows]).groupby(values[rows].astype(str)).nunique() for rows in (learn, ask)]
    there = counts[1][(counts[1] >= MIN_PATIENTS) & (counts[0].reindex(counts[1].index, fill_value=0) >= MIN_PATIENTS)]
    return sorted(there.sort_values(ascending=False, kind="stable").index[:MAX_CLASSES].tolist())
