"""Can a patient be recognised by the embedding? Radiographs of one patient from two studies, against two patients.

Packhäuser et al. (2022) verify patients from raw chest radiographs with an AUC of 0.994; pairing by patient trains an
encoder to do just that. Only radiographs of the same laterality are compared, and a pair of one patient is measured
against pairs of two patients with the same two view positions (a covariate-adjusted AUC, Janes and Pepe 2009): an
encoder that knows nothing but the view gets 0.5.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.evaluation.patient_pairs import Pairs, Side, bounded_rows, draw_pairs
from monai_cxrpair.evaluation.statistics.auc import weighted_aucs
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, patient_weights, weighted_sums
from monai_cxrpair.evaluation.statistics.proportion import proportion
from monai_cxrpair.evaluation.statistics.subgroups import MIN_PATIENTS

REPLICATES = 1_000
ROUNDED = 12  # decimals: what differs by a rounding error is a tie
_BLOCK = 4_000_000  # similarities at a time (32 MB)


def reidentification(
    embeddings: Mapping[str, NDArray[np.floating[Any]]],
    side: Side,
    *,
    centre: Mapping[str, NDArray[np.floating[Any]]],
    seed: int,
    replicates: int = REPLICATES,
) -> dict[str, dict[str, Any]]:
    """How well each embedding tells whether two radiographs from different studies are of one patient.

    The score of a pair is the cosine of the centred embeddings. All encoders get the same pairs and the same bootstrap
    replicates. A replicate draws patients with replacement: a pair of one patient counts as often as the patient was
    drawn, a pair of two patients as often as the product of both; a patient drawn twice is never paired with
    itself, which would put a radiograph beside its own copy.

    Args:
        embeddings: name -> (N, F) of the test side.
        side: what is known of these radiographs.
        centre: name -> (F,) what is subtracted: the mean of the training side, so that no replicate centres anew.
        seed: of the pairs and the replicates.
        replicates: how many.

    Returns:
        Name -> `auc`, `ci95`, `against` (not of the first `encoder`: the paired `difference` from it and its `ci95`),
        `pairs` (`same_patient`, `different_patients`), `patients` with such a pair, `replicates_dropped`, and `rank1`:
        the share of radiographs whose nearest of another study is of the same patient (ties counted in part), with
        `ci95` (bootstrap of the asking patients, all others staying), `guessing`, `queries`, `gallery_radiographs`,
        `gallery_patients`. Or `not_measured`, why not.
    """
    kept = bounded_rows(side.patients, seed=seed)
    side = side.take(kept)
    strata = draw_pairs(side, seed=seed)
    who = np.unique(np.concatenate([side.patients[s.rows[s.same, 0]] for s in strata] or [kept[:0]]))
    if len(who) < MIN_PATIENTS:
        reason = f"{len(who)} test patients have two studies of the same laterality, at least {MIN_PATIENTS} are needed"
        return {name: {"not_measured": reason} for name in embeddings}
    units = {name: _unit(table[kept] - centre[name]) for name, table in embeddings.items()}
    multiplicity = patient_weights(side.patients, replicates=replicates, seed=seed)  # (R, N)
    whole = np.ones((1, len(kept)), dtype=np.int16)
    scores = [np.stack([_cosine(u, s.rows) for u in units.values()]) for s in strata]
    values = adjusted_auc(strata, scores, whole)[:, 0]
    samples = adjusted_auc(strata, scores, multiplicity)
    counts = {
        "pairs": {
            "same_patient": int(sum(s.same.sum() for s in strata)),
            "different_patients": int(sum((~s.same).sum() for s in strata)),
        },
        "patients": len(who),
        "replicates_dropped": int(np.isnan(samples[0]).sum()),
    }
    found: dict[str, dict[str, Any]] = {}
    for (name, unit), value, row in zip(units.items(), values, samples, strict=True):
        found[name] = {"auc": float(value), "ci95": list(ci95(row)), **counts}
        if len(found) > 1:
            found[name]["against"] = {
                "encoder": next(iter(found)),
                "difference": float(value - values[0]),
                "ci95": list(ci95(row - samples[0])),
            }
        found[name]["rank1"] = _rank1(unit, side, multiplicity)
    return found


def adjusted_auc(
    strata: list[Pairs], scores: list[NDArray[np.float64]], multiplicity: NDArray[np.int16]
) -> NDArray[np.float64]:
    """The AUC within each stratum, averaged by the weight of the pairs of one patient.

    Args:
        strata: S of them.
        scores: (M, P) of each.
        multiplicity: (R, N) how often each row's patient counts.

    Returns:
        (M, R); NaN where no stratum has pairs of both kinds left.
    """
    total = np.zeros((len(scores[0]), len(multiplicity)))
    mass = np.zeros(len(multiplicity))
    for pairs, values in zip(strata, scores, strict=True):
        one, other = pairs.rows.T
        weights = multiplicity[:, one] * np.where(pairs.same, np.int16(1), multiplicity[:, other])  # (R, P)
        aucs = weighted_aucs(pairs.same, values, weights)  # (M, R)
        there = np.where(np.isnan(aucs[0]), 0, weights[:, pairs.same].sum(axis=1, dtype=np.int64))
        total += np.nan_to_num(aucs) * there
        mass += there
    mean: NDArray[np.float64] = np.divide(total, mass, out=np.full_like(total, np.nan), where=mass > 0)
    return mean


def _unit(table: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Rows of length 1; those of length 0 stay, and are alike to nothing."""
    values = np.asarray(table, dtype=np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(values, length, out=np.zeros_like(values), where=length > 0)
    return unit


def _cosine(unit: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    step = max(1, _BLOCK // max(1, unit.shape[1]))
    blocks = [np.einsum("pf,pf->p", unit[part[:, 0]], unit[part[:, 1]])
              for part in (rows[start : start + step] for start in range(0, len(rows), step))]  # fmt: skip
    cosines: NDArray[np.float64] = np.round(np.concatenate(blocks), ROUNDED)
    return cosines


def _rank1(unit: NDArray[np.float64], side: Side, multiplicity: NDArray[np.int16]) -> dict[str, Any]:
    """Closed-set identification: everybody who asks is in the gallery, with another study."""
    hits, guessing = np.full(len(unit), np.nan), np.full(len(unit), np.nan)
    step = max(1, _BLOCK // len(unit))
    for start in range(0, len(unit), step):
        part = slice(start, start + step)
        own = side.patients[part, None] == side.patients
        gallery = (side.laterality[part, None] == side.laterality) & ~(
            own & (side.studies[part, None] == side.studies)
        )  # (b, N): itself is of its own study
        similarity = np.where(gallery, unit[part] @ unit.T, -np.inf)  # (b, F) x (F, N) -> (b, N)
        nearest = (similarity >= similarity.max(axis=1, keepdims=True) - 10.0**-ROUNDED) & gallery
        mates = (own & gallery).sum(axis=1)
        asks = mates > 0
        hits[part] = np.where(asks, (nearest & own).sum(axis=1) / np.maximum(1, nearest.sum(axis=1)), np.nan)
        guessing[part] = np.where(asks, mates / np.maximum(1, gallery.sum(axis=1)), np.nan)
    asks = ~np.isnan(hits)
    value = float(hits[asks].mean())
    if value in (0.0, 1.0):  # no replicate can differ; Wilson's interval at the number of patients can
        interval = proportion(hits[asks], side.patients[asks])["ci95"]
    else:
        sums = weighted_sums(np.column_stack([hits[asks], np.ones(asks.sum())]), multiplicity[:, asks])
        interval = list(ci95(np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)))
    return {
        "value": value,
        "ci95": interval,
        "guessing": float(guessing[asks].mean()),
        "queries": int(asks.sum()),
        "gallery_radiographs": len(unit),
        "gallery_patients": len(np.unique(side.patients)),
    }
