"""One protocol: many encoders, the same label draws, the same test patients, the same bootstrap replicates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.cohort.split.draws import LabelDraws
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.measure import has_variance, measure_auc, measure_calibrated, measure_rest, measure_within
from monai_cxrpair.evaluation.protocols.data import Cases
from monai_cxrpair.evaluation.protocols.learned import Learned, Learner
from monai_cxrpair.evaluation.statistics.bootstrap import draw_weights, patient_weights
from monai_cxrpair.evaluation.statistics.calibration import fit_temperature
from monai_cxrpair.evaluation.statistics.compare import compare_bootstrap, compare_delong, holm
from monai_cxrpair.evaluation.statistics.operating import SENSITIVITY, sensitivity_threshold, youden_threshold

# MoCo-CXR takes 500 (paper section 2); 2,000 steady the third digit of the interval and cost under a second.
REPLICATES = 2000


@dataclass(frozen=True, kw_only=True)
class ProtocolResult:
    """What a protocol measured.

    Attributes:
        encoders: name -> `auc_mean`, `auc_sd` (over draws, None for one draw), `ci95`, `auc_draws`, what the learner
            tells (of the linear probe `c`, the penalty of each draw, and `c_source`), what `measure_rest` adds, and
            `subgroups` where asked for.
        comparisons: all pairs, `{"a", "b", "protocol", "difference", "ci95", "p", "p_holm", "p_delong",
            "p_delong_holm"}`, difference = a - b; `b` is the one given earlier, so that baselines given first are
            subtracted. `p_holm` corrects `p`, the bootstrap's, for all pairs of the table.
        counts: `train` and `test`, each with radiographs, patients, studies, labelled, present, absent,
            uncertain, missing.
        protocol: what was done: fraction, draws, seed, replicates, sizes, draws thrown away, replicates dropped.
        draws: rows of the embeddings in each draw.
        scores: name -> float64 (draws, U), the probability given by each draw's model.
        radiograph_scores: name -> float64 (draws, n_test), the same of each radiograph.
        test_rows: (n_test,) the rows scored: those of the test side with a certain label.
        test_labels: (U,) bool, of radiographs or studies as `cases.aggregate` says.
        test_patients: (U,).
        cases: what was given.
    """

    encoders: dict[str, dict[str, Any]]
    comparisons: list[dict[str, Any]]
    counts: dict[str, dict[str, int]]
    protocol: dict[str, Any]
    draws: list[NDArray[np.int64]]
    scores: dict[str, NDArray[np.float64]]
    radiograph_scores: dict[str, NDArray[np.float64]]
    test_rows: NDArray[np.int64]
    test_labels: NDArray[np.bool_]
    test_patients: NDArray[np.int64]
    cases: Cases


def run_protocol(
    protocol: str,
    learner: Learner,
    encoders: Sequence[str],
    cases: Cases,
    drawn: LabelDraws,
    *,
    seed: int,
    replicates: int = REPLICATES,
    label_fraction: float | None = None,
    calibrate: bool = False,
) -> ProtocolResult:
    """Compare encoders under one protocol.

    Every encoder learns from the same draws and is tested on the same patients with the same bootstrap replicates,
    so differences are paired. A replicate draws test patients and, unlike MoCo-CXR (paper section 2), label draws too,
    both with replacement: with few labels the draw decides more than the test patients, and an interval that leaves it
    out calls chance a finding. `auc_sd` is over the draws alone; how much depends on the pre-training run needs several
    encoder files.

    Args:
        protocol: its name.
        learner: what learns from the draws.
        encoders: names that the learner knows.
        cases: labels, patients and sides.
        drawn: the draws, as positions in `cases.train`.
        seed: of the replicates.
        replicates: bootstrap replicates.
        label_fraction: what was asked for, for the report; None where it was no fraction.
        calibrate: measure the probabilities after temperature scaling too, as `calibrated` of each encoder; the
            temperature of a draw is fitted on what was held out inside it, never on the test side.

    Returns:
        The figures, and the scores behind them.
    """
    if not encoders:
        raise CxrPairError("no encoder to evaluate: give `encoder_file` or a baseline")
    units = cases.units
    draw_rows = [cases.train[rows] for rows in drawn]
    weights = patient_weights(units.patients, replicates=replicates, seed=seed)
    repeats = draw_weights(len(draw_rows), replicates=replicates, seed=seed)

    scores: dict[str, NDArray[np.float64]] = {}
    radiograph_scores: dict[str, NDArray[np.float64]] = {}
    figures: dict[str, dict[str, Any]] = {}
    samples: dict[str, NDArray[np.float64]] = {}
    for name in encoders:
        learned = learner.learn(name, draw_rows, units.rows)
        radiograph_scores[name], scores[name] = learned.scores, units.pool(learned.scores)
        figures[name], samples[name] = measure_auc(units.present, scores[name], weights, repeats)
        held_out = _held_out(learned, cases)
        tested = (units.present, units.patients, scores[name], weights, repeats)
        figures[name] |= measure_rest(*tested, _thresholds(held_out))
        if calibrate:
            figures[name]["calibrated"] = measure_calibrated(*tested, _temperatures(held_out))
        figures[name] |= learned.details
        if cases.subgroups:
            figures[name]["subgroups"] = _subgroups(learned.scores, cases, weights, repeats)
    dropped = int(np.isnan(next(iter(samples.values()))).sum())
    return ProtocolResult(
        encoders=figures,
        comparisons=_compare(protocol, figures, samples, scores, units.present, units.patients),
        counts=cases.counts(),
        protocol={
            "label_fraction": label_fraction,
            **_describe(drawn, cases),
            "calibrate": calibrate,
            "seed": seed,
            "replicates": replicates,
            "replicates_dropped": dropped,
            **learner.describe(),
        },
        draws=draw_rows,
        scores=scores,
        radiograph_scores=radiograph_scores,
        test_rows=units.rows,
        test_labels=units.present,
        test_patients=units.patients,
        cases=cases,
    )


def _subgroups(
    scores: NDArray[np.float64], cases: Cases, weights: NDArray[np.int16], repeats: NDArray[np.int16]
) -> dict[str, Any]:
    """The AUC in each subgroup; a study is scored by those of its radiographs that belong to it."""
    units, found = cases.units, {}
    for name, mask in cases.subgroups.items():
        inside = mask[units.rows]
        pooled = units.pool(scores, inside)
        tested = (units.present, units.patients, pooled, weights, repeats)
        found[name] = measure_within(units.within(inside), *tested, what=units.what)
    return found


def _held_out(learned: Learned, cases: Cases) -> list[tuple[NDArray[np.bool_], NDArray[np.float64]]] | None:
    """Labels and predictions, as units, of what each draw held out.

    None where any draw has too few labels, or one class only once its radiographs are studies.
    """
    found = []
    for held in learned.held_out:
        if held is None:
            return None
        rows, scores = held
        order = np.argsort(rows)
        units = cases.units_of(rows)
        if units.present.all() or not units.present.any():
            return None
        found.append((units.present, units.pool(scores[order[np.searchsorted(rows[order], units.rows)]])))
    return found


def _thresholds(
    held_out: Sequence[tuple[NDArray[np.bool_], NDArray[np.float64]]] | None,
) -> dict[str, list[float]] | None:
    """Rule -> threshold of each draw."""
    if held_out is None:
        return None
    rules = {f"sensitivity {SENSITIVITY:.0%}": sensitivity_threshold, "Youden": youden_threshold}
    return {name: [rule(present, scores) for present, scores in held_out] for name, rule in rules.items()}


def _temperatures(held_out: Sequence[tuple[NDArray[np.bool_], NDArray[np.float64]]] | None) -> list[float] | None:
    """Temperature of each draw."""
    if held_out is None:
        return None
    return [fit_temperature(present, scores) for present, scores in held_out]


def _compare(
    protocol: str,
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
            "protocol": protocol,
            "difference": encoders[a]["auc_mean"] - encoders[b]["auc_mean"],
            **compare_bootstrap(samples[a], samples[b]),
            **_delong(present, scores[a], scores[b], patients, testable=testable),
        }
        for b, a in combinations(encoders, 2)
    ]
    for key in ("p", "p_delong") if testable else ("p",):
        for pair, corrected in zip(pairs, holm([pair[key] for pair in pairs]), strict=True):
            pair[f"{key}_holm"] = float(corrected)
    return pairs


def _delong(
    present: NDArray[np.bool_],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    patients: NDArray[Any],
    *,
    testable: bool,
) -> dict[str, float | None]:
    """`p_delong`, and `se_test`: how much the difference would change with other test patients alone."""
    found = compare_delong(present, first, second, patients) if testable else {}
    return {"p_delong": found.get("p"), "se_test": found.get("se_test")}


def _describe(drawn: LabelDraws, cases: Cases) -> dict[str, Any]:
    sizes = [len(rows) for rows in drawn]
    return {
        "draws": len(drawn),
        "level": cases.aggregate,
        "tested": len(cases.units.present),
        "studies_with_disagreeing_views": None if cases.aggregate == "image" else cases.units.disagreeing,
        "labelled_studies": drawn.labelled_studies,
        "studies_per_draw": drawn.studies_per_draw,
        "radiographs_per_draw": [min(sizes), max(sizes)],
        "redrawn": drawn.redrawn,
        "draws_from": drawn.source,
    }
