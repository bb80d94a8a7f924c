"""The split that `cxrpair split` draws."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.split.stratify import stratified_sides
from monai_cxrpair.errors import CxrPairError

FINDINGS = ["effusion", "edema"]


def _cohort(seed: int, patients: int, *, most: int = 6) -> Cohort:
    """Patients with 1 to `most` radiographs; a patient tends to have a finding always or never."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), rng.integers(1, most + 1, patients))
    table = pd.DataFrame({"patient_id": [f"p{number}" for number in owner]}, dtype="str")
    table["image_id"] = [f"i{number}" for number in range(len(table))]
    table["path"], table["study_id"] = table["image_id"], "s" + table["image_id"]
    for name, share in zip(FINDINGS, (0.3, 0.05), strict=True):
        present = (rng.random(patients) < share)[owner] ^ (rng.random(len(owner)) < 0.1)
        table[name] = np.where(rng.random(len(owner)) < 0.2, np.nan, present.astype(float))
    return Cohort(table, root=Path(), findings=FINDINGS, source="table")


def _deviations(cohort: Cohort, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far the share of positives among the labelled is from that of the whole, for each finding."""
    table = cohort.table
    return np.array([abs(table.loc[mask, name].mean() - table[name].mean()) for name in FINDINGS])


def _random(cohort: Cohort, test: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    patients = cohort.codes("patient_id")
    count = patients.max() + 1
    return np.isin(patients, rng.choice(count, round(test * count), replace=False))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(12, 80), st.floats(0.1, 0.4), st.floats(0.0, 0.3), st.booleans())
def test_no_patient_and_no_linked_group_is_on_two_sides(
    seed: int, patients: int, test: float, validation: float, linked: bool
) -> None:
    cohort = _cohort(seed, patients)
    codes = cohort.codes("patient_id")
    groups = np.random.default_rng(seed).integers(0, patients // 2, patients)[codes] if linked else codes
    arguments = {"validation": validation, "test": test, "stratify": FINDINGS}
    sides = stratified_sides(cohort, groups, seed=seed, **arguments)  # type: ignore[arg-type]
    for number in (1, 2):
        assert not set(groups[sides == number]) & set(groups[sides != number])
        wanted = {1: max(1, round(validation * patients)) if validation else 0, 2: max(1, round(test * patients))}
        got = len(set(codes[sides == number]))
        if linked and wanted[number]:  # whole groups come near the number, and nobody may be left without a side
            assert 0 < got < wanted[number] + np.bincount(groups).max()
        else:
            assert got == wanted[number]
    again = stratified_sides(cohort, groups, seed=seed, **arguments)  # type: ignore[arg-type]
    assert np.array_equal(sides, again)


def test_a_number_of_patients_is_met_exactly_and_seeds_differ() -> None:
    cohort = _cohort(0, 300)
    codes = cohort.codes("patient_id")
    drawn = [stratified_sides(cohort, codes, validation=25, test=50, stratify=FINDINGS, seed=s) for s in range(3)]
    assert all(len(set(codes[sides == 2])) == 50 for sides in drawn)
    assert all(len(set(codes[sides == 1])) == 25 for sides in drawn)
    assert len({tuple(sides) for sides in drawn}) == 3


def test_the_shares_of_findings_are_ten_times_nearer_than_by_chance() -> None:
    cohort = _cohort(1, 400)
    codes, rng = cohort.codes("patient_id"), np.random.default_rng(0)
    ours = [
        _deviations(cohort, stratified_sides(cohort, codes, validation=0, test=0.25, stratify=FINDINGS, seed=s) == 2)
        for s in range(5)
    ]
    chance = [_deviations(cohort, _random(cohort, 0.25, rng)) for _ in range(50)]
    assert (np.mean(ours, axis=0) < np.mean(chance, axis=0) / 10).all()


def test_the_shares_are_as_near_as_those_of_scikit_learn() -> None:
    from sklearn.model_selection import StratifiedGroupKFold

    ours, theirs = [], []
    for seed in range(8):
        cohort = _cohort(seed, 200)
        cohort = cohort.take(np.flatnonzero(cohort.table["effusion"].notna()))
        codes, labels = cohort.codes("patient_id"), cohort.table["effusion"].to_numpy()
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, codes)
        theirs += [_deviations(cohort, np.isin(np.arange(len(codes)), rows))[0] for _, rows in folds]
        sides = stratified_sides(cohort, codes, validation=0, test=0.2, stratify=["effusion"], seed=seed)
        ours.append(_deviations(cohort, sides == 2)[0])
    assert np.mean(ours) <= np.mean(theirs) + 0.001


def test_a_small_cohort_gets_one_of_the_best_of_all_possible_splits() -> None:
    cohort = _cohort(5, 14)
    codes, table = cohort.codes("patient_id"), cohort.table
    columns = np.stack([np.ones(len(table)), *[(table[f] == v).to_numpy(float) for f in FINDINGS for v in (1, 0)]])
    share = 4 / 14

    def off(mask: NDArray[np.bool_]) -> float:
        chance = np.sqrt(sum(columns[:, codes == patient].sum(axis=1) ** 2 for patient in range(14)))
        return float(np.linalg.norm((columns[:, mask].sum(axis=1) - share * columns.sum(axis=1)) / chance))

    every = np.sort([off(np.isin(codes, chosen)) for chosen in combinations(range(14), 4)])
    for seed in range(5):
        sides = stratified_sides(cohort, codes, validation=0, test=4, stratify=FINDINGS, seed=seed)
        assert off(sides == 2) <= every[len(every) // 50]


def test_every_patient_has_about_the_same_chance_whatever_their_number_of_radiographs() -> None:
    cohort = _cohort(2, 60, most=12)
    codes = cohort.codes("patient_id")
    times = np.zeros(60)
    for seed in range(60):
        sides = stratified_sides(cohort, codes, validation=0, test=0.3, stratify=FINDINGS, seed=seed)
        times[np.unique(codes[sides == 2])] += 1
    size = np.bincount(codes)
    assert abs(times[size >= 9].mean() - times[size <= 4].mean()) < 5  # of 60; the expected number is 18


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"test": 1.5}, "whole number of patients"),
        ({"test": 30}, "no patient is left"),
        ({"test": 0.5, "validation": 0.5}, "no patient is left"),
        ({"test": 0.2, "stratify": ["cardiomegaly"]}, "no finding 'cardiomegaly'"),
    ],
)
def test_what_cannot_be_done_is_an_error(arguments: dict[str, object], said: str) -> None:
    cohort = _cohort(0, 30)
    everything = {"validation": 0.0, "stratify": [], "seed": 0, **arguments}
    with pytest.raises(CxrPairError, match=said):
        stratified_sides(cohort, cohort.codes("patient_id"), **everything)  # type: ignore[arg-type]


def test_one_group_of_all_patients_cannot_be_split() -> None:
    cohort = _cohort(0, 30)
    with pytest.raises(CxrPairError, match="share pictures stay together"):
        stratified_sides(cohort, np.zeros(len(cohort), dtype=np.int64), validation=0, test=0.2, stratify=[], seed=0)
