"""The census of the real CheXpert table, against figures counted without this code (and, for Figure 2, the paper)."""

import pytest

from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.pairing.census import census

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def found(shared_data, tmp_path_factory):
    source = shared_data / "metadata" / "chexpert_train.csv.gz"
    cohort = index_source(source, out=tmp_path_factory.mktemp("chexpert") / "c.parquet").cohort
    return census(cohort, queue_size=16_384)


def pick(found, study, laterality, include_self):
    wanted = (study, laterality, include_self)
    return next(r for r in found["rules"] if (r["study"], r["laterality"], r["include_self"]) == wanted)


@pytest.mark.parametrize(
    ("study", "laterality", "empty", "with_partner", "largest"),
    [("any", "any", 10.11, 200_833, 91), ("same", "any", 68.77, 69_767, 2), ("same", "same", 96.12, 8_679, 2),
     ("same", "distinct", 71.10, 64_564, 2), ("distinct", "any", 20.20, 178_289, 91),
     ("any", "same", 22.29, 173_614, 90), ("any", "distinct", 49.97, 111_768, 91),
     ("distinct", "same", 23.51, 170_888, 90), ("distinct", "distinct", 62.88, 82_923, 90)],
)  # fmt: skip
def test_how_many_have_a_partner(found, study, laterality, empty, with_partner, largest):
    rule = pick(found, study, laterality, False)
    assert round(100 * rule["empty_fraction"], 2) == empty
    assert rule["with_partner"] == with_partner
    assert rule["largest"] == largest
    assert sum(rule["sizes"].values()) == 223_414
    assert rule["self_pair_rate"] == rule["empty_fraction"]


@pytest.mark.parametrize(
    ("study", "laterality", "rate"), [("same", "any", 84.0), ("any", "any", 28.9), ("same", "same", 98.0)]
)
def test_how_many_are_paired_with_themselves_where_the_query_is_a_candidate(found, study, laterality, rate):
    assert round(100 * pick(found, study, laterality, True)["self_pair_rate"], 1) == rate


@pytest.mark.parametrize(
    ("study", "include_self", "rate"),
    [("any", True, 21.9), ("any", False, 29.0), ("distinct", False, 34.5), ("distinct", True, 34.5),
     ("same", False, 0.0), ("same", True, 0.0)],
)  # fmt: skip
def test_how_often_partners_disagree_on_effusion(found, study, include_self, rate):
    assert round(100 * pick(found, study, "any", include_self)["mismatch_rate"]["pleural_effusion"], 1) == rate


def test_the_papers_figure_2(found):
    figure = found["figure_2"]
    counts = figure["findings"]["pleural_effusion"]
    ends = {name: [round(100 * counts[name][end] / 178_289, 1) for end in (0, -1)] for name in counts}
    assert figure["radiographs"] == 178_289
    assert ends == {"all_studies": [30.5, 0.0], "distinct_studies": [30.3, 9.0]}
    assert {sum(bins) for bins in counts.values()} == {178_289}


def test_the_two_of_a_study_never_disagree_and_others_do_the_more_the_further_apart(found):
    (scale,) = found["by_distance"]  # the published table has no dates
    assert scale["unit"] == "studies"
    rates = [entry["mismatch_rate"]["pleural_effusion"] for entry in scale["bins"]]
    assert rates[0] == 0
    assert rates == sorted(rates)
    pairs = sum(entry["pairs"] for entry in scale["bins"])
    assert pairs == round(223_414 * pick(found, "any", "any", False)["mean_size"])
