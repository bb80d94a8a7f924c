import json

import numpy as np
import pytest
from small_evaluation import FINDING, evaluated_on, make_cohort, make_table, page_of

from monai_cxrpair.cohort import hold_out_validation, split_patients
from monai_cxrpair.evaluation.panels.pairing import affinity_words, make
from monai_cxrpair.pairing import Affinity, PairCriterion, PairSampler


def card_of(whole, *, pairing, validation_fraction=0.0, subset=None):
    """As training writes it: by a split of its own and a held-out validation side."""
    split = split_patients(whole, test_fraction=0.4, seed=0)
    split = hold_out_validation(whole, split, fraction=validation_fraction, seed=0)
    cohort = whole.where(subset) if subset else whole
    trained = {
        "fingerprint": whole.fingerprint(), "subset": subset, "radiographs": len(split.within(cohort).train_rows),
        "unreadable": 0, "test_fraction": 0.4, "validation_fraction": validation_fraction, "split_seed": 0,
        "split_file": None, "near_duplicates": "",
    }  # fmt: skip
    return {"pairing": pairing, "cohort": trained, "keys_per_query": 1, "affinity": None}


def figures_of(whole, cards, folder):
    return make(evaluated_on(whole, cards=cards), folder).figures


@pytest.mark.parametrize("pairing", [{"study": "same"}, {"study": "any", "include_self": True}, {"study": "distinct"}])
def test_the_figures_are_those_of_the_pairs_that_training_draws(tmp_path, pairing):
    whole = make_cohort()
    cards = {"ours": card_of(whole, pairing=pairing, validation_fraction=0.3)}
    found = figures_of(whole, cards, tmp_path)["encoders"]["ours"]
    side = hold_out_validation(whole, split_patients(whole, test_fraction=0.4, seed=0), fraction=0.3, seed=0)
    cohort = whole.take(side.train_rows)
    sampler = PairSampler(cohort, PairCriterion.from_config(pairing), seed=0)
    rows = np.arange(len(cohort))
    keys, _ = sampler.draw(rows, keys=4000)  # (N, 4000)
    assert found["radiographs"] == found["queries"] == len(cohort)
    assert found["mean_size"] == pytest.approx(sampler.sizes.mean())
    assert found["with_partner"] == pytest.approx((sampler.partners > 0).mean())
    assert found["self_pair_rate"] == pytest.approx((keys == rows[:, None]).mean(), abs=0.01)
    carried = np.isin(cohort.labels(FINDING), (1, -1))
    some = sampler.sizes > 0
    assert found["agreement"] == pytest.approx((carried[keys] == carried[:, None])[some].mean(), abs=0.01)
    one, other = np.triu_indices(len(cohort), k=1)
    assert found["agreement_by_chance"] == pytest.approx((carried[one] == carried[other]).mean())


def test_only_the_radiographs_of_the_encoders_own_subset_are_counted(tmp_path):
    whole = make_cohort()
    cards = {"ours": card_of(whole, pairing={"study": "any"}, subset="laterality == 'frontal'")}
    found = figures_of(whole, cards, tmp_path)["encoders"]["ours"]
    split = split_patients(whole, test_fraction=0.4, seed=0)
    assert found["radiographs"] == int((whole.table["laterality"].iloc[split.train_rows] == "frontal").sum())


def test_an_encoder_of_another_cohort_is_said_to_be_left_out(tmp_path):
    whole = make_cohort()
    other = card_of(make_cohort(make_table(seed=9)), pairing={"study": "same"})
    cards = {"ours": card_of(whole, pairing={"study": "same"}), "foreign": other, "plain": card_of(whole, pairing=None)}
    found = figures_of(whole, cards, tmp_path)
    assert list(found["encoders"]) == ["ours"]
    assert list(found["left_out"]) == ["foreign"]
    assert found["without_rule"] == ["plain"]
    page = page_of(evaluated_on(whole, cards=cards), "pairing", make, tmp_path)
    assert "foreign is not counted: pre-trained on another cohort" in page
    assert "(plain MoCo): plain." in page
    assert "metadata only" in page


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"radiographs": 3}, "and the card says 3"),
        ({"split_file": "ab" * 32}, "split file that is not the one of this evaluation"),
        ({"subset": "no_such_column == 1"}, "subset does not fit this cohort"),
    ],
)
def test_a_training_side_that_cannot_be_found_again_is_said_and_not_guessed(tmp_path, changes, why):
    whole = make_cohort()
    card = card_of(whole, pairing={"study": "same"})
    card["cohort"] |= changes
    found = figures_of(whole, {"ours": card}, tmp_path)
    assert found["encoders"] == {}
    assert why in found["left_out"]["ours"]


def test_a_rule_that_this_version_does_not_know_costs_only_its_own_row(tmp_path):
    whole = make_cohort()
    cards = {
        "new": card_of(whole, pairing={"moon": "full"}),
        "ours": card_of(whole, pairing={"study": "same", "require_partner": True}),
    }
    found = figures_of(whole, cards, tmp_path)
    assert "what this version cannot count" in found["left_out"]["new"]
    ours = found["encoders"]["ours"]
    assert ours["queries"] < ours["radiographs"]
    assert ours["self_pair_rate"] == 0


def test_a_card_that_lacks_what_is_needed_costs_only_its_own_row_and_names_no_path(tmp_path, caplog):
    whole = make_cohort()
    cards = {name: card_of(whole, pairing={"study": "same"}) for name in ("short", "table", "ours")}
    del cards["short"]["cohort"]["split_seed"]
    cards["table"]["affinity"] = {"kernel": "/pacs/DOE^JANE/table.csv"}
    found = figures_of(whole, cards, tmp_path)
    assert list(found["left_out"]) == ["short", "table"]
    assert list(found["encoders"]) == ["ours"]
    assert "DOE^JANE" not in json.dumps(found)
    assert "DOE^JANE" in caplog.text


def test_without_a_rule_there_is_no_panel(tmp_path):
    whole = make_cohort()
    assert make(evaluated_on(whole, cards={"plain": card_of(whole, pairing=None)}), tmp_path) is None


def test_the_page_shows_the_figures_and_warns_of_a_rule_that_reads_labels(tmp_path):
    whole = make_cohort()
    cards = {"oracle": card_of(whole, pairing={"study": "any", "oracle_same_finding": FINDING})}
    page = page_of(evaluated_on(whole, cards=cards), "pairing", make, tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())["panels"]["pairing"]["encoders"]["oracle"]
    assert found["agreement"] == 1.0
    assert f"{100 * found['self_pair_rate']:.1f}</td>" in page
    assert f"{100 * found['agreement_by_chance']:.1f}</td>" in page
    assert "an upper bound, not self-supervised" in page
    assert "metadata only" not in page


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kernel": "exponential", "half_life_days": 90, "other_laterality": 0.5}, ["every 90 days", "lateral 0.5"]),
        ({"kernel": "step", "cutoff_days": 7, "in_queue": False}, ["up to 7 days", "queue are not sought"]),
        ({"kernel": "step", "threshold": 0.25, "other_view": 0.75}, ["below 0.25", "AP with PA) 0.75"]),
    ],
)
def test_the_affinity_in_words_names_the_settings_that_matter(settings, words):
    text = affinity_words(Affinity.from_config(settings))
    assert all(word in text for word in words)


def test_without_an_affinity_every_partner_counts_in_full():
    assert "in full" in affinity_words(None)
