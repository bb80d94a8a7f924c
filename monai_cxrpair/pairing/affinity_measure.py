"""Measures an affinity table: how far a patient's studies agree, by the time between them, corrected for chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.affinity_table import AffinityTable
from monai_cxrpair.pairing.codes import CODES, UNKNOWN, metadata_codes
from monai_cxrpair.pairing.properties import Ints

Floats = npt.NDArray[np.float64]

# Lower edges of the time bins; the last is open. Days: a stay in hospital, weeks, months, years.
DAY_EDGES = (0, 1, 3, 7, 14, 30, 90, 365, 1095)
STUDY_EDGES = (0, 1, 2, 3, 4, 6, 11, 21)
MIN_PAIRS = 30  # a bin with fewer says nothing

_NOTHING: dict[str, Any] = {"days": ((0.0, 0.0),), "studies": ((0.0, 0.0),)}


def table_from_labels(
    cohort: Cohort,
    finding: str,
    *,
    day_edges: Sequence[int] = DAY_EDGES,
    study_edges: Sequence[int] = STUDY_EDGES,
    min_pairs: int = MIN_PAIRS,
) -> AffinityTable:
    """How often two studies of a patient agree on a finding, by the time between them: (a - c) / (1 - c).

    `c` is the agreement of studies of two patients, p^2 + (1 - p)^2 at prevalence p. Not mentioned counts as absent,
    uncertain studies are left out; a study has the finding where one of its radiographs has it.

    Args:
        cohort: its labelled part is enough.
        finding: a label column.
        day_edges: lower edges of the bins in days, from 0.
        study_edges: the same in studies apart.
        min_pairs: a bin with fewer pairs takes the value of its neighbour.

    Raises:
        CxrPairError: there is no such finding, all studies agree on it, or too few pairs.
    """
    if finding not in cohort.findings:
        raise CxrPairError(f"the cohort has no finding {finding!r}; there are: {', '.join(cohort.findings)}")
    labels = cohort.table.groupby("study_id", sort=False)[finding].agg(["max", "min"])
    present = (labels["max"] == 1).to_numpy()  # in the order in which the studies first appear, as their codes
    certain = present | (labels["min"] != -1).to_numpy()
    prevalence = present[certain].mean() if certain.any() else 0.0
    chance = prevalence**2 + (1 - prevalence) ** 2
    if chance == 1:
        raise CxrPairError(f"{finding}: all labelled studies agree on it, so nothing can be measured")
    _, first = np.unique(metadata_codes(cohort)[:, CODES.index("study")], return_index=True)
    codes = metadata_codes(cohort)[first]
    bins = _Bins(day_edges, study_edges)
    for i, j in patient_pairs(codes):
        keep = certain[i] & certain[j]
        bins.add(codes[i[keep]], codes[j[keep]], (present[i[keep]] == present[j[keep]]).astype(np.float64))
    return bins.table(low=float(chance), high=1.0, min_pairs=min_pairs, source=f"labels of {finding}")


def table_from_embeddings(
    cohort: Cohort,
    embeddings: npt.NDArray[np.floating[Any]],
    *,
    neighbours: int = 100,
    day_edges: Sequence[int] = DAY_EDGES,
    study_edges: Sequence[int] = STUDY_EDGES,
    min_pairs: int = MIN_PAIRS,
    seed: int = 0,
) -> AffinityTable:
    """The same without labels: the share of nearest neighbours that two radiographs of a patient have in common.

    Neighbours are sought among other patients, by cosine similarity, so that being the same person counts for
    nothing. (overlap - c) / (s - c), where c is the overlap of radiographs of two patients drawn at random, and s that
    of two radiographs of one study, whose affinity is 1; without `min_pairs` of the latter, s is 1.

    Args:
        cohort: a few thousand radiographs are enough; time and memory grow with their square and their number.
        embeddings: (N, F), row i of radiograph i.
        neighbours: k; more of them see a coarser likeness with less noise.
        day_edges: as in `table_from_labels`.
        study_edges: as there.
        min_pairs: as there.
        seed: of the random pairs.

    Raises:
        CxrPairError: the wrong number of embeddings, fewer than k radiographs of other patients, or too few pairs.
    """
    if embeddings.shape[:1] != (len(cohort),) or embeddings.ndim != 2:
        raise CxrPairError(
            f"embeddings are {embeddings.shape}: one row for each of {len(cohort)} radiographs is needed"
        )
    codes = metadata_codes(cohort)
    patient, study = codes[:, CODES.index("patient")], codes[:, CODES.index("study")]
    if (len(patient) - np.bincount(patient)).min() < neighbours:
        raise CxrPairError(f"neighbours is {neighbours}: there are not so many radiographs of other patients")
    nearest = nearest_of_other_patients(embeddings, patient, neighbours)
    rng = np.random.default_rng(seed)
    i, j = rng.integers(0, len(patient), (2, 20_000))
    chance = overlap(nearest, i[patient[i] != patient[j]], j[patient[i] != patient[j]]).mean()
    bins, same = _Bins(day_edges, study_edges), []
    for i, j in patient_pairs(codes):
        shared, one_study = overlap(nearest, i, j), study[i] == study[j]
        same.append(shared[one_study])
        bins.add(codes[i[~one_study]], codes[j[~one_study]], shared[~one_study])
    within = np.concatenate(same) if same else np.zeros(0)
    high = float(within.mean()) if len(within) >= min_pairs else 1.0
    if high <= chance:
        raise CxrPairError(
            "embeddings: radiographs of one study are no nearer than any two, so nothing can be measured"
        )
    source = f"{neighbours} nearest neighbours"
    return bins.table(low=float(chance), high=high, min_pairs=min_pairs, source=source)


def patient_pairs(codes: Ints) -> Iterator[tuple[Ints, Ints]]:
    """All pairs of rows of the same patient, each once, some at a time: those 1 apart, 2 apart, ... when sorted."""
    patient = codes[:, CODES.index("patient")]
    order = np.argsort(patient, kind="stable")
    for apart in range(1, len(order)):
        i, j = order[:-apart], order[apart:]
        same = patient[i] == patient[j]
        if not same.any():
            return
        yield i[same], j[same]


def nearest_of_other_patients(embeddings: npt.NDArray[Any], patient: Ints, k: int) -> Ints:
    """Row numbers of the k nearest radiographs of other patients by cosine similarity, (N, k), sorted by number."""
    unit = embeddings.astype(np.float32)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    out = np.empty((len(unit), k), dtype=np.int64)
    for start in range(0, len(unit), 1024):
        part = slice(start, start + 1024)
        similarity = unit[part] @ unit.T  # (1024, F) x (F, N)
        similarity[patient[part, None] == patient[None]] = -np.inf
        out[part] = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    return np.sort(out, axis=1)


def overlap(nearest: Ints, i: Ints, j: Ints) -> Floats:
    """The share of neighbours that rows i and j have in common, (P,)."""
    both = np.sort(np.concatenate([nearest[i], nearest[j]], axis=1), axis=1)  # (P, 2k): a shared one is there twice
    return np.asarray((both[:, 1:] == both[:, :-1]).mean(axis=1) * both[:, 1:].shape[1] / nearest.shape[1])


class _Bins:
    """Sums and counts of an agreement by time: days where both have a date, else studies apart."""

    def __init__(self, day_edges: Sequence[int], study_edges: Sequence[int]) -> None:
        self.edges = {"days": np.asarray(day_edges), "studies": np.asarray(study_edges)}
        for unit, edges in self.edges.items():  # the same rule as for a table that is read
            AffinityTable(**{**_NOTHING, unit: tuple((float(edge), 0.0) for edge in edges)})
        self.sums = {unit: np.zeros(len(edges)) for unit, edges in self.edges.items()}
        self.counts = {unit: np.zeros(len(edges), dtype=np.int64) for unit, edges in self.edges.items()}

    def add(self, one: Ints, other: Ints, agreement: Floats) -> None:
        """Count pairs: their codes (P, C) and their agreement (P,)."""
        day, order = CODES.index("day"), CODES.index("order")
        dated = (one[:, day] != UNKNOWN) & (other[:, day] != UNKNOWN)
        for unit, column, rows in (("days", day, dated), ("studies", order, ~dated)):
            bins = len(self.edges[unit])
            at = np.searchsorted(self.edges[unit], np.abs(one[rows, column] - other[rows, column]), side="right") - 1
            self.sums[unit] += np.bincount(at, agreement[rows], minlength=bins)
            self.counts[unit] += np.bincount(at, minlength=bins)

    def table(self, *, low: float, high: float, min_pairs: int, source: str) -> AffinityTable:
        """(mean - low) / (high - low) of each bin; one with too few pairs takes the value of the bin before it.

        Those before the first take the first. A unit without any stays 0: neither attracted nor repelled.
        """
        measured: dict[str, tuple[tuple[float, float], ...]] = {}
        for unit, edges in self.edges.items():
            counted = np.flatnonzero(self.counts[unit] >= min_pairs)
            if not len(counted):
                continue
            taken = counted[np.maximum(np.searchsorted(counted, np.arange(len(edges)), side="right") - 1, 0)]
            value = np.clip((self.sums[unit][taken] / self.counts[unit][taken] - low) / (high - low), 0.0, 1.0)
            measured[unit] = tuple(zip(edges.astype(float).tolist(), value.round(4).tolist(), strict=True))
        if not measured:
            pairs = sum(int(counts.sum()) for counts in self.counts.values())
            raise CxrPairError(f"no time bin has {min_pairs} pairs of studies of one patient; there are {pairs} in all")
        return AffinityTable(**{**_NOTHING, **measured}, source=source)
