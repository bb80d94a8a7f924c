"""What is drawn, and the numbers of candidates in real cohorts; every rule by its definition: test_rules."""

import pickle

import numpy as np
import pandas as pd
import pytest

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import PairCriterion, PairSampler, build_index
from monai_cxrpair.pairing import lists as lists_module


def make_cohort(rows, **columns):
    table = pd.DataFrame(rows, columns=["patient_id", "study_id", "laterality"]).assign(**columns)
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


@pytest.mark.parametrize(
    "rule",
    [
        PairCriterion(include_self=True),
        PairCriterion(study="distinct", laterality="same"),
        PairCriterion(study="distinct", view_position="distinct"),  # kept as lists
        PairCriterion(max_studies_apart=3),
        PairCriterion(size_like=PairCriterion(study="distinct", laterality="distinct")),
    ],
    ids=str,
)
def test_every_draw_and_every_key_is_uniform_over_the_candidates(rule):
    from scipy.stats import chisquare

    rng = np.random.default_rng(3)
    family = [(f"p{i // 15}", f"s{i // 3}", "frontal" if rng.random() < 0.6 else "lateral") for i in range(45)]
    cohort = make_cohort(family, view_position=rng.choice(["PA", "AP", "LL"], size=45))
    sampler, index = PairSampler(cohort, rule, seed=1), build_index(cohort, rule)
    keys, _ = sampler.draw(np.repeat(np.arange(45), 500), keys=2)
    drawn = keys.reshape(45, 500, 2)
    several = np.flatnonzero(index.sizes > 1)
    assert len(several) >= 20
    pvalues = []
    for x in several:
        for key in range(2):
            counts = np.bincount(drawn[x, :, key], minlength=45)
            assert counts.sum() == counts[index.candidates(x)].sum() == 500
            pvalues.append(chisquare(counts[index.candidates(x)]).pvalue)
    assert min(pvalues) > 1e-3 / len(pvalues)
    assert 0.3 < np.mean(pvalues) < 0.7  # neither too far from uniform nor too even for chance


def test_the_subset_of_a_size_control_is_fixed_by_its_seed_and_uniform_over_seeds():
    from scipy.stats import chisquare

    family = [("p1", f"s{i}", "frontal") for i in range(5)] + [("p1", "s0", "lateral"), ("p1", "s0", "lateral")]
    cohort = make_cohort(family)
    other = {"study": "same"}  # of radiograph 0: two
    rule = PairCriterion(study="any", size_like=other, size_seed=7)
    once, again = (build_index(cohort, rule) for _ in range(2))
    assert once.candidates(0).tolist() == again.candidates(0).tolist()
    keys, _ = PairSampler(cohort, rule, seed=1).draw(np.zeros(200, dtype=int))
    assert set(keys.ravel()) == set(once.candidates(0))
    pairs = {}
    for seed in range(1500):
        chosen = build_index(cohort, PairCriterion(study="any", size_like=other, size_seed=seed)).candidates(0)
        pairs[tuple(sorted(chosen))] = pairs.get(tuple(sorted(chosen)), 0) + 1
    assert len(pairs) == 15  # all pairs of the six others
    assert chisquare(list(pairs.values())).pvalue > 1e-3


def test_an_index_is_read_only_also_on_the_other_side_of_a_process():
    index = build_index(make_cohort(FAMILY), PairCriterion())
    for copy in (index, pickle.loads(pickle.dumps(index))):
        for array in (copy.order, copy.bounds, copy.holds_self):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0
        assert copy.candidates(0).tolist() == [1, 2, 3]


def test_a_sampler_draws_the_same_on_the_other_side_of_a_process():
    sampler = PairSampler(make_cohort(FAMILY), PairCriterion(), seed=5)
    sampler.draw([0, 1, 2])
    other = pickle.loads(pickle.dumps(sampler))
    rows = np.zeros(50, dtype=int)
    assert np.array_equal(sampler.draw(rows)[0], other.draw(rows)[0])
    given = [s.draw(rows, rng=np.random.default_rng([1, 2]))[0] for s in (sampler, other)]
    assert np.array_equal(*given)


def test_lists_that_would_fill_the_memory_are_refused_with_their_size(monkeypatch):
    monkeypatch.setattr(lists_module, "LARGEST", 5)
    cohort = make_cohort(FAMILY, view_position=["PA", "AP", "LL", "PA", "PA"])
    # by view alone: radiographs 0 and 3 (PA) have two candidates each, 1 (AP) and 2 (LL) three
    assert build_index(cohort, PairCriterion(view_position="distinct")).sizes.sum() == 10
    with pytest.raises(CxrPairError, match=r"up to 6 candidates \(0\.0 GB\), more than 5"):
        build_index(cohort, PairCriterion(view_position="distinct", study="distinct", max_studies_apart=1))
    with pytest.raises(CxrPairError, match="lists of 12 candidates"):
        build_index(cohort, PairCriterion(size_like={"study": "any"}))


def test_only_lists_cost_memory_for_each_candidate():
    n = 400
    family = [("p", f"s{i // 2}", "frontal") for i in range(n)]
    ranges = build_index(make_cohort(family), PairCriterion(study="distinct"))
    assert ranges.sizes.sum() == n * (n - 2)
    assert ranges.nbytes == 21 * n
    lists = build_index(make_cohort(family), PairCriterion(size_like={"study": "distinct"}))
    assert lists.nbytes == 17 * n + 4 * n * (n - 2)


def test_an_oracle_says_that_it_uses_labels_and_needs_the_finding(caplog):
    cohort = make_cohort(FAMILY)
    with pytest.raises(CxrPairError, match="oracle_same_finding is 'edema', which is no finding"):
        PairSampler(cohort, PairCriterion(oracle_same_finding="edema"))
    table = cohort.table.assign(edema=[1, 0, -1, None, 1])
    labelled = Cohort(table, root=".", findings=["edema"], source="test")
    sampler = PairSampler(labelled, PairCriterion(oracle_same_finding="edema"))
    assert [sampler.draw([x])[0][0, 0] for x in range(4)] == [2, 3, 0, 1]
    assert "by the labels of edema" in caplog.text


def test_a_study_has_its_earliest_time_and_windows_count_days_of_24_hours():
    times = ["2020-01-01 08:00", "2020-01-01 09:00", "2020-01-02 08:00", None]
    cohort = make_cohort(
        [("p", "a", "frontal"), ("p", "a", "frontal"), ("p", "b", "frontal"), ("p", "c", "frontal")],
        study_datetime=pd.to_datetime(times),
    )
    assert build_index(cohort, PairCriterion(max_days=1)).sizes.tolist() == [2, 2, 2, 0]
    assert build_index(cohort, PairCriterion(max_days=0.99)).sizes.tolist() == [1, 1, 0, 0]
    assert build_index(cohort, PairCriterion(min_days=1)).sizes.tolist() == [1, 1, 2, 0]
    assert build_index(cohort, PairCriterion(min_days=1.01)).sizes.tolist() == [0, 0, 0, 0]


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


def test_a_row_outside_the_cohort_is_an_error():
    with pytest.raises(CxrPairError, match=r"0\.\.4"):
        PairSampler(make_cohort(FAMILY), PairCriterion()).draw([5])


@pytest.fixture(scope="module")
def chexpert(shared_data):
    """The published table as a cohort, made here and not by the reader, so that these numbers test pairing alone."""
    raw = pd.read_csv(shared_data / "metadata" / "chexpert_train.csv.gz", usecols=["Path"])["Path"]
    parts = raw.str.extract(r"(patient\d+)/(study\d+)/view\d+_(frontal|lateral)")
    table = pd.DataFrame({"patient_id": parts[0], "study_id": parts[0] + "/" + parts[1], "laterality": parts[2]})
    table["image_id"] = table["path"] = raw
    return Cohort(table, root=".", findings=[], source="chexpert")


@pytest.mark.data
def test_the_numbers_of_candidates_in_chexpert_are_those_known(chexpert):
    """Percent of x with an empty S, x with a partner, largest S: counted independently of this code."""
    for (study, laterality), empty, partners, largest in [
        (("any", "any"), 10.11, 200_833, 91), (("same", "any"), 68.77, 69_767, 2),
        (("same", "same"), 96.12, 8_679, 2), (("same", "distinct"), 71.10, 64_564, 2),
        (("distinct", "any"), 20.20, 178_289, 91), (("any", "same"), 22.29, 173_614, 90),
        (("any", "distinct"), 49.97, 111_768, 91), (("distinct", "same"), 23.51, 170_888, 90),
        (("distinct", "distinct"), 62.88, 82_923, 90),
    ]:  # fmt: skip
        sizes = PairSampler(chexpert, PairCriterion(study=study, laterality=laterality)).sizes
        assert round(100 * float((sizes == 0).mean()), 2) == empty
        assert ((sizes > 0).sum(), sizes.max()) == (partners, largest)


@pytest.mark.data
def test_the_size_controlled_rules_of_the_paper_have_equal_sizes_and_the_known_queries(chexpert):
    def sampler(**rule):
        return PairSampler(chexpert, PairCriterion(require_partner=True, **rule))

    distinct = sampler(study="distinct")  # Table 3
    every = sampler(study="any", size_like={"study": "distinct"})
    assert len(distinct.queries) == len(every.queries) == 178_289
    np.testing.assert_array_equal(distinct.sizes, every.sizes)

    same = {"study": "same", "laterality": "same", "include_self": True}  # Table 5
    other = {"study": "same", "laterality": "distinct"}
    one, two = sampler(**same, size_like=other), sampler(**other, size_like=same)
    assert one.queries.tolist() == two.queries.tolist()
    assert len(one.queries) == 64_564
    np.testing.assert_array_equal(one.sizes, two.sizes)


@pytest.mark.data
def test_draws_in_chexpert_are_pairs_with_themselves_as_often_as_known(chexpert):
    """The self-pair rate of the paper's code, x being its own candidate, from draws."""
    rows = np.arange(len(chexpert))
    for (study, laterality), rate in [(("same", "any"), 84.0), (("any", "any"), 28.9), (("same", "same"), 98.0)]:
        rule = PairCriterion(study=study, laterality=laterality, include_self=True)
        keys, _ = PairSampler(chexpert, rule, seed=0).draw(rows, keys=4)
        assert 100 * (keys == rows[:, None]).mean() == pytest.approx(rate, abs=0.15)


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
