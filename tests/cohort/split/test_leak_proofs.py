"""No patient on two sides, in random cohorts; who is on a side is decided here with plain sets."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monai_cxrpair.cohort import Cohort, hold_out_validation, split_patients
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.cohort.split.make import draw_labels
from monai_cxrpair.cohort.split.near_duplicates import DIGITS, find_links
from monai_cxrpair.cohort.split.stratify import stratified_sides
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.protocols.folds import folds_by_patient

COHORTS = int(os.environ.get("CXRPAIR_COHORTS", "200"))  # `make test-long` takes 1,000


def random_cohort(seed: int) -> Cohort:
    """Few or many patients, one with half of the radiographs at times; ids that look alike, shared pictures."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(8, 60))
    names = [f"{rng.choice(['p', 'P', 'p ', '0', ''])}{rng.integers(0, count)}" for _ in range(count)]
    who = rng.choice(names, size=count * 2)
    if seed % 7 == 0:
        who[: len(who) // 2] = who[0]
    studies = [f"{name}/{rng.integers(0, 3)}" for name in who]
    pictures = rng.integers(0, 2**62, size=len(who))
    copies = rng.integers(0, len(who), size=(int(rng.integers(0, 5)), 2))
    pictures[copies[:, 0]] = pictures[copies[:, 1]]
    table = pd.DataFrame({"patient_id": who, "study_id": studies}, dtype="str")
    table["image_id"] = table["path"] = [f"i{row}" for row in range(len(who))]
    table["image_id"] = table["image_id"].astype("str")
    table["effusion"] = rng.choice([1.0, 0.0, -1.0, np.nan], size=len(who), p=[0.35, 0.45, 0.1, 0.1])
    wide = [int(picture).to_bytes(8, "big") * (DIGITS // 16) for picture in pictures]
    table["perceptual_hash"] = [one.hex() for one in wide]
    return Cohort(table, root=Path(), findings=["effusion"], source="table")


def persons(cohort: Cohort) -> list[int]:
    """Of each radiograph, by hand: one patient, and all who share a picture with one, over any number of steps."""
    group = {name: {name} for name in cohort.table["patient_id"]}
    for _, same in cohort.table.groupby("perceptual_hash")["patient_id"]:
        joined = set().union(*(group[name] for name in same))
        for name in joined:
            group[name] = joined
    return [min(hash(name) for name in group[name]) for name in cohort.table["patient_id"]]


@pytest.mark.parametrize("part", range(4))
def test_in_random_cohorts_nobody_is_on_two_sides(part: int) -> None:
    split_ones = drawn = 0
    for seed in range(part, COHORTS, 4):
        cohort = random_cohort(seed)
        who = np.array(persons(cohort))
        try:
            split = split_patients(cohort, test_fraction=0.3, seed=seed)
            held = hold_out_validation(cohort, split, fraction=0.2, seed=seed)
        except CxrPairError:
            continue  # one group of persons is nearly all there is, and a side would be empty
        split_ones += 1
        sides = [set(who[rows]) for rows in (held.train_rows, held.validation_rows, held.test_rows)]
        assert sum(map(len, sides)) == len(set().union(*sides)) == len(set(who))
        assert sides[2] == set(who[split.test_rows])
        train = np.zeros(len(who), dtype=np.int64)
        train[held.test_rows] = 2
        try:
            drawn_labels = draw_labels(cohort, train, finding="effusion", fraction=0.5, draws=2, seed=seed)
        except CxrPairError:
            continue  # too few of a class
        drawn += 1
        rows = [np.flatnonzero(cohort.table["image_id"].isin(draw)) for draw in drawn_labels.image_ids]
        assert all(set(who[each]).isdisjoint(sides[2]) for each in rows)
    assert split_ones > 0.6 * COHORTS / 4
    assert drawn > 0.4 * COHORTS / 4


@pytest.mark.parametrize("seed", range(20))
def test_stratified_sides_and_refit_folds_keep_persons_and_patients_together(seed: int) -> None:
    cohort = random_cohort(seed + COHORTS)
    who = np.array(persons(cohort))
    try:
        sides = stratified_sides(
            cohort, find_links(cohort).groups, validation=0.2, test=0.2, stratify=["effusion"], seed=seed
        )
    except CxrPairError:
        return
    assert all(len(set(sides[who == one])) == 1 for one in set(who))
    labels = cohort.labels("effusion")
    known = np.isin(labels, (0.0, 1.0))
    patients = cohort.codes("patient_id")[known]
    for learn, hold in folds_by_patient(labels[known], patients, seed=seed, least=1) or []:
        assert set(patients[learn]).isdisjoint(patients[hold])


def test_ids_with_white_space_around_are_one_patient_and_capital_letters_are_said(tmp_path: Path) -> None:
    rows = [("a", " P1"), ("b", "P1 "), ("c", "p1"), ("d", "P2")]
    pd.DataFrame(rows, columns=["image_id", "patient_id"]).assign(
        study_id=[name for name, _ in rows], path=[f"{name}.png" for name, _ in rows]
    ).to_csv(tmp_path / "t.csv", index=False)
    found = index_source(tmp_path / "t.csv", out=tmp_path / "c.parquet")
    assert list(Cohort.read(tmp_path / "c.parquet").table["patient_id"]) == ["P1", "P1", "p1", "P2"]
    assert any(note.startswith("2 patient ids differ by capital letters only") for note in found.notes)
