"""The settings of a pairing rule: what is allowed, what contradicts, what comes back."""

import numpy as np
import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing import PairCriterion
from monai_cxrpair.pairing.properties import age_group_codes, finding_codes


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"studdy": "same"}, "studdy"), ({"study": "both"}, "study is 'both'"), ({"study": ["same"]}, "study"),
        ({"laterality": None}, "laterality"), ({"view_position": "PA"}, "view_position"), ({"sex": True}, "sex"),
        ({"include_self": "no"}, "include_self"), ({"require_partner": 1}, "require_partner"),
        ({"age_bins": 0}, "age_bins"), ({"age_bins": [65, 18]}, "age_bins"), ({"age_bins": []}, "age_bins"),
        ({"age_bins": "10"}, "age_bins"), ({"age_bins": float("nan")}, "age_bins"),
        ({"max_days": -1}, "max_days"), ({"max_days": "7"}, "max_days"), ({"max_days": float("inf")}, "max_days"),
        ({"min_days": None}, "min_days"), ({"min_days": True}, "min_days"),
        ({"max_studies_apart": 1.5}, "max_studies_apart"), ({"max_studies_apart": -1}, "max_studies_apart"),
        ({"oracle_same_finding": ""}, "oracle_same_finding"), ({"oracle_same_finding": 1}, "oracle_same_finding"),
        ({"size_seed": -1}, "size_seed"), ({"size_like": "same"}, "pairing#size_like is 'same'"),
        ({"size_like": {"studdy": "same"}}, "pairing#size_like#studdy"),
        ({"size_like": {"study": "some"}}, "pairing#size_like#study is 'some'"),
    ],
)  # fmt: skip
def test_an_unknown_setting_or_value_is_an_error_that_names_it(settings, named):
    with pytest.raises(CxrPairError, match=named):
        PairCriterion.from_config(settings)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"min_days": 8, "max_days": 7}, ("min_days", "max_days")),
        ({"study": "same", "min_days": 1}, ("min_days", "study same")),
        ({"study": "same", "max_days": 30}, ("max_days", "study same")),
        ({"study": "same", "max_studies_apart": 1}, ("max_studies_apart", "study same")),
        ({"study": "distinct", "max_studies_apart": 0}, ("max_studies_apart", "study distinct")),
        ({"min_days": 1, "max_studies_apart": 0}, ("max_studies_apart", "min_days")),
        ({"size_like": {"require_partner": True}}, ("size_like#require_partner", "require_partner")),
    ],
)
def test_settings_that_contradict_each_other_are_an_error_that_names_both(settings, named):
    with pytest.raises(CxrPairError) as caught:
        PairCriterion.from_config(settings)
    for name in named:
        assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"study": "distinct", "max_days": 0}, {"study": "any", "max_studies_apart": 0}, {"age_bins": [18, 65]}]
)
def test_settings_that_only_look_contradictory_are_allowed(settings):
    PairCriterion.from_config(settings)


def test_no_pairing_stays_none_and_a_word_is_no_rule():
    assert PairCriterion.from_config(None) is None
    with pytest.raises(CxrPairError, match="pairing is 'same_study'"):
        PairCriterion.from_config("same_study")


def test_a_rule_comes_back_from_its_settings():
    rule = PairCriterion(
        study="distinct", max_days=30, age_bins=[18, 65], size_like={"study": "same", "max_studies_apart": None}
    )
    assert rule.size_like == PairCriterion(study="same")
    assert PairCriterion.from_config(rule.as_dict()) == rule
    assert hash(rule) == hash(PairCriterion.from_config(rule.as_dict()))


def test_a_rule_is_printed_as_the_settings_that_are_not_the_defaults():
    rule = PairCriterion(study="same", include_self=True, size_like=PairCriterion(laterality="same"))
    expected = "{study: same, laterality: any, include_self: true, size_like: {study: any, laterality: same}}"
    assert str(rule) == expected


def test_age_groups_are_decades_or_what_is_asked_for():
    ages = np.array([0.0, 9.99, 10.0, 64.9, 65.0, 90.0, np.nan])
    assert age_group_codes(ages).tolist() == [0, 0, 1, 6, 6, 9, -1]
    assert age_group_codes(ages, 5).tolist() == [0, 1, 2, 12, 13, 18, -1]
    assert age_group_codes(ages, (18, 65)).tolist() == [0, 0, 0, 1, 2, 2, -1]


def test_an_uncertain_finding_counts_as_present_and_a_missing_one_as_absent():
    assert finding_codes([1, 0, -1, np.nan]).tolist() == [1, 0, 1, 0]
