"""Which pairs of radiographs show whether an embedding recognises a patient."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Similarities of all radiographs with each other are computed: 10,000 take 5 s on a core.
MAX_RADIOGRAPHS, MAX_OF_A_PATIENT = 10_000, 100
# Drawing 50,000 of all pairs moves an AUC by less than 0.002, far below what the choice of patients does.
MAX_SAME, MAX_DIFFERENT, FEWEST = 20_000, 50_000, 1_000


@dataclass(frozen=True, kw_only=True)
class Side:
    """The radiographs that are compared; one row each.

    Attributes:
        patients: (N,) codes.
        studies: (N,) codes, perhaps only unique within a patient.
        laterality: (N,) text: only equal ones are compared.
        position: (N,) text: the view position.
    """

    patients: NDArray[np.int64]
    studies: NDArray[np.int64]
    laterality: NDArray[Any]
    position: NDArray[Any]

    def take(self, rows: NDArray[np.int64]) -> "Side":
        """Some of the rows."""
        return Side(
            patients=self.patients[rows],
            studies=self.studies[rows],
            laterality=self.laterality[rows],
            position=self.position[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs that may be compared with each other: the same laterality, the same two view positions.

    Attributes:
        rows: (P, 2) row numbers.
        same: (P,) whether both are of one patient (then of different studies).
    """

    rows: NDArray[np.int64]
    same: NDArray[np.bool_]


def bounded_rows(
    patients: NDArray[np.int64], *, seed: int, at_most: int = MAX_RADIOGRAPHS, of_a_patient: int = MAX_OF_A_PATIENT
) -> NDArray[np.int64]:
    """Rows of randomly chosen patients, in order, at most so many, and at most so many of any one patient."""
    rng = np.random.default_rng([seed, 1])
    order, place = rng.permutation(len(patients)), rng.permutation(int(patients.max(initial=-1)) + 1)
    ordered = order[np.argsort(place[patients[order]], kind="stable")]  # patients in random order, and their rows too
    _, start, size = np.unique(place[patients[ordered]], return_index=True, return_counts=True)
    ordered = ordered[np.arange(len(ordered)) - np.repeat(start, size) < of_a_patient]
    if len(ordered) > at_most:
        ends = np.flatnonzero(np.append(np.diff(patients[ordered]) != 0, True)) + 1
        ordered = ordered[: ends[max(0, int((ends <= at_most).sum()) - 1)]]
    return np.sort(ordered)


def draw_pairs(
    side: Side, *, seed: int, at_most_same: int = MAX_SAME, at_most_different: int = MAX_DIFFERENT
) -> list[Pairs]:
    """All pairs that are compared, or a random part of them where there are too many; strata with both kinds only.

    Args:
        side: the radiographs.
        seed: of the draws.
        at_most_same: pairs of one patient, of all strata together.
        at_most_different: pairs of two patients, of all strata together, shared out as those of one patient are.
    """
    rng = np.random.default_rng([seed, 2])
    views = [f"{a}, {b}" for a, b in zip(side.laterality, side.position, strict=True)]
    groups, code = np.unique(np.array(views, dtype=str), return_inverse=True)
    same = _same_patient(side)
    same = np.sort(rng.permutation(same)[:at_most_same]) if len(same) > at_most_same else same
    kinds = np.sort(code[same], axis=1) @ np.array([len(groups), 1]) if len(same) else np.empty(0, dtype=np.int64)
    strata = []
    for kind, count in zip(*np.unique(kinds, return_counts=True), strict=True):
        one, other = (np.flatnonzero(code == number) for number in divmod(int(kind), len(groups)))
        wanted = max(FEWEST, at_most_different * int(count) // len(same))
        different = _different_patients(one, other, side.patients, wanted, rng)
        if len(different):
            rows = np.concatenate([same[kinds == kind], different])
            strata.append(Pairs(rows=rows, same=np.arange(len(rows)) < count))
    return strata


def _same_patient(side: Side) -> NDArray[np.int64]:
    """Pairs (P, 2) of one patient: other studies, equal laterality; the lower row first."""
    order = np.argsort(side.patients, kind="stable")
    found = [np.empty((0, 2), dtype=np.int64)]
    for rows in np.split(order, np.flatnonzero(np.diff(side.patients[order])) + 1):
        a, b = (rows[index] for index in np.triu_indices(len(rows), 1))
        good = (side.studies[a] != side.studies[b]) & (side.laterality[a] == side.laterality[b])
        found.append(np.column_stack([a[good], b[good]]))
    return np.concatenate(found)


def _different_patients(
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    patients: NDArray[np.int64],
    wanted: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Pairs (P, 2) of a row of `one` and a row of `other` of two patients: all, or `wanted` drawn without repeats."""
    within = np.array_equal(one, other)
    if len(one) * len(other) <= (2 * wanted if within else wanted):
        a, b = (side.ravel() for side in np.meshgrid(one, other, indexing="ij"))
    else:
        # Some are of one patient, or drawn twice; the rest is still enough unless one patient is most of the rows.
        a, b = (rng.choice(side, 4 * wanted) for side in (one, other))
    pairs = np.column_stack([a, b])[patients[a] != patients[b]]
    if within:
        pairs.sort(axis=1)
    pairs = np.unique(pairs, axis=0)
    return pairs if len(pairs) <= wanted else pairs[np.sort(rng.choice(len(pairs), wanted, replace=False))]
