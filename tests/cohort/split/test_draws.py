import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from monai_cxrpair.cohort.split.draws import label_draws
from monai_cxrpair.errors import CxrPairError


def cohort(rng, *, patients=60, rows=300, prevalence=0.3):
    who = rng.integers(0, patients, rows)
    study = who * 10 + rng.integers(0, 4, rows)
    labels = (rng.random(rows) < prevalence).astype(float)
    labels[rng.random(rows) < 0.1] = -1
    labels[rng.random(rows) < 0.1] = np.nan
    return labels, who, study


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 1), st.integers(1, 4))
def test_a_draw_holds_whole_studies_of_the_size_asked_for_and_breaks_at_most_one_patient(seed, fraction, draws):
    labels, who, study = cohort(np.random.default_rng(seed))
    drawn = label_draws(labels, who, study, fraction=fraction, draws=draws, seed=seed)
    usable = np.isin(labels, (0, 1))
    total = len(np.unique(study[usable]))
    assert drawn.labelled_studies == total
    assert len(drawn) == draws
    for rows in drawn:
        assert rows.dtype == np.int64
        assert len(np.unique(rows)) == len(rows)
        assert usable[rows].all()
        assert len(np.unique(study[rows])) == round(fraction * total)
        # every usable image of a drawn study came along
        assert set(rows) == set(np.flatnonzero(usable & np.isin(study, study[rows])))
        whole = [set(np.flatnonzero(usable & (who == patient))) <= set(rows) for patient in np.unique(who[rows])]
        assert whole.count(False) <= 1
        for value in (0, 1):
            assert len(np.unique(study[rows][labels[rows] == value])) >= 2


def test_uncertain_and_missing_labels_are_left_out_and_counted():
    labels = np.array([1, 0, -1, np.nan, 1, 0, -1, 1, 0])
    drawn = label_draws(labels, np.arange(9), np.arange(9), fraction=1, draws=2, seed=0)
    assert (drawn.uncertain, drawn.missing, drawn.labelled_studies, drawn.redrawn) == (2, 1, 6, 0)
    for rows in drawn:
        np.testing.assert_array_equal(rows, [0, 1, 4, 5, 7, 8])


def test_the_same_seed_gives_the_same_draws_and_another_seed_others():
    table = cohort(np.random.default_rng(1))
    one, two, three = (label_draws(*table, fraction=0.2, draws=3, seed=seed) for seed in (4, 4, 5))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(one, three, strict=True))
    assert not np.array_equal(one[0], one[1])


def test_study_codes_need_to_be_unique_only_within_a_patient():
    labels = np.array([1, 0] * 10, dtype=float)
    drawn = label_draws(labels, np.arange(20), np.zeros(20, dtype=int), fraction=0.5, draws=1, seed=0)
    assert drawn.labelled_studies == 20
    assert len(drawn[0]) == 10


def test_every_patient_is_as_likely_to_be_drawn_whatever_the_number_of_its_studies():
    who = np.repeat(np.arange(20), [1, 5] * 10)
    labels = (np.arange(len(who)) % 2).astype(float)
    drawn = label_draws(labels, who, np.arange(len(who)), fraction=0.4, draws=2000, seed=0)
    counts = np.array([[patient in set(who[rows]) for patient in range(20)] for rows in drawn]).mean(axis=0)
    assert abs(counts[::2].mean() - counts[1::2].mean()) < 0.05


def test_draws_without_both_classes_are_drawn_again_and_counted():
    labels = np.zeros(100)
    labels[:4] = 1
    drawn = label_draws(labels, np.arange(100), np.arange(100), fraction=0.2, draws=5, seed=0)
    assert drawn.redrawn > 0
    assert all(labels[rows].sum() >= 2 for rows in drawn)


def test_a_fraction_that_cannot_hold_two_of_each_class_names_the_smallest_that_can():
    labels = (np.arange(200) % 2).astype(float)
    with pytest.raises(CxrPairError, match=r"label_fraction 0.01 of 200 labelled studies is 2.*label_fraction 0.02 or"):
        label_draws(labels, np.arange(200), np.arange(200), fraction=0.01, draws=1, seed=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 400), st.floats(0.02, 0.98), st.integers(0, 100))
def test_following_the_advice_of_the_error_works(studies, prevalence, seed):
    labels = (np.random.default_rng(seed).random(studies) < prevalence).astype(float)
    assume(2 <= labels.sum() <= studies - 2)
    codes = np.arange(studies)
    with pytest.raises(CxrPairError, match="label_fraction") as caught:
        label_draws(labels, codes, codes, fraction=1e-6, draws=1, seed=seed)
    advised = float(str(caught.value).split("use label_fraction ")[1].split(" ")[0])
    assert len(label_draws(labels, codes, codes, fraction=advised, draws=2, seed=seed)) == 2


def test_a_training_side_with_one_class_is_an_error_that_counts_it():
    with pytest.raises(CxrPairError, match="10 labelled studies, 1 with the finding and 9 without"):
        label_draws([1.0] + [0.0] * 9, np.arange(10), np.arange(10), fraction=1, draws=1, seed=0)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_its_range_is_an_error_that_shows_it(fraction):
    with pytest.raises(CxrPairError, match=f"label_fraction must be above 0 and at most 1, got {fraction}"):
        label_draws([0, 1], [1, 2], [1, 2], fraction=fraction, draws=1, seed=0)


def test_other_wrong_input_is_an_error_that_shows_it():
    with pytest.raises(CxrPairError, match="draws must be at least 1, got 0"):
        label_draws([0, 1], [1, 2], [1, 2], fraction=1, draws=0, seed=0)
    with pytest.raises(CxrPairError, match="or missing, got 3"):
        label_draws([0, 3], [1, 2], [1, 2], fraction=1, draws=1, seed=0)
    with pytest.raises(CxrPairError, match=r"\(2,\), \(3,\) and \(2,\)"):
        label_draws([0, 1], [1, 2, 3], [1, 2], fraction=1, draws=1, seed=0)
