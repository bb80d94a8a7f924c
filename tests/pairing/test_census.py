"""Every figure of the census against a reading of its definition pair by pair."""

from fractions import Fraction
from itertools import combinations
from math import floor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import PairCriterion, PairSampler
from monai_cxrpair.pairing.census import census, shown_finding
from monai_cxrpair.pairing.queue_size import expected_relatives

BINS = 18


def make_cohort(table: pd.DataFrame, findings=("effusion",), **further) -> Cohort:
    table = table.assign(image_id=[f"i{n}" for n in range(len(table))])
    return Cohort(table.assign(path=table["image_id"]), root=Path("x"), findings=findings, source="test", **further)


@st.composite
def cohorts(draw):
    n = draw(st.integers(1, 25))
    column = lambda values: draw(st.lists(st.sampled_from(values), min_size=n, max_size=n))  # noqa: E731
    study = np.array(column(range(9)))
    owner = np.array(draw(st.lists(st.integers(0, 3), min_size=9, max_size=9)))
    hours = draw(st.lists(st.none() | st.integers(0, 24 * 500), min_size=9, max_size=9))
    start = pd.Timestamp("2020-01-01")
    # The radiographs of a study need not have one time, nor all of them a date.
    later = column([None, 0, 0, 1, 30])
    dates = [
        None if hours[s] is None or more is None else start + pd.Timedelta(hours=hours[s] + more)
        for s, more in zip(study, later, strict=True)
    ]
    table = pd.DataFrame({"study_id": [f"s{s}" for s in study], "patient_id": [f"p{owner[s]}" for s in study]})
    table["laterality"] = column(["frontal", "lateral", "unknown"])
    table["effusion"] = np.array(column([1.0, 0.0, -1.0, np.nan]))
    table["edema"] = np.array(column([1.0, 0.0]))
    table["study_datetime"] = pd.Series(pd.to_datetime(pd.Series(dates)), dtype="datetime64[us]")
    return make_cohort(table, ["effusion", "edema"])


def may_pair(x, y, rule) -> bool:
    """Is y in S_c(x), in the words of the paper and of the design?"""
    if x["patient_id"] != y["patient_id"]:
        return False
    known = x["laterality"] != "unknown" and y["laterality"] != "unknown"
    if x["image_id"] == y["image_id"]:
        allowed = rule["include_self"] and "distinct" not in (rule["study"], rule["laterality"])
        return allowed and (rule["laterality"] == "any" or known)
    same_study, same_laterality = x["study_id"] == y["study_id"], x["laterality"] == y["laterality"]
    study = {"any": True, "same": same_study, "distinct": not same_study}[rule["study"]]
    return (
        study
        and {"any": True, "same": known and same_laterality, "distinct": known and not same_laterality}[
            rule["laterality"]
        ]
    )


def share_that_differs(x, candidates, finding) -> Fraction:
    def carries(row):
        return row[finding] in (1, -1)

    return Fraction(sum(carries(y) != carries(x) for y in candidates), len(candidates))


def in_bins(shares) -> list[int]:
    counts = [0] * BINS
    for share in shares:
        counts[min(BINS - 1, floor(share * BINS))] += 1
    return counts


def mean(values) -> float | None:
    return float(sum(values, Fraction(0)) / len(values)) if values else None


@settings(max_examples=30, deadline=None)
@given(cohort=cohorts())
def test_the_figures_of_all_rules_are_those_of_their_definitions(cohort):
    rows = cohort.table.to_dict("records")
    found = census(cohort, queue_size=1)
    relations = ("any", "same", "distinct")
    wanted = {(s, v, b) for s in relations for v in relations for b in (False, True)}
    assert {(r["study"], r["laterality"], r["include_self"]) for r in found["rules"]} == wanted
    assert len(found["rules"]) == 18
    for rule in found["rules"]:
        candidates = [[y for y in rows if may_pair(x, y, rule)] for x in rows]
        sizes = [len(c) for c in candidates]
        assert rule["empty_fraction"] == pytest.approx(sizes.count(0) / len(rows))
        assert rule["with_partner"] == len(rows) - sizes.count(0)
        assert rule["largest"] == max(sizes)
        assert rule["mean_size"] == pytest.approx(sum(sizes) / len(rows))
        with_itself = [Fraction(x in c, len(c)) if c else Fraction(1) for x, c in zip(rows, candidates, strict=True)]
        assert rule["self_pair_rate"] == pytest.approx(mean(with_itself))
        edges = ((0, 0), (1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, 10**9))
        assert list(rule["sizes"].values()) == [sum(low <= n <= high for n in sizes) for low, high in edges]
        for finding in ("effusion", "edema"):
            shares = [share_that_differs(x, c, finding) for x, c in zip(rows, candidates, strict=True) if c]
            assert rule["mismatch_rate"][finding] == pytest.approx(mean(shares))
            assert rule["disagreement"][finding] == in_bins(shares)


@settings(max_examples=20, deadline=None)
@given(cohort=cohorts())
def test_figure_2_counts_the_radiographs_with_another_study(cohort):
    rows = cohort.table.to_dict("records")
    figure = census(cohort, queue_size=1)["figure_2"]
    everything = {"study": "any", "laterality": "any", "include_self": True}
    distinct = {"study": "distinct", "laterality": "any", "include_self": False}
    base = [x for x in rows if any(may_pair(x, y, distinct) for y in rows)]
    assert figure["radiographs"] == len(base)
    for name, rule in (("all_studies", everything), ("distinct_studies", distinct)):
        shares = [share_that_differs(x, [y for y in rows if may_pair(x, y, rule)], "effusion") for x in base]
        assert figure["findings"]["effusion"][name] == in_bins(shares)


def apart(x, y, unit, first) -> tuple[str, int] | None:
    """Which bin a pair of a patient is in, by words of its own."""
    if x["image_id"] == y["image_id"] or x["patient_id"] != y["patient_id"]:
        return None
    if unit == "days" and not {x["study_id"], y["study_id"]} <= set(first):
        return None
    if x["study_id"] == y["study_id"]:
        return "same study"
    if unit == "studies":
        distance = abs(x["study_order"] - y["study_order"])
        edges = {"1": 1, "2": 2, "3 to 5": 5, "6 to 10": 10, "more than 10": 10**9}
    else:
        distance = abs((first[x["study_id"]] - first[y["study_id"]]).days)
        edges = {"0, another study": 0, "1 to 7": 7, "8 to 30": 30, "31 to 90": 90, "91 to 365": 365}
        edges["more than 365"] = 10**9
    return next(name for name, last in edges.items() if distance <= last)


@settings(max_examples=30, deadline=None)
@given(cohort=cohorts())
def test_disagreement_by_time_is_that_of_the_pairs_so_far_apart(cohort):
    rows = cohort.table.to_dict("records")
    dated = cohort.table.dropna(subset="study_datetime")
    first = {study: when.date() for study, when in dated.groupby("study_id")["study_datetime"].min().items()}
    scales = {scale["unit"]: scale for scale in census(cohort, queue_size=1)["by_distance"]}
    two_dated = any(apart(x, y, "days", first) not in (None, "same study") for x in rows for y in rows)
    assert set(scales) == ({"days", "studies"} if two_dated else {"studies"})
    for unit, scale in scales.items():
        assert scale["radiographs"] == (len(rows) if unit == "studies" else sum(x["study_id"] in first for x in rows))
        for entry in scale["bins"]:
            partners = [[y for y in rows if apart(x, y, unit, first) == entry["name"]] for x in rows]
            assert entry["pairs"] == sum(map(len, partners))
            assert entry["radiographs"] == sum(map(bool, partners))
            shares = [share_that_differs(x, c, "effusion") for x, c in zip(rows, partners, strict=True) if c]
            assert entry["mismatch_rate"]["effusion"] == pytest.approx(mean(shares))


@settings(max_examples=50, deadline=None)
@given(group=st.lists(st.integers(0, 3), min_size=2, max_size=8), size=st.integers(1, 7))
def test_the_relatives_in_the_queue_are_those_of_all_possible_queues(group, size):
    size = min(size, len(group) - 1)
    met = []
    for query in range(len(group)):
        others = [group[n] for n in range(len(group)) if n != query]
        met += [queue.count(group[query]) for queue in combinations(others, size)]
    expected, share = expected_relatives(np.array(group), size)
    assert expected == pytest.approx(sum(met) / len(met))
    assert share == pytest.approx(sum(n > 0 for n in met) / len(met), abs=1e-12)


FAMILY = pd.DataFrame(
    [("a", "a1", "frontal", 1.0), ("a", "a1", "lateral", 1.0), ("a", "a2", "frontal", 0.0), ("a", "a3", "frontal", 1.0),
     ("b", "b1", "frontal", 0.0)],
    columns=["patient_id", "study_id", "laterality", "effusion"],
)  # fmt: skip


@pytest.mark.parametrize("settings_", [{}, {"include_self": True}, {"study": "same", "include_self": True}], ids=str)
def test_the_self_pair_rate_is_what_the_sampler_draws(settings_):
    cohort, rule = make_cohort(FAMILY), PairCriterion(**settings_)
    keys, _ = PairSampler(cohort, rule, seed=3).draw(np.arange(5), keys=20_000)
    drawn = float((keys == np.arange(5)[:, None]).mean())
    found = census(cohort, queue_size=1, further=[("mine", rule)])["further"][0]
    assert found["self_pair_rate"] == pytest.approx(drawn, abs=0.01)


def test_a_rule_with_a_window_and_controlled_size_is_counted_from_its_candidates():
    rule = PairCriterion(max_studies_apart=1, size_like={"study": "same"}, require_partner=True)
    found = census(make_cohort(FAMILY), queue_size=1, further=[("mine", rule)])["further"][0]
    # Two radiographs have a partner in their own study, so one candidate each; the other three are no queries.
    assert found["with_partner"] == 2
    assert found["largest"] == 1
    assert found["empty_fraction"] == 0.6
    assert found["self_pair_rate"] == 0.0
    assert found["settings"]["size_like"]["study"] == "same"


def test_plain_moco_pairs_everybody_with_themselves():
    found = census(make_cohort(FAMILY), queue_size=1, further=[("moco", None)])["further"][0]
    assert found["settings"] is None
    assert (found["self_pair_rate"], found["with_partner"], found["empty_fraction"]) == (1.0, 0, 1.0)
    assert found["mismatch_rate"] == {"effusion": None}


def test_a_queue_as_large_as_the_cohort_has_no_figures():
    assert census(make_cohort(FAMILY), queue_size=5)["queue"] == {"size": 5, "patient": None, "study": None}
    assert census(make_cohort(FAMILY), queue_size=4)["queue"]["patient"]["expected"] == pytest.approx(12 / 5)


def test_a_cohort_without_patient_ids_is_refused():
    with pytest.raises(CxrPairError, match="no patient ids"):
        census(make_cohort(FAMILY, patients_known=False), queue_size=1)


def test_a_patient_with_very_many_radiographs_costs_no_list_of_pairs():
    n = 60_000  # 3.6 thousand million pairs
    table = pd.DataFrame({"patient_id": ["a"] * n, "study_id": [f"s{row // 2:05}" for row in range(n)]})
    table["effusion"] = (np.arange(n) % 4 < 2) * 1.0
    any_study = census(make_cohort(table), queue_size=1)["rules"][0]
    assert any_study["largest"] == n - 1
    assert any_study["mismatch_rate"]["effusion"] == pytest.approx((n / 2) / (n - 1))


@pytest.mark.parametrize(
    ("findings", "asked", "shown"),
    [(["edema", "pleural_effusion"], None, "pleural_effusion"), (["edema", "mass"], None, "edema"),
     (["edema", "mass"], "mass", "mass"), ([], None, None)],
)  # fmt: skip
def test_the_finding_shown_is_the_one_asked_for_or_pleural_effusion_or_the_first(findings, asked, shown):
    table = FAMILY.drop(columns="effusion").assign(**dict.fromkeys(findings, 1.0))
    assert shown_finding(make_cohort(table, findings), asked) == shown


def test_another_finding_is_an_error_that_names_those_there_are():
    with pytest.raises(CxrPairError, match="--finding mass: the cohort has effusion"):
        shown_finding(make_cohort(FAMILY), "mass")
