"""Every rule against a brute-force reading of its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import PairCriterion, PairSampler
from monai_cxrpair.pairing.candidates import build_index_from_codes

RELATIONS = ("any", "same", "distinct")
UNKNOWN = 2

RULES = [
    PairCriterion(study=study, laterality=laterality, include_self=include_self)
    for study in RELATIONS
    for laterality in RELATIONS
    for include_self in (False, True)
]


def brute_force(patient, study, laterality, rule, x):
    """S_c(x), straight from the words of the paper."""
    found = []
    for y in range(len(patient)):
        if patient[y] != patient[x]:
            continue
        if y == x:
            if rule.include_self and "distinct" not in (rule.study, rule.laterality):
                known = rule.laterality == "any" or laterality[x] != UNKNOWN
                found += [y] if known else []
            continue
        if rule.study == "same" and study[y] != study[x]:
            continue
        if rule.study == "distinct" and study[y] == study[x]:
            continue
        if rule.laterality != "any" and UNKNOWN in (laterality[x], laterality[y]):
            continue
        if rule.laterality == "same" and laterality[y] != laterality[x]:
            continue
        if rule.laterality == "distinct" and laterality[y] == laterality[x]:
            continue
        found.append(y)
    return found


@st.composite
def cohorts(draw):
    n = draw(st.integers(1, 40))
    study = np.array(draw(st.lists(st.integers(0, 12), min_size=n, max_size=n)), dtype=np.int64)
    owner = np.array(draw(st.lists(st.integers(0, 4), min_size=13, max_size=13)), dtype=np.int64)
    laterality = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), dtype=np.int64)
    return owner[study], study, laterality


@pytest.mark.parametrize("rule", RULES, ids=str)
@settings(max_examples=40, deadline=None)
@given(cohort=cohorts())
def test_the_index_holds_exactly_the_candidates_of_the_definition(rule, cohort):
    index = build_index_from_codes(*cohort, rule)
    for x in range(len(cohort[0])):
        expected = brute_force(*cohort, rule, x)
        assert sorted(index.candidates(x)) == expected
        assert index.sizes[x] == len(expected)


def make_cohort(rows):
    import pandas as pd

    from monai_cxrpair.cohort import Cohort

    table = pd.DataFrame(rows, columns=["patient_id", "study_id", "laterality"])
    table["image_id"] = [f"i{i}" for i in range(len(table))]
    table["path"] = table["image_id"] + ".png"
    return Cohort(table, root=".", findings=[], source="test")


FAMILY = [("p1", "s1", "frontal"), ("p1", "s1", "lateral"), ("p1", "s2", "frontal"), ("p1", "s3", "frontal"),
          ("p2", "s4", "frontal")]  # fmt: skip


def test_draws_are_uniform_over_the_candidates():
    from scipy.stats import chisquare

    sampler = PairSampler(make_cohort(FAMILY), PairCriterion(), seed=1)
    rows, _ = sampler.draw(np.zeros(3000, dtype=np.int64), keys=2)
    counts = np.bincount(rows.ravel(), minlength=5)
    assert counts[0] == counts[4] == 0
    assert chisquare(counts[1:4]).pvalue > 1e-3


def test_a_radiograph_without_partner_is_paired_with_itself():
    sampler = PairSampler(make_cohort(FAMILY), PairCriterion(study="same"), seed=1)
    rows, affinity = sampler.draw([0, 1, 2, 3, 4])
    assert rows[:, 0].tolist() == [1, 0, 2, 3, 4]
    assert rows.dtype == np.int64
    assert affinity.dtype == np.float32
    assert (affinity == 1).all()


def test_without_metadata_every_radiograph_is_its_own_partner():
    rows, _ = PairSampler(make_cohort(FAMILY), None).draw(np.arange(5), keys=3)
    assert (rows == np.arange(5)[:, None]).all()


def test_the_same_seed_and_calls_give_the_same_rows_and_calls_go_on():
    one, two = (PairSampler(make_cohort(FAMILY), PairCriterion(), seed=5) for _ in range(2))
    first = [one.draw(np.zeros(50, dtype=int))[0] for _ in range(2)]
    second = [two.draw(np.zeros(50, dtype=int))[0] for _ in range(2)]
    assert np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize(
    ("settings_", "named"),
    [({"studdy": "same"}, "studdy"), ({"study": "both"}, "both"), ({"include_self": "no"}, "include_self")],
)
def test_an_unknown_setting_is_an_error_that_names_it(settings_, named):
    with pytest.raises(CxrPairError, match=named):
        PairCriterion.from_config(settings_)


def test_a_row_outside_the_cohort_is_an_error():
    with pytest.raises(CxrPairError, match=r"0\.\.4"):
        PairSampler(make_cohort(FAMILY), PairCriterion()).draw([5])


@pytest.mark.data
def test_the_numbers_of_candidates_in_chexpert_are_those_known(shared_data):
    """Percent of x with an empty S, and the largest S, counted independently of this code from the published table."""
    import pandas as pd

    from monai_cxrpair.pairing.candidates import laterality_codes

    table = pd.read_csv(shared_data / "metadata" / "chexpert_train.csv.gz", usecols=["Path"])["Path"]
    parts = table.str.extract(r"(patient\d+)/(study\d+)/view\d+_(frontal|lateral)")
    patient = pd.factorize(parts[0])[0]
    study = pd.factorize(parts[0] + "/" + parts[1])[0]
    laterality = laterality_codes(parts[2])
    for rule, empty, largest in [
        (("any", "any"), 10.11, 91), (("same", "any"), 68.77, 2), (("same", "same"), 96.12, 2),
        (("same", "distinct"), 71.10, 2), (("distinct", "any"), 20.20, 91), (("any", "same"), 22.29, 90),
        (("any", "distinct"), 49.97, 91), (("distinct", "same"), 23.51, 90), (("distinct", "distinct"), 62.88, 90),
    ]:  # fmt: skip
        sizes = build_index_from_codes(
            patient, study, laterality, PairCriterion(study=rule[0], laterality=rule[1])
        ).sizes
        assert round(100 * float((sizes == 0).mean()), 2) == empty, rule
        assert sizes.max() == largest, rule


@pytest.mark.data
def test_every_radiograph_of_a_real_frontal_and_lateral_study_gets_a_partner_other_than_itself(shared_data, tmp_path):
    from monai_cxrpair.cohort.index import index_source

    cohort = index_source(shared_data / "covid_cxr" / "index.csv", out=tmp_path / "covid.parquet").cohort
    table = cohort.table
    views = table.groupby("study_id")["laterality"].nunique()
    rows = np.flatnonzero(table["study_id"].isin(views[views == 2].index))
    assert (views == 2).sum() == 43
    sampler = PairSampler(cohort, PairCriterion(study="same"), seed=0)
    for _ in range(20):
        keys, _ = sampler.draw(rows, keys=2)
        assert (keys != rows[:, None]).all()
        assert (table["study_id"].to_numpy()[keys] == table["study_id"].to_numpy()[rows][:, None]).all()
