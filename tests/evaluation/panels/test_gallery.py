import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from report_page import numbers_without_a_source, read
from scipy.stats import binomtest
from small_evaluation import evaluated_on, make_cohort, make_table, page_of, without_patient_ids

from monai_cxrpair.evaluation.panels.gallery import make
from monai_cxrpair.evaluation.panels.thumbnails import thumbnail

THRESHOLDS = [0.35, 0.45]


class Grey:
    def __getitems__(self, rows):
        return {"image": np.stack([np.full((1, 32, 32), row % 250, np.uint8) for row in rows]), "row": np.asarray(rows)}


def evaluation(*, aggregate="image", points=True, scores=None, of_radiographs=None, patients=120, **settings):
    done = evaluated_on(make_cohort(make_table(patients)), cards={"same study": {}}, aggregate=aggregate)
    units = done.linear.cases.units
    rng = np.random.default_rng(2)
    if scores is None:
        scores = np.clip(rng.normal(0.4, 0.2, (2, len(units.present))) + 0.15 * units.present, 0.01, 0.99)
    chosen = {"operating_points": {"Youden": {"thresholds": THRESHOLDS}} if points else None}
    linear = SimpleNamespace(
        **{**vars(done.linear), "scores": {"same study": scores}, "encoders": {"same study": chosen}},
        radiograph_scores={"same study": of_radiographs},
    )
    return dataclasses.replace(done, linear=linear, dataset=Grey(), **settings)


def test_each_row_of_the_gallery_is_what_a_plain_loop_picks(tmp_path):
    done = evaluation()
    figures = make(done, tmp_path).figures
    table = done.cohort.table.iloc[done.linear.test_rows].reset_index(drop=True)
    table["score"] = done.linear.scores["same study"].mean(axis=0)
    table["present"] = done.labels[done.linear.test_rows] == 1
    wanted = {
        "missed": table[table["present"] & (table["score"] < 0.4)].sort_values("score"),
        "false_alarms": table[~table["present"] & (table["score"] >= 0.4)].sort_values("score", ascending=False),
        "unsure": table.assign(off=(table["score"] - 0.4).abs()).sort_values("off"),
    }
    seen = set()
    for kind, rows in wanted.items():
        expected = []
        for row in rows.to_dict("records"):
            if len(expected) < 6 and row["patient_id"] not in seen:
                seen.add(row["patient_id"])
                expected.append((row["image_id"], row["laterality"], row["view_position"], row["present"]))
                low, _, high = next(i for i in figures["shown"][kind] if i["image_id"] == row["image_id"])[
                    "age"
                ].partition(" to ")
                assert not high or int(low) <= row["age"] < int(high) + 1
        got = [(i["image_id"], i["laterality"], i["view_position"], i["present"]) for i in figures["shown"][kind]]
        assert got == expected
        assert len(got) >= 3


def test_the_counts_and_shares_are_those_of_a_count_by_hand(tmp_path):
    done = evaluation()
    figures = make(done, tmp_path).figures
    rows = done.linear.test_rows
    called = done.linear.scores["same study"].mean(axis=0) >= 0.4
    present = done.labels[rows] == 1
    side = done.cohort.table["laterality"].to_numpy()[rows]
    assert figures["threshold"] == pytest.approx(0.4)
    assert figures["confusion"]["fn"] == sum(p and not c for p, c in zip(present, called, strict=True))
    assert figures["confusion"]["fp"] == sum(c and not p for p, c in zip(present, called, strict=True))
    groups = {group["group"]: group for group in figures["groups"]}
    assert set(groups) == {"laterality: frontal", "laterality: lateral", "view: PA", "view: LL"}
    for name in ("frontal", "lateral"):
        inside = side == name
        found = groups[f"laterality: {name}"]
        assert found["radiographs"] == inside.sum()
        assert found["wrong"]["value"] == pytest.approx(np.mean(present[inside] != called[inside]))
        assert found["missed"]["value"] == pytest.approx(np.mean(~called[inside & present]))
        assert found["false_alarms"]["value"] == pytest.approx(np.mean(called[inside & ~present]))
        # By patient the interval is at least as wide as that of independent radiographs.
        plain = binomtest(int((present != called)[inside].sum()), int(inside.sum())).proportion_ci(method="wilson")
        low, high = found["wrong"]["ci95"]
        assert high - low >= plain.high - plain.low - 1e-9


def test_without_a_threshold_a_half_is_taken_and_the_page_says_so(tmp_path):
    done = evaluation(points=False)
    text = read(page_of(done, "gallery", make, tmp_path))[1]
    assert "called from 0.500 on, because too few labels were drawn to choose a threshold" in text


def test_a_probe_that_is_never_wrong_has_empty_rows_and_says_so(tmp_path):
    present = evaluation().linear.cases.units.present
    done = evaluation(scores=np.where(present, 0.9, 0.1)[None])
    text = read(page_of(done, "gallery", make, tmp_path))[1]
    assert "None was missed." in text
    assert "There was no false alarm." in text


def test_a_study_is_shown_by_the_view_that_it_has_its_score_from(tmp_path):
    units = evaluation(aggregate="study_max").linear.cases.units
    each = np.random.default_rng(4).random((2, len(units.rows)))
    done = evaluation(aggregate="study_max", scores=units.pool(each), of_radiographs=each)
    page = page_of(done, "gallery", make, tmp_path)
    shown = json.loads((tmp_path / "results.json").read_text())["panels"]["gallery"]["shown"]
    table = done.cohort.table.iloc[units.rows].assign(score=each.mean(axis=0)).set_index("image_id")
    ids = [item["image_id"] for items in shown.values() for item in items]
    for name in ids:
        study = table[table["study_id"] == table.loc[name, "study_id"]]
        assert table.loc[name, "score"] == study["score"].max()
    assert {"frontal", "lateral"} == set(table.loc[ids, "laterality"])
    assert "by the radiograph it has its score from" in read(page)[1]


def test_a_study_with_a_mean_score_is_shown_by_its_first_frontal_radiograph_and_not_split_by_view(tmp_path):
    done = evaluation(aggregate="study_mean")
    page = page_of(done, "gallery", make, tmp_path)
    figures = json.loads((tmp_path / "results.json").read_text())["panels"]["gallery"]
    assert figures["groups"] is None
    assert {item["laterality"] for items in figures["shown"].values() for item in items} == {"frontal"}
    assert "not split by them" in read(page)[1]


def test_a_report_to_be_sent_around_lists_the_failures_without_a_radiograph(tmp_path):
    done = evaluation(show_radiographs=False)
    page = page_of(done, "gallery", make, tmp_path)
    assert not list(tmp_path.glob("gallery*"))
    assert "data:image" not in page.split("Where it fails")[-1]
    assert make(done, tmp_path).figures["shown"]["missed"][0]["image_id"] in page


def test_every_number_of_the_gallery_stands_in_the_results_and_no_patient_is_named(tmp_path):
    done = evaluation()
    page = page_of(done, "gallery", make, tmp_path)
    assert numbers_without_a_source(page, json.loads((tmp_path / "results.json").read_text())) == set()
    figures = make(done, tmp_path).figures
    assert page.count("data:image/jpeg") == sum(map(len, figures["shown"].values())) > 12
    assert "DOE^JANE" not in page
    assert '"patient_id"' not in (tmp_path / "results.json").read_text()


@pytest.mark.parametrize("shape", [(100, 60), (60, 100), (20, 10)])
def test_a_thumbnail_holds_the_whole_radiograph_on_black(shape):
    small = thumbnail(np.full((1, *shape), 0.5, dtype=np.float32), 50)
    assert (small.shape, small.dtype) == ((50, 50), np.uint8)
    lit = small == 128
    assert lit.sum() == pytest.approx(50 * 50 * min(shape) / max(shape), rel=0.02)
    assert (small[~lit] == 0).all()
    assert lit[25, 25]


def test_where_patients_are_not_known_the_panel_claims_nothing_about_them(tmp_path):
    done = evaluation()
    pages = [page_of(of, "gallery", make, tmp_path) for of in (done, without_patient_ids(done))]
    known, unknown = (read(page)[1] for page in pages)
    for claim in ("Wilson, by patient", "At most one radiograph of a patient"):
        assert claim in known, claim
        assert claim not in unknown, claim
