import csv
import json

import pytest
from small_evaluation import FINDING, evaluated_on, make_cohort, make_table, page_of

from monai_cxrpair.evaluation.cards import HELD_OUT
from monai_cxrpair.evaluation.panels import cohort_flow
from monai_cxrpair.evaluation.report import checklist as module
from monai_cxrpair.evaluation.report.checklist import ANSWERED, COLUMNS, OPEN, PARTLY, make_checklist, write_checklist
from monai_cxrpair.evaluation.report.checklist_items import CHECKLISTS

SIDE = {"radiographs": 70, "patients": 30, "studies": 41, "present": 11, "absent": 52, "uncertain": 5, "missing": 2}
LINEAR = {"auc_mean": 0.7, "auc_sd": None, "ci95": [0.6, 0.8], "auc_draws": [0.7]}
CARD = {"format": "cxrpair-encoder/1", "encoder": "resnet18", "in_channels": 1}


def small(**more):
    return {
        "finding": "edema",
        "protocol": {},
        "cohort": {"train": {"radiographs": 5}, "test": {"radiographs": 3}},
        "encoders": {"only": {"linear": LINEAR}},
        **more,
    }


def find(results, checklist, number):
    return next(i for i in make_checklist(results)["items"] if (i["checklist"], i["item"]) == (checklist, number))


def test_every_item_of_both_checklists_is_there_once_and_in_order():
    claim = [item.number for item in CHECKLISTS["CLAIM 2024"]]
    assert claim == [str(number) for number in range(1, 45)]
    tripod = [item.number for item in CHECKLISTS["TRIPOD+AI"]]
    assert len(tripod) == len(set(tripod)) == 52
    assert sorted({int(number.rstrip("abcdefg")) for number in tripod}) == list(range(1, 28))
    parts = {"3": 3, "5": 2, "6": 3, "8": 3, "9": 3, "12": 7, "18": 6, "20": 3, "23": 2, "27": 3}
    assert {key: sum(n.rstrip("abcdefg") == key and n != key for n in tripod) for key in parts} == parts


@pytest.mark.parametrize("checklist", CHECKLISTS)
def test_the_counts_are_those_of_the_items(checklist):
    made = make_checklist(small())
    statuses = [item["status"] for item in made["items"] if item["checklist"] == checklist]
    assert made["counts"][checklist] == {status: statuses.count(status) for status in (ANSWERED, PARTLY, OPEN)}
    assert sum(made["counts"][checklist].values()) == len(CHECKLISTS[checklist])


def test_what_no_run_can_know_is_left_to_the_authors():
    for number in ("5", "11", "15", "16", "17", "18", "33", "34", "44"):
        item = find(small(), "CLAIM 2024", number)
        assert (item["status"], item["answer"], item["section"]) == (OPEN, None, None)
    for number in ("6a", "8b", "8c", "17", "18a", "18b", "18d", "18e", "19"):
        assert find(small(), "TRIPOD+AI", number)["status"] == OPEN


def test_an_item_is_answered_only_once_the_run_knows_it():
    assert find(small(), "CLAIM 2024", "20")["status"] == OPEN
    sides = {"train": SIDE, "test": SIDE | {"present": 17}}
    known = small(cohort=sides, protocol={"split_hash": "abc", "test_fraction": 0.25, "uncertain": "ones"})
    assert find(known, "CLAIM 2024", "20")["status"] == ANSWERED
    assert "test share 0.25" in find(known, "CLAIM 2024", "19")["answer"]
    for checklist, number in (("CLAIM 2024", "12"), ("TRIPOD+AI", "11")):
        assert find(known, checklist, number)["status"] == OPEN  # only the flow counts those left out before
    assert "17 with and 52 without edema among 30 patients" in find(known, "TRIPOD+AI", "21")["answer"]
    labels = find(known, "CLAIM 2024", "14")  # the column is known, the readers are not
    assert (labels["status"], "edema" in labels["answer"]) == (PARTLY, True)


def test_the_missing_labels_are_those_of_the_whole_cohort(tmp_path):
    table = make_table()
    evaluated = evaluated_on(make_cohort(table))
    page_of(evaluated, "cohort_flow", cohort_flow.make, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    counted = {}
    for side in ("train", "test"):
        labels = table[FINDING][table["patient_id"].isin(getattr(evaluated.whole_split, f"{side}_patients"))]
        counted[side] = labels.isna().sum(), (labels == -1).sum()
        assert min(counted[side]) > 0
    (train, unsure), (test, unsure_test) = counted["train"], counted["test"]
    for checklist, number in (("CLAIM 2024", "12"), ("TRIPOD+AI", "11")):
        item = find(results, checklist, number)
        assert item["status"] == ANSWERED
        assert f"without a label: train {train}, test {test};" in item["answer"]
        assert f"uncertain one: train {unsure}, test {unsure_test}" in item["answer"]
    unmade = {**results, "panels": {"cohort_flow": {"not_made": "no"}}}
    assert find(unmade, "CLAIM 2024", "12")["status"] == OPEN


def test_without_known_patients_no_item_claims_sides_or_clusters_by_patient():
    sides = {"train": SIDE, "test": SIDE}
    settings = {"split_hash": "abc", "test_fraction": 0.25, "replicates": 200, "labelled_studies": 9, "draws": 2}
    settings |= {"label_fraction": 0.1}
    cards = {"only": {"linear": LINEAR, "card": CARD}}
    known = small(cohort=sides, protocol=settings, encoders=cards)
    unknown = {**known, "cohort": {**sides, "patients_known": False}}
    for checklist, number in (("CLAIM 2024", "20"), ("TRIPOD+AI", "12d"), ("TRIPOD+AI", "23b")):
        assert find(known, checklist, number)["status"] != OPEN
        assert find(unknown, checklist, number)["status"] == OPEN
    said = " ".join(item["answer"] or "" for item in make_checklist(unknown)["items"])
    for claim in ("30 patients", "by patient", "whole patients", "test patients", "patients held out"):
        assert claim in " ".join(item["answer"] or "" for item in make_checklist(known)["items"]), claim
        assert claim not in said, claim
    assert "patients are not known" in said


def test_what_was_learned_before_the_probe_is_not_claimed_to_be_disjoint():
    sides = {"train": SIDE, "test": SIDE}
    near, far = ({"linear": LINEAR, "card": CARD | {"test_patients": text}} for text in (HELD_OUT, "another cohort"))
    answer = find(small(cohort=sides, encoders={"near": near, "far": far}), "CLAIM 2024", "20")["answer"]
    assert "what the probe learns from" in answer
    assert answer.endswith("not known of the pre-training of far")
    assert "not known" not in find(small(cohort=sides, encoders={"near": near}), "CLAIM 2024", "20")["answer"]


def test_an_encoder_paired_by_labels_is_not_called_self_supervised():
    oracle = {"linear": LINEAR, "card": CARD | {"pairing": {"oracle_same_finding": "edema"}}}
    plain = {"linear": LINEAR, "card": CARD}
    kinds = [
        find(small(encoders=encoders), "CLAIM 2024", "1")["answer"]
        for encoders in ({"a": oracle}, {"a": oracle, "b": plain}, {"b": plain})
    ]
    assert [kind.startswith("self-supervised") for kind in kinds] == [False, True, True]
    assert ["a: paired by the labels of edema" in kind for kind in kinds] == [True, True, False]


def test_one_draw_claims_no_interval_over_draws_and_no_ensemble():
    encoders = {"a": {"linear": {**LINEAR, "pr_auc": {}}}}
    one, many = (small(encoders=encoders, protocol={"draws": draws, "replicates": 200}) for draws in (1, 12))
    assert "label draws" in find(many, "CLAIM 2024", "29")["answer"]
    assert "label draws" not in find(one, "CLAIM 2024", "29")["answer"]
    assert find(one, "CLAIM 2024", "27")["answer"].startswith("none")
    assert (
        "predictions.csv: the score is the mean of the probes of 12 draws" in find(many, "CLAIM 2024", "27")["answer"]
    )
    with_gallery = {**many, "panels": {"gallery": {}}}
    assert "and Where it fails" in find(with_gallery, "CLAIM 2024", "27")["answer"]


def test_items_of_which_only_a_part_is_known_are_never_answered_whole():
    whole = {(name, item.number) for name, items in CHECKLISTS.items() for item in items if item.whole}
    partly = {("TRIPOD+AI", "12g"), ("TRIPOD+AI", "22")} | {("CLAIM 2024", number) for number in ("22", "25", "27")}
    assert not whole & partly


def test_a_panel_that_was_not_made_answers_nothing():
    for name, (fact, _, _) in module._PANELS.items():
        number = next(item.number for item in CHECKLISTS["CLAIM 2024"] if item.fact == fact)
        assert find(small(panels={name: {}}), "CLAIM 2024", number)["status"] == PARTLY
        assert find(small(panels={name: {"not_made": "no"}}), "CLAIM 2024", number)["status"] == OPEN


def test_temperature_scaling_is_told_where_it_was_done():
    assert find(small(encoders={"a": {"linear": {**LINEAR, "pr_auc": {}}}}), "TRIPOD+AI", "12f")["answer"] == "none"
    scaled = {**LINEAR, "pr_auc": {}, "calibrated": {"temperatures": [2.0]}}
    assert "temperature" in find(small(encoders={"a": {"linear": scaled}}), "TRIPOD+AI", "12f")["answer"]


def test_the_csv_has_every_item_and_a_column_for_the_authors(tmp_path):
    made = make_checklist(small())
    write_checklist(made, tmp_path / "checklist.csv")
    with (tmp_path / "checklist.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["checklist"], row["item"], row["status"]) for row in rows] == [
        (item["checklist"], item["item"], item["status"]) for item in made["items"]
    ]
    assert {row["authors"] for row in rows} == {""}
