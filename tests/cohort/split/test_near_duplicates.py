from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from monai_cxrpair.cohort import Cohort, split_patients
from monai_cxrpair.cohort.split.near_duplicates import (
    DIGITS,
    MAX_COARSE,
    MAX_DISTANCE,
    find_links,
    hash_digest,
    near_duplicate_pairs,
)
from monai_cxrpair.errors import CxrPairError

BITS = 4 * DIGITS


def _text(value: int) -> str:
    return f"{value:0{DIGITS}x}"


def _flip(value: int, bits: list[int]) -> int:
    """Flip bits, numbered from the first (most significant) one."""
    for bit in set(bits):
        value ^= 1 << (BITS - 1 - int(bit))
    return value


def _hashes(seed: int, originals: int, copies: int) -> list[str]:
    """Random hashes and copies with some bits changed, around the limits."""
    rng = np.random.default_rng(seed)
    values = [int.from_bytes(rng.bytes(BITS // 8), "big") for _ in range(originals)]
    for _ in range(copies):
        coarse = rng.choice(64, rng.integers(0, MAX_COARSE + 3), replace=False)
        fine = 64 + rng.choice(BITS - 64, rng.integers(MAX_DISTANCE - 15, MAX_DISTANCE + 3), replace=False)
        values.append(_flip(values[rng.integers(len(values))], [*coarse, *fine]))
    texts = [_text(value) for value in values] + [""] * 3
    texts += texts[: len(texts) // 4]  # exact copies
    return [texts[row] for row in rng.permutation(len(texts))]


def _cohort(patients: list[str], hashes: list[str] | None = None) -> Cohort:
    table = pd.DataFrame({"patient_id": pd.Series(patients, dtype="str")})
    table["image_id"] = [f"i{number}" for number in range(len(table))]
    table["path"] = table["image_id"]
    table["study_id"] = table["patient_id"] + "/1"
    if hashes is not None:
        table["perceptual_hash"] = pd.Series(hashes, dtype="str")
    return Cohort(table, root=Path(), findings=[], source="table")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(0, 25))
def test_the_pairs_are_those_of_a_plain_comparison_of_all_with_all(seed: int, originals: int, copies: int) -> None:
    texts = _hashes(seed, originals, copies)
    expected = set()
    for one, other in combinations(range(len(texts)), 2):
        if texts[one] and texts[other]:
            differ = f"{int(texts[one], 16) ^ int(texts[other], 16):0{BITS}b}"
            if differ[:64].count("1") <= MAX_COARSE and differ.count("1") <= MAX_DISTANCE:
                expected.add((one, other))
    found = {(int(one), int(other)) for one, other in near_duplicate_pairs(pd.Series(texts))}
    assert found <= expected
    # Of equal hashes only the first is compared; every other pair is there by way of it.
    first = {text: texts.index(text) for text in texts}
    for one, other in expected:
        ends = sorted({first[texts[one]], first[texts[other]]})
        assert (one, other) in found or len(ends) == 1 or tuple(ends) in found
        assert first[texts[other]] == other or (first[texts[other]], other) in found


def test_pairs_are_found_across_the_blocks_of_the_comparison() -> None:
    rng = np.random.default_rng(0)
    values = [int.from_bytes(rng.bytes(BITS // 8), "big") for _ in range(9000)]
    planted = [(0, 8999), (5, 6), (127, 128), (4000, 8500)]
    for one, other in planted:
        values[other] = _flip(values[one], list(range(60, 90)))
    assert near_duplicate_pairs(pd.Series([_text(value) for value in values])).tolist() == [list(p) for p in planted]


def test_a_thousand_copies_of_a_picture_make_a_chain_and_not_half_a_million_pairs() -> None:
    assert len(near_duplicate_pairs(pd.Series([_text(7)] * 1000))) == 999


def test_patients_are_linked_directly_and_over_others() -> None:
    middle = 12345 << 200
    hashes = [_text(_flip(middle, list(range(100, 180)))), _text(middle), _text(_flip(middle, list(range(200, 280))))]
    links = find_links(_cohort(["a", "b", "c", "d", "b", "e"], [*hashes, "", "", _text(2**BITS - 1)]))
    assert links.pairs.tolist() == [[0, 1], [1, 2]]  # a and c are 160 bits apart
    assert len(set(links.groups[[0, 1, 2, 4]])) == 1
    assert len(set(links.groups)) == 3
    assert (links.linked_patients, links.linked_groups, links.largest, links.unknown) == (3, 1, 3, 2)


def test_near_duplicates_of_one_patient_link_nobody() -> None:
    links = find_links(_cohort(["a", "a", "b"], [_text(5), _text(5), _text(2**BITS - 6)]))
    assert len(links.pairs) == 1
    assert (links.linked_patients, links.largest) == (0, 1)


def test_without_hashes_everybody_is_alone() -> None:
    for hashes in (None, ["", "", ""]):
        cohort = _cohort(["a", "b", "a"], hashes)
        links = find_links(cohort)
        assert links.digest == hash_digest(cohort) == ""
        assert (links.linked_patients, links.unknown, len(links.pairs)) == (0, 3, 0)
        assert links.groups[0] == links.groups[2] != links.groups[1]


@pytest.mark.parametrize("text", ["abc", "g" * DIGITS, "0" * (DIGITS + 2)])
def test_a_hash_of_another_making_is_an_error(text: str) -> None:
    with pytest.raises(CxrPairError, match=r"'perceptual_hash'.*--check-pixels"):
        find_links(_cohort(["a", "b"], [_text(1), text]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 0.8))
def test_linked_patients_are_on_one_side_of_the_split_without_a_file(seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    patients = [f"p{number}" for number in rng.integers(0, 60, 120)]
    pictures = [rng.bytes(BITS // 8).hex() for _ in range(150)]
    shown = [pictures[number] for number in rng.integers(0, 150, 120)]
    # Fewer copies for half of the examples, so that not all patients hang together.
    cohort = _cohort(patients, [text if seed % 2 or row < 40 else "" for row, text in enumerate(shown)])
    groups = find_links(cohort).groups
    try:
        split = split_patients(cohort, test_fraction=fraction, seed=seed)
    except CxrPairError as error:  # so few groups that a side is empty
        assume("falls on the" not in str(error))
        raise
    assert not set(groups[split.train_rows]) & set(groups[split.test_rows])
    owners = pd.DataFrame({"patient": patients, "group": groups}).drop_duplicates()
    alone = set(owners["patient"][~owners["group"].duplicated(keep=False)])
    plain = split_patients(_cohort(patients), test_fraction=fraction, seed=seed)
    assert alone & set(split.test_patients) == alone & set(plain.test_patients)


@pytest.mark.data
def test_the_persons_with_two_ids_in_the_real_set_are_on_one_side(shared_data: Path, tmp_path: Path) -> None:
    from monai_cxrpair.cohort.index import index_source
    from monai_cxrpair.imaging import read_radiograph
    from monai_cxrpair.imaging.perceptual import perceptual_hash

    whole = index_source(shared_data / "covid_cxr/index.csv", out=tmp_path / "c.parquet").cohort
    twins = [("97", "178"), ("186", "196"), ("78", "201")]
    few = {*(patient for pair in twins for patient in pair), *map(str, range(60))}
    plain = whole.take(np.flatnonzero(whole.table["patient_id"].isin(few)))
    table = plain.table.assign(perceptual_hash=[perceptual_hash(read_radiograph(path)) for path in plain.paths()])
    cohort = Cohort(table, root=plain.root, findings=plain.findings, source=plain.source)
    for seed in range(10):
        test = set(split_patients(cohort, test_fraction=0.4, seed=seed).test_patients)
        assert all((one in test) == (other in test) for one, other in twins)
    apart = [set(split_patients(plain, test_fraction=0.4, seed=seed).test_patients) for seed in range(10)]
    assert any((one in test) != (other in test) for test in apart for one, other in twins)
