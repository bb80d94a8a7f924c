import dataclasses
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from report_page import read
from scipy.spatial.distance import cdist
from small_evaluation import evaluated_on, make_cohort, make_table, page_of, without_patient_ids

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.panels import neighbours
from monai_cxrpair.evaluation.panels.neighbours import examples, make, measure, nearest_of_others


class Pictures:
    """Uniform radiographs: the row number is the grey."""

    unreadable = ()

    def __init__(self):
        self.asked = []

    def __getitems__(self, rows):
        self.asked += rows
        return {"image": np.stack([np.full((1, 120, 120), row % 250, np.uint8) for row in rows]), "row": rows}


def evaluation(*, patients=120, subset=None, **settings):
    done = evaluated_on(make_cohort(make_table(patients), **settings), cards={"same study": {}}, subset=subset)
    rng = np.random.default_rng(0)
    tables = {name: rng.normal(size=(len(done.cohort), 8)).astype(np.float32) for name in done.encoders}
    tables["same study"][:, 0] += 3 * np.nan_to_num(done.labels).astype(np.float32)
    return dataclasses.replace(done, embeddings=tables, dataset=Pictures())


def certain_test_rows(done):
    return done.split.test_rows[np.isin(done.labels[done.split.test_rows], (0, 1))]


def test_the_neighbours_are_the_nearest_of_other_patients_by_cosine():
    rng = np.random.default_rng(0)
    points, patients = rng.normal(size=(90, 6)) * rng.uniform(0.1, 10, (90, 1)), rng.integers(0, 25, 90)
    nearest, of_all = nearest_of_others(points, patients)
    distance = cdist(points, points, "cosine")
    for row in range(90):
        others = np.flatnonzero(patients != patients[row])
        expected = others[np.argsort(distance[row, others])][:5]
        np.testing.assert_array_equal(nearest[row], expected)
        assert of_all[row] == np.argsort(np.where(np.arange(90) == row, np.inf, distance[row]))[0]


def test_copies_of_a_radiograph_are_the_nearest_of_all_and_never_neighbours_of_their_patient():
    rng = np.random.default_rng(1)
    points, patients = np.repeat(rng.normal(size=(20, 4)), 3, axis=0), np.repeat(np.arange(20), 3)
    nearest, of_all = nearest_of_others(points, patients)
    assert (patients[of_all] == patients).all()
    assert (of_all != np.arange(60)).all()
    assert (patients[nearest] != patients[:, None]).all()


def test_the_shares_are_those_of_a_count_by_hand(tmp_path):
    done = evaluation()
    rows = certain_test_rows(done)
    table = done.cohort.table.iloc[rows]
    patient, side = table["patient_id"].to_numpy(), table["laterality"].to_numpy()
    label = done.labels[rows]
    found = make(done, tmp_path).figures["encoders"]["same study"]
    distance = cdist(done.embeddings["same study"][rows], done.embeddings["same study"][rows], "cosine")
    same = {"finding": [], "present": [], "absent": [], "laterality": [], "same_patient": []}
    chance = {name: [] for name in same}
    for row in range(len(rows)):
        others = np.flatnonzero(patient != patient[row])
        nearest = others[np.argsort(distance[row, others])][:5]
        for name in ("finding", "present" if label[row] else "absent"):
            same[name] += list(label[nearest] == label[row])
            chance[name].append(np.mean(label[others] == label[row]))
        same["laterality"] += list(side[nearest] == side[row])
        chance["laterality"].append(np.mean(side[others] == side[row]))
        mates = (patient == patient[row]).sum() - 1
        if mates:
            order = np.argsort(np.where(np.arange(len(rows)) == row, np.inf, distance[row]))
            same["same_patient"].append(patient[order[0]] == patient[row])
            chance["same_patient"].append(mates / (len(rows) - 1))
    for name, hits in same.items():
        assert found[name]["value"] == pytest.approx(np.mean(hits)), name
        assert found[name]["chance"] == pytest.approx(np.mean(chance[name])), name
        low, high = found[name]["ci95"]
        assert low <= found[name]["value"] <= high
    assert found["same_patient"]["radiographs"] == len(same["same_patient"])
    assert found["view_position"] == {"not_measured": "the same for all radiographs"}
    # The encoder knows the finding; random weights know nothing.
    assert found["present"]["ci95"][0] > found["present"]["chance"]
    blind = make(done, tmp_path).figures["encoders"]["random weights"]
    for name in ("present", "absent", "laterality"):
        assert blind[name]["value"] == pytest.approx(blind[name]["chance"], abs=0.12)


def test_neighbours_whose_view_is_not_known_are_not_counted():
    known = {"laterality": np.array(["frontal", "lateral", "", "frontal"])}
    nearest = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    found = measure(nearest, np.array([3, 0, 0, 0]), np.arange(4), known, seed=0)["laterality"]
    # 0 meets lateral and frontal, 1 two frontals, 3 frontal and lateral; 2 cannot ask.
    assert (found["value"], found["radiographs"]) == (pytest.approx(2 / 6), 3)
    assert found["chance"] == pytest.approx(np.mean([1 / 2, 0, 1 / 2]))


def test_the_interval_counts_patients_and_not_their_radiographs():
    rng = np.random.default_rng(0)
    label = np.where(rng.random(60) < 0.5, "present", "absent")
    nearest, of_all = nearest_of_others(rng.normal(size=(60, 3)), np.arange(60))

    def interval(copies, patients):
        rows = nearest * copies  # the first copy of each
        asked = [np.repeat(x, copies, axis=0) for x in (rows, of_all * copies)]
        return measure(*asked, patients, {"finding": np.repeat(label, copies)}, seed=0)["finding"]["ci95"]

    alone, copied = interval(1, np.arange(60)), interval(9, np.repeat(np.arange(60), 9))
    assert copied == pytest.approx(alone)  # eight more copies of each radiograph tell nothing new
    assert np.ptp(interval(9, np.arange(540))) < np.ptp(alone) / 2


def test_half_of_the_examples_have_the_finding_and_none_share_a_patient():
    rng = np.random.default_rng(0)
    present, patients = rng.random(200) < 0.2, rng.integers(0, 40, 200)
    rows = examples(present, patients, seed=3)
    assert present[rows].tolist() == [True] * 3 + [False] * 3
    assert len(set(patients[rows])) == 6
    np.testing.assert_array_equal(rows, examples(present, patients, seed=3))
    assert set(rows) != set(examples(present, patients, seed=4))
    assert len(examples(np.arange(9) < 1, np.arange(9), seed=0)) == 6  # one with it: five without


def test_the_pictures_show_the_asked_radiographs_and_their_neighbours_for_both_encoders(tmp_path):
    done = evaluation()
    panel = make(done, tmp_path)
    assert set(panel.pictures) == {"neighbours_1", "neighbours_2"}
    shown = np.array(done.dataset.asked).reshape(2, 6, 6)
    np.testing.assert_array_equal(shown[0, :, 0], shown[1, :, 0])  # the same are asked
    assert set(shown.ravel()) <= set(certain_test_rows(done))
    patients = done.cohort.table["patient_id"].to_numpy()[shown]
    assert (patients[..., 1:] != patients[..., :1]).all()
    for file in panel.pictures.values():
        assert cv2.imread(str(file)).shape[1] > 700
        assert file.stat().st_size < 500_000


def test_frames_and_marks_say_whether_the_finding_agrees(tmp_path, monkeypatch):
    marks = []
    monkeypatch.setattr("matplotlib.axes.Axes.text", lambda self, x, y, s, **_: marks.append(s))
    done = evaluation()
    make(done, tmp_path)
    labels = done.labels[np.array(done.dataset.asked).reshape(-1, 6)]
    expected = np.where(labels[:, 1:] == labels[:, :1], "=", "≠")
    assert marks == expected.ravel().tolist()
    assert {"=", "≠"} == set(marks)


def test_without_radiographs_there_are_figures_only(tmp_path):
    done = evaluation()
    hidden = dataclasses.replace(done, show_radiographs=False, dataset=Pictures())
    panel = make(hidden, tmp_path)
    assert panel.pictures == {}
    assert hidden.dataset.asked == []
    assert list(tmp_path.iterdir()) == []
    assert panel.figures["encoders"] == make(done, tmp_path).figures["encoders"]
    page = page_of(hidden, "neighbours", make, tmp_path / "page")
    assert "data:image/jpeg" not in page


def test_the_page_shows_every_share_beside_chance_and_that_patients_are_others(tmp_path):
    done = evaluation()
    page = page_of(done, "neighbours", make, tmp_path)
    text = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert "radiographs of other patients are the most alike" in text
    for f in make(done, tmp_path).figures["encoders"].values():
        for key in ("finding", "present", "absent", "laterality", "same_patient"):
            low, high = (100 * end for end in f[key]["ci95"])
            chance = 100 * f[key]["chance"]
            assert f"{100 * f[key]['value']:.1f} ({low:.1f} to {high:.1f}) chance {chance:.1f}" in text
    assert "AP or PA not measured: the same for all radiographs" in text
    assert page.count("data:image/jpeg") == 2


def test_without_patient_ids_nobody_is_called_the_same_patient(tmp_path):
    table = make_table().drop_duplicates("patient_id")
    done = evaluated_on(make_cohort(table, patients_known=False), cards={"x": {}})
    found = make(dataclasses.replace(done, show_radiographs=False), tmp_path).figures["encoders"]["x"]
    assert found["same_patient"] == {"not_measured": "the cohort has no patient ids"}


def test_a_large_test_side_is_sampled_and_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "MAX_RADIOGRAPHS", 40)
    done = evaluation()
    figures = make(done, tmp_path).figures
    assert 30 < figures["radiographs"] <= 40
    assert figures["of"] == len(certain_test_rows(done))
    assert f"sampled from {figures['of']}" in page_of(done, "neighbours", make, tmp_path)


def test_a_test_side_of_one_patient_is_an_error_that_says_what_is_needed(tmp_path):
    done = evaluation()
    rows = certain_test_rows(done)
    table = done.cohort.table["patient_id"].to_numpy()
    one = rows[table[rows] == table[rows[0]]]
    alone = dataclasses.replace(done, split=SimpleNamespace(test_rows=one))
    with pytest.raises(CxrPairError, match="of 1 patients: each needs 5 of other patients beside it"):
        make(alone, tmp_path)


def test_where_patients_are_not_known_the_panel_claims_nothing_about_them(tmp_path):
    done = evaluation()
    pages = [page_of(of, "neighbours", make, tmp_path) for of in (done, without_patient_ids(done))]
    known, unknown = (read(page)[1] for page in pages)
    for claim in ("other patients", " of the asking patients"):
        assert claim in known, claim
        assert claim not in unknown, claim
