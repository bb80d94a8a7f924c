"""Every combination of settings against a reading of its definition, pair by pair."""

import itertools
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import PairCriterion, PairSampler, build_index
from monai_cxrpair.pairing import blocks as blocks_module
from monai_cxrpair.pairing import lists as lists_module
from monai_cxrpair.pairing.candidates import build_index_from_codes
from monai_cxrpair.pairing.properties import finding_codes, property_codes
from monai_cxrpair.pairing.windows import UNDATED

RELATIONS = ("any", "same", "distinct")
PROPERTIES = ("laterality", "view_position", "age_group", "sex")
UNKNOWN = {"laterality": "unknown", "view_position": "", "sex": ""}
FINDING = "pleural_effusion"
START = datetime(2020, 1, 1)
WINDOWS = [
    {}, {"max_days": 2}, {"max_days": 0}, {"min_days": 1}, {"min_days": 0.5, "max_days": 30}, {"max_studies_apart": 1},
    {"max_studies_apart": 0}, {"max_studies_apart": 2, "min_days": 1.5}, {"max_studies_apart": 1, "max_days": 3},
]  # fmt: skip


def make_cohort(radiographs):
    """From dicts of patient, study, laterality, view_position, age, sex, hours (None: no date), finding."""
    table = pd.DataFrame(radiographs).rename(columns={"patient": "patient_id", "study": "study_id"})
    table["study_datetime"] = pd.to_datetime([x["at"] for x in radiographs])
    table["image_id"] = [f"i{i}" for i in range(len(table))]
    table["path"] = table["image_id"] + ".png"
    return Cohort(table.drop(columns="at"), root=".", findings=[FINDING], source="test")


def property_of(x, name, bins):
    """The value of a property, None where it is not known."""
    if name != "age_group":
        return None if x[name] == UNKNOWN[name] else x[name]
    if np.isnan(x["age"]):
        return None
    return int(x["age"] / bins) if isinstance(bins, (int, float)) else sum(x["age"] >= bound for bound in bins)


class Oracle:
    """S_c as a matrix of truth values: [x, y] says whether y is a candidate of x."""

    def __init__(self, cohort, bins=10):
        rows = cohort.table.to_dict("records")
        self.n = len(rows)
        earliest = {}
        for x in rows:
            if not pd.isna(x["study_datetime"]):
                earliest[x["study_id"]] = min(x["study_datetime"], earliest.get(x["study_id"], x["study_datetime"]))
        self.same_study = self.matrix(rows, lambda x, y: x["study_id"] == y["study_id"])
        self.same_patient = self.matrix(rows, lambda x, y: x["patient_id"] == y["patient_id"])
        self.apart = self.matrix(rows, lambda x, y: abs(x["study_order"] - y["study_order"]), dtype=int)
        self.agree = self.matrix(rows, lambda x, y: (x[FINDING] in (1, -1)) == (y[FINDING] in (1, -1)))

        def days(x, y):
            if x["study_id"] == y["study_id"]:
                return 0.0
            times = earliest.get(x["study_id"]), earliest.get(y["study_id"])
            return np.nan if None in times else abs(times[0] - times[1]) / timedelta(days=1)

        self.days = self.matrix(rows, days, dtype=float)
        self.relation = {}
        for name in PROPERTIES:
            values = [property_of(x, name, bins) for x in rows]
            known = np.array([[a is not None and b is not None for b in values] for a in values])
            equal = np.array([[a == b for b in values] for a in values])
            self.relation[name] = {"any": True, "same": known & equal, "distinct": known & ~equal}

    def matrix(self, rows, function, dtype=bool):
        return np.array([[function(x, y) for y in rows] for x in rows], dtype=dtype)

    def candidates(self, rule):
        found = self.same_patient & {"any": True, "same": self.same_study, "distinct": ~self.same_study}[rule.study]
        for name in PROPERTIES:
            found = found & self.relation[name][getattr(rule, name)]
        if rule.min_days > 0 or rule.max_days is not None:  # a comparison with an unknown distance (NaN) is false
            found = found & (self.days >= rule.min_days)
        if rule.max_days is not None:
            found = found & (self.days <= rule.max_days)
        if rule.max_studies_apart is not None:
            found = found & (self.apart <= rule.max_studies_apart)
        if rule.oracle_same_finding is not None:
            found = found & self.agree
        return found if rule.include_self else found & ~np.eye(self.n, dtype=bool)


def as_matrix(index):
    """What an index holds, and a check that no candidate stands in it twice."""
    n = len(index.sizes)
    found = np.zeros((n, n), dtype=int)
    for x in range(n):
        np.add.at(found[x], index.candidates(x), 1)
    assert found.max(initial=0) <= 1
    return found.astype(bool)


def random_cohort(seed, n=26):
    rng = np.random.default_rng(seed)
    radiographs = []
    for _ in range(n):
        study = int(rng.integers(0, 9))
        dated = study % 4 != 3
        at = START + timedelta(hours=float(study * 17 % 5 * 12 + rng.choice([0, 0, 1]))) if dated else None
        radiographs.append({
            "patient": f"p{study % 2}", "study": f"s{study}", "at": at,
            "laterality": rng.choice(["frontal", "lateral", "unknown"], p=[0.5, 0.35, 0.15]),
            "view_position": rng.choice(["PA", "AP", "LL", ""]), "sex": rng.choice(["F", "M", "O", ""]),
            "age": rng.choice([9.9, 10.0, 34.0, np.nan]), FINDING: rng.choice([1.0, 0.0, -1.0, np.nan]),
        })  # fmt: skip
    return make_cohort(radiographs)


def rules():
    """All combinations of relations, windows, oracle and include_self that are no contradiction."""
    for study, window in itertools.product(RELATIONS, WINDOWS):
        for finding, include_self in itertools.product((None, FINDING), (False, True)):
            for relations in itertools.product(RELATIONS, repeat=len(PROPERTIES)):
                given = dict(zip(PROPERTIES, relations, strict=True), study=study, oracle_same_finding=finding)
                try:
                    yield PairCriterion(**given, **window, include_self=include_self)
                except CxrPairError:
                    assert study == "same" or window["max_studies_apart"] == 0


def test_every_combination_of_settings_holds_exactly_the_candidates_of_its_definition():
    cohort = random_cohort(0)
    oracle = Oracle(cohort)
    table = cohort.table
    times = table["study_datetime"].to_numpy(dtype="datetime64[us]")
    laterality = property_codes(cohort, "laterality")
    codes = (cohort.codes("patient_id"), cohort.codes("study_id"), np.where(laterality < 0, 2, laterality))
    more = {
        "properties": {name: property_codes(cohort, name) for name in PROPERTIES[1:]},
        "time": np.where(np.isnat(times), UNDATED, times.astype(np.int64)),
        "study_order": table["study_order"].to_numpy(),
        "finding": finding_codes(table[FINDING]),
    }
    checked, sizes = 0, set()
    for rule in rules():
        expected = oracle.candidates(rule)
        index = build_index_from_codes(*codes, rule, **more)
        np.testing.assert_array_equal(as_matrix(index), expected, err_msg=str(rule))
        np.testing.assert_array_equal(index.sizes, expected.sum(axis=1))
        np.testing.assert_array_equal(index.holds_self, np.diagonal(expected))
        checked += 1
        sizes.update(index.sizes.tolist())
    assert checked == 81 * 4 * (1 + 9 + 8)  # study same allows no window, study distinct not 0 studies apart
    assert {0, 1, 2, 3} <= sizes


CHOICES = st.fixed_dictionaries(
    {
        **{name: st.sampled_from(RELATIONS) for name in ("study", *PROPERTIES)},
        "window": st.sampled_from(WINDOWS),
        "oracle_same_finding": st.sampled_from([None, FINDING]),
        "include_self": st.booleans(),
        "require_partner": st.booleans(),
        "age_bins": st.sampled_from([10, 5.5, (18, 65), (10,)]),
    }
)
RADIOGRAPH = st.fixed_dictionaries(
    {
        "study": st.integers(0, 9),
        "at": st.one_of(st.none(), st.integers(-40, 40).map(lambda hours: START + timedelta(hours=12 * hours))),
        "laterality": st.sampled_from(["frontal", "lateral", "unknown"]),
        "view_position": st.sampled_from(["PA", "AP", "LL", "RL", ""]),
        "age": st.sampled_from([0.0, 5.5, 17.9, 18.0, 65.0, 90.0, float("nan")]),
        "sex": st.sampled_from(["F", "M", "O", ""]),
        FINDING: st.sampled_from([1.0, 0.0, -1.0, float("nan")]),
    }
)


@st.composite
def cohorts(draw):
    radiographs = draw(st.lists(RADIOGRAPH, min_size=1, max_size=25))
    owner = draw(st.lists(st.integers(0, 3), min_size=10, max_size=10))
    return make_cohort([x | {"study": f"s{x['study']}", "patient": f"p{owner[x['study']]}"} for x in radiographs])


def criterion(choices):
    """The rule of the choices, or None where they contradict each other."""
    try:
        return PairCriterion(
            **{name: value for name, value in choices.items() if name != "window"}, **choices["window"]
        )
    except CxrPairError:
        return None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(
    cohort=cohorts(), rule=CHOICES.map(criterion).filter(bool), seed=st.integers(0, 99),
    block=st.sampled_from([2, 9, 99]),
)  # fmt: skip
def test_any_rule_on_any_cohort_draws_from_exactly_the_candidates_of_the_definition(cohort, rule, seed, block):
    expected = Oracle(cohort, rule.age_bins).candidates(rule)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks_module, "BLOCK", block)
        index = build_index(cohort, rule)
    np.testing.assert_array_equal(as_matrix(index), expected)
    np.testing.assert_array_equal(index.holds_self, np.diagonal(expected))
    asked = np.flatnonzero(expected.any(axis=1)) if rule.require_partner else np.arange(len(cohort))
    if not len(asked):
        with pytest.raises(CxrPairError, match="require_partner"):
            PairSampler(cohort, rule)
        return
    sampler = PairSampler(cohort, rule, seed=seed)
    assert sampler.queries.tolist() == asked.tolist()
    others = expected & ~np.eye(len(cohort), dtype=bool)
    assert sampler.partners.tolist() == others.sum(axis=1).tolist()
    keys, affinity = sampler.draw(np.arange(len(cohort)), keys=4)
    alone = ~expected.any(axis=1)
    assert (keys[alone] == np.flatnonzero(alone)[:, None]).all()
    assert expected[np.arange(len(cohort))[:, None], keys][~alone].all()
    assert (affinity == 1).all()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(
    cohort=cohorts(), rule=CHOICES.map(criterion).filter(bool), seed=st.integers(0, 9),
    other=CHOICES.map(lambda c: criterion(c | {"require_partner": False})).filter(bool),
    chunk=st.sampled_from([1, 5, 99]),
)  # fmt: skip
def test_size_control_keeps_as_many_candidates_as_the_other_rule_has(cohort, rule, other, seed, chunk):
    whole = Oracle(cohort, rule.age_bins).candidates(rule)
    wanted = Oracle(cohort, other.age_bins).candidates(other).sum(axis=1)
    controlled = PairCriterion(**rule.as_dict() | {"size_like": other.as_dict(), "size_seed": seed})
    found = build_index(cohort, controlled)
    held = as_matrix(found)
    assert (held <= whole).all()
    assert found.sizes.tolist() == held.sum(axis=1).tolist() == np.minimum(whole.sum(axis=1), wanted).tolist()
    np.testing.assert_array_equal(found.holds_self, np.diagonal(held))
    with pytest.MonkeyPatch.context() as patch:  # worked on in other chunks, the outcome is the same
        patch.setattr(lists_module, "CHUNK", chunk)
        np.testing.assert_array_equal(as_matrix(build_index(cohort, controlled)), held)
