import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from monai_cxrpair.cohort import Cohort, split_patients
from monai_cxrpair.evaluation.attribute_probe import attribute_probe
from monai_cxrpair.evaluation.give_away import give_away
from monai_cxrpair.evaluation.patient_pairs import Pairs, Side, bounded_rows, draw_pairs
from monai_cxrpair.evaluation.reidentify import adjusted_auc, reidentification
from monai_cxrpair.evaluation.report.page import write_report


def side(rng, *, patients=30, rows=120, views=("PA",), lateral=0.0):
    """Three studies a patient at most; the study numbers start anew with each patient."""
    laterality = np.where(rng.random(rows) < lateral, "lateral", "frontal").astype(object)
    return Side(
        patients=rng.integers(0, patients, rows),
        studies=rng.integers(0, 3, rows),
        laterality=laterality,
        position=np.where(laterality == "lateral", "LL", rng.choice(views, rows)).astype(object),
    )


def embeddings_of(rng, test, *, identity, features=16):
    """Noise plus so much of what only the patient decides."""
    codes = rng.normal(size=(test.patients.max() + 1, features))
    return (rng.normal(size=(len(test.patients), features)) + identity * codes[test.patients]).astype(np.float32)


def measure(table, test, *, seed=0, replicates=200):
    centre = {"x": np.zeros(table.shape[1])}
    return reidentification({"x": table}, test, centre=centre, seed=seed, replicates=replicates)["x"]


def brute_force(table, test):
    """Every pair in a Python loop: (view pair) -> labels, scores."""
    unit = table.astype(float) / np.linalg.norm(table.astype(float), axis=1, keepdims=True)
    strata = {}
    for a, b in combinations(range(len(unit)), 2):
        same = test.patients[a] == test.patients[b]
        if test.laterality[a] != test.laterality[b] or (same and test.studies[a] == test.studies[b]):
            continue
        labels, scores = strata.setdefault(tuple(sorted((test.position[a], test.position[b]))), ([], []))
        labels.append(same)
        scores.append(float(unit[a] @ unit[b]))
    return strata


@pytest.mark.parametrize("identity", [0.0, 0.3, 0.7, 1.5])
def test_the_auc_is_scikit_learns_over_all_pairs(identity):
    rng = np.random.default_rng(1)
    test = side(rng)
    table = embeddings_of(rng, test, identity=identity)
    ((labels, scores),) = brute_force(table, test).values()
    found = measure(table, test)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert found["pairs"] == {"same_patient": sum(labels), "different_patients": len(labels) - sum(labels)}
    assert found["ci95"][0] < found["auc"] < found["ci95"][1]


def test_views_are_matched_and_the_strata_averaged_by_the_pairs_of_one_patient():
    rng = np.random.default_rng(2)
    test = side(rng, rows=160, views=("AP", "PA"), lateral=0.3)
    table = embeddings_of(rng, test, identity=0.5)
    strata = {key: value for key, value in brute_force(table, test).items() if any(value[0])}
    assert len(strata) == 4  # AP-AP, AP-PA, PA-PA, LL-LL, and never a frontal one with a lateral one
    sizes = [sum(labels) for labels, _ in strata.values()]
    aucs = [roc_auc_score(labels, scores) for labels, scores in strata.values()]
    assert measure(table, test)["auc"] == pytest.approx(np.average(aucs, weights=sizes), abs=1e-9)


def test_an_embedding_that_knows_only_the_view_recognises_nobody():
    patients = np.repeat(np.arange(60), 4)
    position = np.where(patients % 2, "AP", "PA").astype(object)  # a patient is always taken in the same view
    test = Side(
        patients=patients, studies=np.tile(np.arange(4), 60), laterality=np.full(240, "frontal", dtype=object),
        position=position,
    )  # fmt: skip
    table = np.stack([position == "AP", position == "PA", np.ones(240)], axis=1) + 0.1
    pairs = list(combinations(range(240), 2))
    labels = [patients[a] == patients[b] for a, b in pairs]
    assert roc_auc_score(labels, [position[a] == position[b] for a, b in pairs]) > 0.7  # what it would be unmatched
    assert measure(table, test)["auc"] == 0.5


def test_noise_is_chance_and_identity_alone_is_certain():
    rng = np.random.default_rng(4)
    test = side(rng, patients=60, rows=240)
    noise = measure(embeddings_of(rng, test, identity=0.0), test)
    assert noise["ci95"][0] < 0.5 < noise["ci95"][1]
    assert noise["rank1"]["ci95"][0] < noise["rank1"]["guessing"] < noise["rank1"]["ci95"][1]
    alone = measure(rng.normal(size=(60, 16))[test.patients], test)
    assert alone["auc"] == 1.0
    assert alone["rank1"]["value"] == 1.0
    assert 0.9 < alone["rank1"]["ci95"][0] < alone["rank1"]["ci95"][1] == 1.0


def test_encoders_are_compared_on_the_same_pairs_and_replicates():
    rng = np.random.default_rng(19)
    test = side(rng, patients=60, rows=200)
    weak = embeddings_of(rng, test, identity=0.6)
    tables = {"weak": weak, "copy": weak, "strong": embeddings_of(rng, test, identity=1.2)}
    found = reidentification(tables, test, centre=dict.fromkeys(tables, np.zeros(16)), seed=0, replicates=200)
    assert "against" not in found["weak"]
    assert found["copy"]["against"] == {"encoder": "weak", "difference": 0.0, "ci95": [0.0, 0.0]}
    strong = found["strong"]["against"]
    assert strong["difference"] == pytest.approx(found["strong"]["auc"] - found["weak"]["auc"])
    assert 0 < strong["ci95"][0] < strong["difference"] < strong["ci95"][1]


def test_an_encoder_that_yields_the_same_for_all_is_at_chance():
    test = side(np.random.default_rng(5), patients=60, rows=240)
    found = measure(np.full((240, 8), 0.3, dtype=np.float32), test)
    assert found["auc"] == 0.5
    assert found["rank1"]["value"] == pytest.approx(found["rank1"]["guessing"])
    zero = measure(np.zeros((240, 8), dtype=np.float32), test)
    assert (zero["auc"], zero["rank1"]["value"]) == (0.5, pytest.approx(found["rank1"]["guessing"]))


def test_radiographs_of_one_study_are_never_a_pair_nor_the_nearest():
    rng = np.random.default_rng(6)
    patients, studies = np.repeat(np.arange(40), 4), np.tile([0, 0, 1, 1], 40)
    frontal = np.full(160, "frontal", dtype=object)
    test = Side(patients=patients, studies=studies, laterality=frontal, position=frontal)
    # The two of a study are copies of each other, and nothing else is alike.
    table = np.repeat(rng.normal(size=(80, 16)), 2, axis=0)
    ((labels, scores),) = brute_force(table, test).values()
    found = measure(table, test)
    assert found["pairs"]["same_patient"] == sum(labels) == 160
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert found["rank1"]["value"] < 0.15
    for pairs in draw_pairs(test, seed=0):
        one, other = pairs.rows.T
        assert (studies[one[pairs.same]] != studies[other[pairs.same]]).all()
        assert ((patients[one] == patients[other]) == pairs.same).all()
        assert len(np.unique(pairs.rows, axis=0)) == len(pairs.rows)
    single = Side(patients=patients, studies=np.zeros(160, dtype=int), laterality=frontal, position=frontal)
    assert "0 test patients have two studies" in measure(table, single)["not_measured"]


def test_the_rate_of_first_hits_is_that_of_a_loop():
    rng = np.random.default_rng(7)
    test = side(rng, rows=150, views=("AP", "PA"), lateral=0.3)
    table = embeddings_of(rng, test, identity=0.8)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    hits = []
    for a in range(150):
        gallery = [b for b in range(150) if test.laterality[b] == test.laterality[a]
                   and (test.patients[b], test.studies[b]) != (test.patients[a], test.studies[a])]  # fmt: skip
        if any(test.patients[b] == test.patients[a] for b in gallery):
            hits.append(test.patients[max(gallery, key=lambda b: unit[a] @ unit[b])] == test.patients[a])
    found = measure(table, test)["rank1"]
    assert (found["value"], found["queries"]) == (pytest.approx(np.mean(hits)), len(hits))


def test_a_replicate_is_the_cohort_with_its_patients_copied():
    """A patient drawn twice stands there as two people, who are never compared with each other."""
    rng = np.random.default_rng(8)
    test = side(rng, patients=12, rows=50, views=("AP", "PA"))
    table = embeddings_of(rng, test, identity=0.5)
    times = rng.integers(0, 4, 12)
    strata = draw_pairs(test, seed=0)
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    scores = [np.einsum("pf,pf->p", *(unit[s.rows[:, k]] for k in (0, 1)))[None] for s in strata]
    ours = adjusted_auc(strata, scores, times[test.patients][None].astype(np.int16))[0, 0]

    copies = np.concatenate([np.flatnonzero(test.patients == p) for p in range(12) for _ in range(times[p])])
    person = np.concatenate(
        [np.full((test.patients == p).sum(), 10 * p + k) for p in range(12) for k in range(times[p])]
    )
    found = {}
    for a, b in combinations(range(len(copies)), 2):
        i, j = copies[a], copies[b]
        if person[a] == person[b]:
            if test.studies[i] == test.studies[j]:
                continue
        elif test.patients[i] == test.patients[j]:
            continue
        labels, values = found.setdefault(tuple(sorted((test.position[i], test.position[j]))), ([], []))
        labels.append(person[a] == person[b])
        values.append(float(unit[i] @ unit[j]))
    found = [entry for entry in found.values() if any(entry[0])]
    expected = np.average([roc_auc_score(*e) for e in found], weights=[sum(e[0]) for e in found])
    assert ours == pytest.approx(expected, abs=1e-9)


def test_a_replicate_without_pairs_of_two_patients_is_no_number():
    pairs = Pairs(rows=np.array([[0, 1], [0, 2]]), same=np.array([True, False]))
    weights = np.array([[1, 1, 1], [2, 2, 0], [0, 0, 3]], dtype=np.int16)
    found = adjusted_auc([pairs], [np.array([[0.9, 0.1]])], weights)
    np.testing.assert_array_equal(found, [[1.0, np.nan, np.nan]])


def test_many_pairs_are_sampled_by_the_seed_and_stay_close_to_all():
    rng = np.random.default_rng(9)
    test = side(rng, patients=100, rows=600, views=("AP", "PA"))
    unit = embeddings_of(rng, test, identity=0.5).astype(float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    whole = np.ones((1, 600), dtype=np.int16)

    def auc(strata):
        scores = [np.einsum("pf,pf->p", *(unit[s.rows[:, k]] for k in (0, 1)))[None] for s in strata]
        return adjusted_auc(strata, scores, whole)[0, 0]

    every = draw_pairs(test, seed=0, at_most_same=10**9, at_most_different=10**9)
    some = draw_pairs(test, seed=0, at_most_same=900, at_most_different=9_000)
    assert sum(s.same.sum() for s in some) == 900
    assert sum((~s.same).sum() for s in some) <= 9_000 + 3
    assert sum((~s.same).sum() for s in some) > 8_900
    assert sum(len(s.rows) for s in every) > 150_000
    assert auc(some) == pytest.approx(auc(every), abs=0.02)
    again = draw_pairs(test, seed=0, at_most_same=900, at_most_different=9_000)
    assert all(np.array_equal(a.rows, b.rows) for a, b in zip(some, again, strict=True))


def test_rows_are_bounded_by_whole_patients_and_by_patient():
    patients = np.random.default_rng(10).permutation(np.repeat(np.arange(50), [1, 9] * 25))
    rows = bounded_rows(patients, seed=0, at_most=100, of_a_patient=5)
    counts = np.bincount(patients[rows], minlength=50)
    assert set(counts) == {0, 1, 5}
    assert 95 <= len(rows) <= 100
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(bounded_rows(patients, seed=0), np.arange(250))
    # Patients with many radiographs are not drawn more often than others.
    drawn = [bounded_rows(patients, seed=seed, at_most=50, of_a_patient=100) for seed in range(60)]
    small = np.mean([(np.unique(patients[rows]) % 2 == 0).mean() for rows in drawn])
    assert 0.42 < small < 0.58
    assert len(bounded_rows(np.empty(0, dtype=np.int64), seed=0)) == 0


def attribute(rng, *, strength, names=("A", "B"), rows=400):
    values = rng.choice(np.array(names, dtype=object), rows)
    table = rng.normal(size=(rows, 8)).astype(np.float32)
    for number, name in enumerate(names):
        table[values == name, number] += strength
    return table, values, np.arange(rows) // 2


def test_the_probe_of_a_view_equals_scikit_learn_and_finds_what_is_there():
    table, values, patients = attribute(np.random.default_rng(11), strength=1.0)
    train, test = np.arange(200), np.arange(200, 400)
    found = attribute_probe({"x": table}, values, patients, train, test, seed=0, replicates=200)["x"]
    scaler = StandardScaler().fit(table[train].astype(float))
    model = LogisticRegression(C=1e-2, max_iter=2000).fit(scaler.transform(table[train]), values[train] == "A")
    expected = roc_auc_score(values[test] == "A", model.decision_function(scaler.transform(table[test])))
    assert found["auc"] == pytest.approx(expected, abs=1e-6)
    assert found["ci95"][0] < found["auc"] < found["ci95"][1]
    assert (found["classes"], found["radiographs"], found["patients"]) == (2, 200, 100)
    noise, values, patients = attribute(np.random.default_rng(12), strength=0.0)
    found = attribute_probe({"x": noise}, values, patients, train, test, seed=0, replicates=200)["x"]
    assert found["ci95"][0] < 0.5 < found["ci95"][1]


def test_of_several_sites_the_mean_over_each_against_the_rest_is_given_and_rare_ones_are_left_out():
    rng = np.random.default_rng(13)
    table, values, patients = attribute(rng, strength=1.5, names=("a", "b", "c"))
    values[:6], values[394:], values[50:60] = "rare", "rare", ""
    train, test = np.arange(200), np.arange(200, 400)
    found = attribute_probe({"x": table}, values, patients, train, test, seed=0, replicates=100)["x"]
    assert (found["classes"], found["radiographs"]) == (3, 194)
    known = train[(values[train] != "") & (values[train] != "rare")]
    scaler = StandardScaler().fit(table[known].astype(float))
    aucs = []
    for name in "abc":
        model = LogisticRegression(C=1e-2, max_iter=2000).fit(scaler.transform(table[known]), values[known] == name)
        kept = test[values[test] != "rare"]
        aucs.append(roc_auc_score(values[kept] == name, model.decision_function(scaler.transform(table[kept]))))
    assert found["auc"] == pytest.approx(np.mean(aucs), abs=1e-6)


@pytest.mark.parametrize(
    ("value", "rare", "said"),
    [("", "", "not recorded"), ("AP", "AP", "the same for all"), ("AP", "PA", "of 2 values 1 have 10 patients")],
)
def test_an_attribute_that_does_not_vary_is_not_measured(value, rare, said):
    table, values, patients = attribute(np.random.default_rng(14), strength=1.0)
    values[:], values[:4], values[-4:] = value, rare, rare
    found = attribute_probe({"x": table}, values, patients, np.arange(200), np.arange(200, 400), seed=0)["x"]
    assert found["not_measured"].startswith(said)


def cohort_of(rng, *, patients=80, known=True, **columns):
    rows = patients * 3
    who = np.repeat(np.arange(patients), 3)
    table = pd.DataFrame(
        {
            "image_id": [f"i{row}" for row in range(rows)],
            "patient_id": [f"p{p}" for p in who],
            "study_id": [f"s{row}" for row in range(rows)],
            "path": [f"{row}.png" for row in range(rows)],
            "laterality": rng.choice(["frontal", "lateral"], rows, p=[0.7, 0.3]),
            **columns,
        }
    )
    table["view_position"] = np.where(table["laterality"] == "lateral", "LL", rng.choice(["AP", "PA"], rows))
    return Cohort(table, root=Path(), findings=[], source="table", patients_known=known), who


def test_everything_that_is_given_away_is_measured_on_the_test_side_only():
    rng = np.random.default_rng(15)
    cohort, who = cohort_of(rng, manufacturer=rng.choice(["one", "two", "three"], 240))
    split = split_patients(cohort, test_fraction=0.4, seed=0)
    table = rng.normal(size=(240, 8)).astype(np.float32)
    table[:, 0] += 4 * (cohort.table["laterality"] == "lateral")
    # Whoever looked at pairs of the training side would think that this embedding knows the patient.
    train = split.train_rows
    table[train, 2:] = rng.normal(size=(80, 6))[who[train]]
    found = give_away({"x": table}, cohort, split)["x"]
    low, high = found["reidentification"]["ci95"]
    assert low < 0.5 < high
    assert found["reidentification"]["rank1"]["gallery_patients"] == len(split.test_patients)
    assert found["view"]["laterality"]["auc"] > 0.95
    assert found["view"]["view_position"]["ci95"][0] < 0.6
    assert found["site"]["manufacturer"]["classes"] == 3


def test_what_cannot_be_measured_says_why():
    rng = np.random.default_rng(16)
    cohort, _ = cohort_of(rng, known=False)
    found = give_away({"x": rng.normal(size=(240, 8))}, cohort, split_patients(cohort, test_fraction=0.4, seed=0))["x"]
    assert found["reidentification"] == {"not_measured": "the cohort has no patient ids"}
    assert "none of the columns site, institution" in found["site"]["not_measured"]
    assert "auc" in found["view"]["laterality"]
    cohort, _ = cohort_of(rng, patients=12)
    found = give_away({"x": rng.normal(size=(36, 8))}, cohort, split_patients(cohort, test_fraction=0.4, seed=0))["x"]
    assert "at least 10 are needed" in found["reidentification"]["not_measured"]


def shown(tmp_path, gives_away):
    linear = {"auc_mean": 0.71, "auc_sd": 0.02, "ci95": [0.6, 0.8], "auc_draws": [0.69, 0.73]}
    sides = {name: {"radiographs": 240} for name in ("train", "test")}
    encoders = {name: {"linear": linear, **({"gives_away": away} if away else {})} for name, away in gives_away.items()}
    protocol = {"draws": 2, "label_fraction": 0.1, "draws_from": "seed"}
    results = {"finding": "pleural_effusion", "protocol": protocol, "cohort": sides, "encoders": encoders}
    page = write_report(results, out_dir=tmp_path).read_text()
    return " ".join(re.sub("<[^>]*>", " ", page.partition("<style>")[0] + page.partition("</style>")[2]).split())


def test_the_report_shows_it_beside_the_finding_and_says_what_it_means(tmp_path):
    rng = np.random.default_rng(17)
    cohort, who = cohort_of(rng, manufacturer=rng.choice(["one", "two"], 240))
    split = split_patients(cohort, test_fraction=0.4, seed=0)
    found = give_away({"random": rng.normal(size=(240, 8)), "<b>": rng.normal(size=(80, 8))[who]}, cohort, split)
    text = shown(tmp_path, found)
    assert "Pairing by patient trains an encoder to recognise patients" in text
    for name in found:
        identity, view, site = (found[name][kind] for kind in ("reidentification", "view", "site"))
        row = [f"{f['auc']:.3f} ( {f['ci95'][0]:.3f} to {f['ci95'][1]:.3f} )" for f in
               (view["laterality"], view["view_position"], site["manufacturer"])]  # fmt: skip
        assert " ".join(row) in text.replace("(", "( ").replace(")", " )").replace("(  ", "( ").replace("  )", " )")
        assert f"0.710 (0.600 to 0.800) {identity['auc']:.3f} (" in text
        assert f"{100 * identity['rank1']['value']:.1f} (" in text
    assert f"of {identity['pairs']['same_patient']} pairs of one patient" in text
    assert "not measured" not in text


def test_the_report_says_what_was_not_measured_and_leaves_the_section_out_where_there_is_none(tmp_path):
    rng = np.random.default_rng(18)
    cohort, _ = cohort_of(rng, known=False)
    found = give_away({"x": rng.normal(size=(240, 8))}, cohort, split_patients(cohort, test_fraction=0.4, seed=0))
    text = shown(tmp_path, found)
    assert "same patient not measured: the cohort has no patient ids." in text
    assert "site not measured: the cohort has none of the columns" in text
    assert "gives away" not in shown(tmp_path / "none", {"x": None})
