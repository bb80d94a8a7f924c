"""The linear protocol: many encoders, the same label draws, the same test patients, the same bootstrap replicates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_cxrpair.cohort.split.draws import LabelDraws, label_draws
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.measure import has_variance, measure_auc, measure_rest, measure_within
from monai_cxrpair.evaluation.probe import LinearProbe
from monai_cxrpair.evaluation.statistics.bootstrap import draw_weights, patient_weights
from monai_cxrpair.evaluation.statistics.compare import compare_bootstrap, compare_delong, holm
from monai_cxrpair.evaluation.statistics.operating import SENSITIVITY, sensitivity_threshold, youden_threshold

# MoCo-CXR takes 500 (paper section 2); 2,000 steady the third digit of the interval and cost under a second.
REPLICATES = 2000


@dataclass(frozen=True, kw_only=True)
class LinearResult:
    """What the linear protocol measured.

    Attributes:
        encoders: name -> `auc_mean`, `auc_sd` (over draws, None for one draw), `ci95`, `auc_draws`, `c` (penalty of
            each draw), `c_source`, what `measure_rest` adds, and `subgroups` where asked for.
        comparisons: all pairs, `{"a", "b", "protocol", "difference", "ci95", "p", "p_holm", "p_delong",
            "p_delong_holm"}`, difference = a - b; `b` is the one given earlier, so that baselines given first are
            subtracted. `p_holm` corrects `p`, the bootstrap's, for all pairs of the table.
        counts: `train` and `test`, each with radiographs, patients, studies, labelled, present, absent,
            uncertain, missing.
        protocol: what was done: fraction, draws, seed, replicates, sizes, draws thrown away, replicates dropped.
        draws: rows of the embeddings in each draw.
        scores: name -> float64 (draws, n_test), the probability given by each draw's probe.
        test_rows: (n_test,) the rows scored: those of the test side with a certain label.
        test_labels: (n_test,) bool.
        test_patients: (n_test,).
    """

    encoders: dict[str, dict[str, Any]]
    comparisons: list[dict[str, Any]]
    counts: dict[str, dict[str, int]]
    protocol: dict[str, Any]
    draws: list[NDArray[np.int64]]
    scores: dict[str, NDArray[np.float64]]
    test_rows: NDArray[np.int64]
    test_labels: NDArray[np.bool_]
    test_patients: NDArray[np.int64]


def linear_protocol(
    embeddings: Mapping[str, NDArray[np.float32]],
    labels: ArrayLike,
    patients: ArrayLike,
    studies: ArrayLike,
    train_rows: ArrayLike,
    test_rows: ArrayLike,
    *,
    fraction: float,
    draws: int,
    seed: int,
    replicates: int = REPLICATES,
    subgroups: Mapping[str, NDArray[np.bool_]] | None = None,
    drawn: LabelDraws | None = None,
) -> LinearResult:
    """Compare encoders by a linear probe on random label fractions.

    Every encoder learns from the same draws and is tested on the same patients with the same bootstrap replicates,
    so differences are paired. A replicate draws test patients and, unlike MoCo-CXR (paper section 2), label draws too,
    both with replacement: with few labels the draw decides more than the test patients, and an interval that leaves it
    out calls chance a finding. `auc_sd` is over the draws alone; how much depends on the pre-training run needs several
    encoder files.

    Args:
        embeddings: name -> (N, F); F may differ.
        labels: (N,) 1, 0, -1 uncertain, NaN missing; only 1 and 0 are used.
        patients: (N,) integer codes.
        studies: (N,) integer codes.
        train_rows: rows the draws are taken from.
        test_rows: rows to test on, of other patients.
        fraction: share of the labelled training studies in a draw, in (0, 1].
        draws: number of draws.
        seed: of draws, folds and replicates.
        replicates: bootstrap replicates.
        subgroups: name -> (N,) mask; the AUC is also given within each.
        drawn: the draws, as positions in `train_rows`, where they were made beforehand.

    Returns:
        The figures, and the scores behind them.

    Raises:
        CxrPairError: where a patient is on both sides, a class is missing, or shapes do not match.
    """
    y = np.asarray(labels, dtype=np.float64)
    who, which = np.asarray(patients), np.asarray(studies)
    train, test = _rows(train_rows, len(y), "train_rows"), _rows(test_rows, len(y), "test_rows")
    _check_inputs(embeddings, subgroups or {}, length=len(y))
    _check_disjoint(who[train], who[test])

    if drawn is None:
        drawn = label_draws(y[train], who[train], which[train], fraction=fraction, draws=draws, seed=seed)
    draw_rows = [train[rows] for rows in drawn]
    scored = test[(y[test] == 0) | (y[test] == 1)]
    present, groups = y[scored] == 1, who[scored]
    if present.all() or not present.any():
        raise CxrPairError(
            f"the test side has {len(scored)} labelled radiographs, {int(present.sum())} with the finding: both "
            "classes are needed; choose another `finding`, `subset` or split"
        )
    weights = patient_weights(groups, replicates=replicates, seed=seed)
    repeats = draw_weights(draws, replicates=replicates, seed=seed)

    scores: dict[str, NDArray[np.float64]] = {}
    encoders: dict[str, dict[str, Any]] = {}
    samples: dict[str, NDArray[np.float64]] = {}
    for name, table in embeddings.items():
        probes = [LinearProbe(seed=seed).fit(table[rows], y[rows], who[rows]) for rows in draw_rows]
        scores[name] = np.stack([probe.predict_proba(table[scored]) for probe in probes])
        encoders[name], samples[name] = measure_auc(present, scores[name], weights, repeats)
        thresholds = _thresholds(probes, table, y, who, draw_rows)
        encoders[name] |= measure_rest(present, groups, scores[name], weights, repeats, thresholds)
        encoders[name]["c"] = [probe.c for probe in probes]
        encoders[name]["c_source"] = [probe.c_source for probe in probes]
        if subgroups:
            encoders[name]["subgroups"] = {
                group: measure_within(mask[scored], present, groups, scores[name], weights, repeats)
                for group, mask in subgroups.items()
            }
    dropped = int(np.isnan(next(iter(samples.values()))).sum())
    return LinearResult(
        encoders=encoders,
        comparisons=_compare(encoders, samples, scores, present, groups),
        counts={"train": _count(y[train], who[train], which[train]), "test": _count(y[test], who[test], which[test])},
        protocol=_describe(drawn, fraction=fraction, seed=seed, replicates=replicates, dropped=dropped),
        draws=draw_rows,
        scores=scores,
        test_rows=scored,
        test_labels=present,
        test_patients=groups,
    )


def _thresholds(
    probes: Sequence[LinearProbe],
    table: NDArray[np.float32],
    y: NDArray[np.float64],
    who: NDArray[Any],
    draws: Sequence[NDArray[np.int64]],
) -> dict[str, list[float]] | None:
    """Rule -> threshold of each draw, on out-of-fold predictions inside it; None where any draw has too few labels."""
    chosen: dict[str, list[float]] = {f"sensitivity {SENSITIVITY:.0%}": [], "Youden": []}
    for probe, rows in zip(probes, draws, strict=True):
        held = probe.out_of_fold(table[rows], y[rows], who[rows])
        if held is None:
            return None
        for rule, threshold in zip(chosen, (sensitivity_threshold, youden_threshold), strict=True):
            chosen[rule].append(threshold(y[rows], held))
    return chosen


def _compare(
    encoders: Mapping[str, dict[str, Any]],
    samples: Mapping[str, NDArray[np.float64]],
    scores: Mapping[str, NDArray[np.float64]],
    present: NDArray[np.bool_],
    patients: NDArray[Any],
) -> list[dict[str, Any]]:
    """All pairs, with p of the bootstrap and of DeLong (None where a class has one patient), corrected by Holm."""
    testable = has_variance(present, patients)
    pairs: list[dict[str, Any]] = [
        {
            "a": a,
            "b": b,
            "protocol": "linear",
            "difference": encoders[a]["auc_mean"] - encoders[b]["auc_mean"],
            **compare_bootstrap(samples[a], samples[b]),
            "p_delong": compare_delong(present, scores[a], scores[b], patients)["p"] if testable else None,
        }
        for b, a in combinations(encoders, 2)
    ]
    for key in ("p", "p_delong") if testable else ("p",):
        for pair, corrected in zip(pairs, holm([pair[key] for pair in pairs]), strict=True):
            pair[f"{key}_holm"] = float(corrected)
    return pairs


def _rows(rows: ArrayLike, length: int, name: str) -> NDArray[np.int64]:
    values = np.asarray(rows)
    if values.dtype == np.bool_ or values.ndim != 1:
        raise CxrPairError(f"{name} must be row numbers (n,), got {values.dtype} of shape {values.shape}")
    if not len(values):
        raise CxrPairError(f"{name} is empty: the split leaves no radiograph on that side")
    if values.min() < 0 or values.max() >= length or len(np.unique(values)) != len(values):
        raise CxrPairError(f"{name} must be distinct rows from 0 to {length - 1}, got {values.min()} to {values.max()}")
    return values.astype(np.int64)


def _check_inputs(
    embeddings: Mapping[str, NDArray[np.float32]], subgroups: Mapping[str, NDArray[np.bool_]], *, length: int
) -> None:
    if not embeddings:
        raise CxrPairError("no encoder to evaluate: give `encoder_file` or a baseline")
    for name, table in embeddings.items():
        if table.ndim != 2 or len(table) != length:
            raise CxrPairError(f"embeddings of '{name}' must be ({length}, F), got {table.shape}")
    for name, mask in subgroups.items():
        if mask.dtype != np.bool_ or mask.shape != (length,):
            raise CxrPairError(f"subgroup '{name}' must be a bool mask ({length},), got {mask.dtype} {mask.shape}")


def _check_disjoint(train_patients: NDArray[np.int64], test_patients: NDArray[np.int64]) -> None:
    """Invariant 1. The draws are rows of the training side, so this covers them."""
    shared = np.intersect1d(train_patients, test_patients)
    if len(shared):
        raise CxrPairError(
            f"{len(shared)} patients are on the training and on the test side (codes {shared[:5].tolist()}): "
            "split by patient"
        )


def _count(labels: NDArray[np.float64], patients: NDArray[np.int64], studies: NDArray[np.int64]) -> dict[str, int]:
    present, absent = int((labels == 1).sum()), int((labels == 0).sum())
    return {
        "radiographs": len(labels),
        "patients": len(np.unique(patients)),
        "studies": np.unique(np.stack([patients, studies]), axis=1).shape[1],
        "labelled": present + absent,
        "present": present,
        "absent": absent,
        "uncertain": int((labels == -1).sum()),
        "missing": int(np.isnan(labels).sum()),
    }


def _describe(drawn: LabelDraws, *, fraction: float, seed: int, replicates: int, dropped: int) -> dict[str, Any]:
    sizes = [len(rows) for rows in drawn]
    return {
        "label_fraction": fraction,
        "draws": len(drawn),
        "seed": seed,
        "replicates": replicates,
        "replicates_dropped": dropped,
        "uncertain": "ignore",
        "level": "image",
        "labelled_studies": drawn.labelled_studies,
        "studies_per_draw": drawn.studies_per_draw,
        "radiographs_per_draw": [min(sizes), max(sizes)],
        "redrawn": drawn.redrawn,
        "draws_from": drawn.source,
    }
