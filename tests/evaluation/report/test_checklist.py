import csv

import pytest

from monai_cxrpair.evaluation.report import checklist as module
from monai_cxrpair.evaluation.report.checklist import ANSWERED, COLUMNS, OPEN, PARTLY, make_checklist, write_checklist
from monai_cxrpair.evaluation.report.checklist_items import CHECKLISTS

SIDE = {"radiographs": 70, "patients": 30, "studies": 41, "present": 11, "absent": 52, "uncertain": 5, "missing": 2}
LINEAR = {"auc_mean": 0.7, "auc_sd": None, "ci95": [0.6, 0.8], "auc_draws": [0.7]}


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
    sides = {"train": SIDE, "test": SIDE | {"missing": 9, "present": 17}}
    known = small(cohort=sides, protocol={"split_hash": "abc", "test_fraction": 0.25, "uncertain": "ones"})
    assert find(known, "CLAIM 2024", "20")["status"] == ANSWERED
    assert "test share 0.25" in find(known, "CLAIM 2024", "19")["answer"]
    missing = find(known, "CLAIM 2024", "12")
    assert "train 2, test 9" in missing["answer"]
    assert "uncertain labels: ones" in missing["answer"]
    assert "17 with and 52 without edema among 30 patients" in find(known, "TRIPOD+AI", "21")["answer"]
    labels = find(known, "CLAIM 2024", "14")  # the column is known, the readers are not
    assert (labels["status"], "edema" in labels["answer"]) == (PARTLY, True)


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
