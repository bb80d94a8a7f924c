import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_evaluation import FINDING, evaluated_on, make_cohort, make_table, page_of

from monai_cxrpair.cohort import split_patients
from monai_cxrpair.cohort.split.split import split_of
from monai_cxrpair.evaluation.panels.cohort_flow import make
from monai_cxrpair.evaluation.report.results import plain


def figures_of(evaluated, folder):
    return make(evaluated, folder).figures


def rows_on(evaluated, side, condition):
    """Of the whole cohort: counted anew, patient by patient."""
    patients = set(getattr(evaluated.whole_split, f"{side}_patients"))
    rows = evaluated.whole_cohort.table.to_dict("records")
    return sum(row["patient_id"] in patients and bool(condition(row)) for row in rows)


def flow_page(evaluated, folder):
    return page_of(evaluated, "cohort_flow", make, folder)


@given(
    seed=st.integers(0, 1000),
    blank=st.sampled_from(["ignore", "zeros"]),
    uncertain=st.sampled_from(["ignore", "ones"]),
    subset=st.sampled_from([None, "support_devices == 1"]),
    lost=st.integers(0, 6),
)
@settings(max_examples=8, deadline=None)
def test_the_boxes_add_up_whatever_was_asked_for(tmp_path_factory, seed, blank, uncertain, subset, lost):
    whole = make_cohort(make_table(seed=seed))
    inside = whole.where(subset) if subset else whole
    unreadable = [
        name for name, label in zip(inside.table["image_id"], inside.labels(FINDING), strict=True)
        if blank == "zeros" or not np.isnan(label)
    ][:lost]  # fmt: skip
    evaluated = evaluated_on(whole, subset=subset, blank=blank, uncertain=uncertain, unreadable=unreadable)
    flow = figures_of(evaluated, tmp_path_factory.mktemp("x"))
    for side in flow["sides"].values():
        assert side["all"]["radiographs"] == sum(side["left_out"].values()) + side["used"]["radiographs"]
        assert side["used"]["radiographs"] == sum(side["labels"].values())
    assert flow["indexed"]["radiographs"] == sum(s["all"]["radiographs"] for s in flow["sides"].values())
    assert sum(s["left_out"]["unreadable"] for s in flow["sides"].values()) == lost
    assert sum(s["left_out"]["not_handed_over"] for s in flow["sides"].values()) == 0
    test = flow["sides"]["test"]["labels"]
    assert flow["tested"]["radiographs"] == test["present"] + test["absent"]


def test_every_radiograph_that_is_left_out_has_its_reason(tmp_path):
    evaluated = evaluated_on(make_cohort(), subset="support_devices == 1")
    flow = figures_of(evaluated, tmp_path)
    for side in ("train", "test"):
        found = flow["sides"][side]["left_out"]
        assert found["outside_subset"] == rows_on(evaluated, side, lambda row: row["support_devices"] != 1) > 0
        missing = rows_on(evaluated, side, lambda row: row["support_devices"] == 1 and np.isnan(row[FINDING]))
        assert found["no_label"] == missing > 0
        assert flow["sides"][side]["labels"]["uncertain"] == rows_on(
            evaluated, side, lambda row: row["support_devices"] == 1 and row[FINDING] == -1
        )


def test_an_identifier_with_a_colon_is_still_found_among_the_unreadable(tmp_path):
    table = make_table()
    row = int(np.flatnonzero(table[FINDING] == 1)[0])
    table.loc[row, "image_id"] = "ward 3: bed 2: 17"
    flow = figures_of(evaluated_on(make_cohort(table), unreadable=["ward 3: bed 2: 17"]), tmp_path)
    assert sum(side["left_out"]["unreadable"] for side in flow["sides"].values()) == 1


def test_what_the_index_step_left_out_is_counted_by_reason_and_never_named(tmp_path):
    rejected = {"duplicate": 3, "other modality": 40, "/pacs/DOE^JANE.dcm": 2}
    n = len(make_table())
    whole = make_cohort(intake={"files_seen": n + 45, "rejected": rejected})
    files = figures_of(evaluated_on(whole), tmp_path)["files"]
    assert [(why["reason"], why["count"]) for why in files["reasons"]] == [
        ("other modality", 40), ("duplicate", 3), ("other", 2),
    ]  # fmt: skip
    assert (files["seen"], files["left_out"], files["unexplained"]) == (n + 45, 45, 0)
    page = flow_page(evaluated_on(whole), tmp_path)
    assert "other modality: 40" in page
    for text in (page, (tmp_path / "results.json").read_text()):
        assert "DOE" not in text
        assert ".dcm" not in text


def test_files_that_nobody_accounts_for_are_said(tmp_path):
    n = len(make_table())
    whole = make_cohort(intake={"files_seen": n + 5, "rejected": {"duplicate": 3}})
    assert figures_of(evaluated_on(whole), tmp_path)["files"]["unexplained"] == 2
    assert "not explained by the cohort file, which was changed after the index step: 2" in flow_page(
        evaluated_on(whole), tmp_path
    )


def test_a_cohort_that_does_not_know_its_files_says_so(tmp_path):
    evaluated = evaluated_on(make_cohort())
    assert figures_of(evaluated, tmp_path)["files"] is None
    assert "is not recorded in this cohort file" in flow_page(evaluated, tmp_path)


def test_radiographs_on_no_side_of_a_split_file_are_counted(tmp_path):
    whole = make_cohort()
    given_split = split_patients(whole, test_fraction=0.4, seed=0)
    train = list(given_split.train_patients)
    split = split_of(whole, {"train": train[5:], "validation": train[2:5], "test": given_split.test_patients})
    flow = figures_of(evaluated_on(whole, split=split), tmp_path)
    assert list(flow["sides"]) == ["train", "validation", "test"]
    assert flow["no_side"] == int(whole.table["patient_id"].isin(train[:2]).sum()) > 0
    shown = sum(side["all"]["radiographs"] for side in flow["sides"].values())
    assert shown + flow["no_side"] == flow["indexed"]["radiographs"]
    assert [column["group"] for column in flow["table_one"]["columns"]] == ["all", "train", "validation", "test"]


def test_the_draws_show_their_smallest_and_largest(tmp_path):
    evaluated = evaluated_on(make_cohort())
    table = evaluated.cohort.table
    patients = [table["patient_id"].iloc[rows].nunique() for rows in evaluated.linear.draws]
    draws = figures_of(evaluated, tmp_path)["draws"]
    assert draws["draws"] == 3
    assert draws["patients"] == [min(patients), max(patients)]
    sizes = [len(rows) for rows in evaluated.linear.draws]
    assert draws["radiographs"] == [min(sizes), max(sizes)]


def test_table_1_counts_each_side_with_the_finding_and_the_devices_and_nothing_else(tmp_path):
    table = make_table()
    table["edema"] = 1.0
    table.loc[0, "view_position"] = "DOE JANE STANDING"
    evaluated = evaluated_on(make_cohort(table))
    one = figures_of(evaluated, tmp_path)["table_one"]
    everybody, train, test = one["columns"]
    assert set(everybody["findings"]) == {FINDING, "support_devices"}
    assert everybody["radiographs"] == train["radiographs"] + test["radiographs"] == len(evaluated.cohort)
    on_test = evaluated.cohort.table.iloc[evaluated.split.test_rows]
    assert test["findings"][FINDING]["present"] == int((on_test[FINDING] == 1).sum())
    # The age of a patient is that of the first study here, not the mean over radiographs.
    ages = on_test.sort_values("study_order").groupby("patient_id")["age"].first()
    assert test["age"]["mean"] == pytest.approx(ages.mean(), abs=0.01)
    assert "JANE" not in json.dumps(plain(one))
    assert "JANE" in "".join(evaluated.cohort.table["view_position"])  # the cohort is left as it was


def test_the_page_shows_the_flow_in_place_of_the_plain_table(tmp_path):
    cards = {"ours": {"cohort": {"fingerprint": make_cohort().fingerprint(), "radiographs": 77}}}
    evaluated = evaluated_on(make_cohort(), cards=cards, subset="support_devices == 1", unreadable=["i0"])
    page = flow_page(evaluated, tmp_path)
    flow = json.loads((tmp_path / "results.json").read_text())["panels"]["cohort_flow"]
    text = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert page.count(">Radiographs</h2>") == 1
    assert "ours was pre-trained on 77 of these, without labels" in text
    assert f"Training side {flow['sides']['train']['all']['radiographs']} radiographs" in text
    assert f"outside the subset support_devices == 1 : {flow['sides']['test']['left_out']['outside_subset']}" in text
    assert f"Radiographs, n {' '.join(str(c['radiographs']) for c in flow['table_one']['columns'])}" in text
    assert "No patient is on both sides" in text


def test_a_cohort_without_patient_ids_claims_no_patients(tmp_path):
    table = make_table()
    table["patient_id"] = table["study_id"] = table["image_id"]
    page = flow_page(evaluated_on(make_cohort(table, patients_known=False)), tmp_path)
    assert "The source has no patient ids" in page
    assert "patients not known" in page
    assert "No patient is on both sides" not in page
    assert "one person may be on both sides" in page


def test_an_encoder_paired_by_labels_is_not_said_to_have_seen_none(tmp_path):
    whole = make_cohort()
    seen = {"cohort": {"fingerprint": whole.fingerprint(), "radiographs": 77}}
    cards = {"ours": seen | {"pairing": {"oracle_same_finding": FINDING}}, "plain": seen}
    page = flow_page(evaluated_on(whole, cards=cards), tmp_path)
    assert "ours was pre-trained on 77 of these, paired by their labels of pleural effusion" in page
    assert "plain was pre-trained on 77 of these, without labels" in page


def test_studies_are_said_to_be_what_is_scored_where_they_are(tmp_path):
    evaluated = evaluated_on(make_cohort(), aggregate="study_max")
    tested = figures_of(evaluated, tmp_path)["tested"]
    assert tested["units"] < tested["radiographs"]
    assert f"scored as {tested['units']} studies" in flow_page(evaluated, tmp_path)
