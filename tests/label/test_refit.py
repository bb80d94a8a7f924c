import json

import numpy as np
import pytest
from reading_room import FINDING, make_studies, say, write_model
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.probe import DEFAULT_C
from monai_cxrpair.label.answers import Answers
from monai_cxrpair.label.history import read_refits
from monai_cxrpair.label.judge import Labelled, judge, make_folds, out_of_fold
from monai_cxrpair.label.learning import Candidate, NewHead
from monai_cxrpair.label.lock import locked
from monai_cxrpair.label.present import PRESENT, STAND_IN
from monai_cxrpair.label.refit import REFIT_LOCK, gather, refit


def synthetic(n=120, seed=0, signal=1.0, features=8):
    """Two studies a patient, the second of two radiographs, in any order."""
    rng = np.random.default_rng(seed)
    studies = rng.permutation(np.repeat(np.arange(n), np.arange(n) % 2 + 1))
    truth = (rng.random(n) < 0.4).astype(float)
    x = rng.normal(size=(len(studies), features)) + signal * truth[studies][:, None] * (np.arange(features) == 0)
    return Labelled(
        embeddings=x.astype(np.float32), labels=truth[studies], patients=studies // 2, studies=studies,
        rows=np.arange(len(studies)),
    )  # fmt: skip


def test_out_of_fold_scores_are_those_of_scikit_learn_with_folds_by_patient():
    labelled = synthetic()
    found = out_of_fold(labelled, make_folds(labelled, seed=3), seed=3)
    expected, x = np.empty(len(found)), labelled.embeddings.astype(float)
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=3)
    for learn, hold in splitter.split(x, labelled.labels == 1, labelled.patients):
        assert not set(labelled.patients[learn]) & set(labelled.patients[hold])
        oracle = make_pipeline(StandardScaler(), LogisticRegression(C=DEFAULT_C, max_iter=2000))
        expected[hold] = oracle.fit(x[learn], labelled.labels[learn]).predict_proba(x[hold])[:, 1]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_figures_are_aucs_of_the_highest_score_of_each_study():
    labelled, rng = synthetic(), np.random.default_rng(1)
    new, old = labelled.labels + rng.normal(size=len(labelled.labels)), rng.normal(size=len(labelled.labels))
    figures = judge(labelled, new, old, seed=0)
    truth = [labelled.labels[labelled.studies == s][0] for s in range(120)]
    for name, values in (("new", new), ("present", old)):
        pooled = [values[labelled.studies == s].max() for s in range(120)]
        assert figures[name]["auc"] == pytest.approx(roc_auc_score(truth, pooled))
        assert figures[name]["ci95"][0] < figures[name]["auc"] < figures[name]["ci95"][1]
    assert figures["difference"]["value"] == pytest.approx(figures["new"]["auc"] - figures["present"]["auc"])
    assert figures["difference"]["p"] < 0.001
    assert not figures["significantly_worse"]
    assert judge(labelled, old, new, seed=0)["significantly_worse"]
    assert not judge(labelled, old, old, seed=0)["significantly_worse"]


def test_heads_without_difference_are_seldom_called_worse(monkeypatch):
    monkeypatch.setattr("monai_cxrpair.label.judge.REPLICATES", 20)  # the test is DeLong's
    worse = 0
    for seed in range(60):
        labelled, rng = synthetic(60, seed), np.random.default_rng(seed + 1000)
        a, b = (labelled.labels + rng.normal(0, 1.5, len(labelled.labels)) for _ in "ab")
        worse += judge(labelled, a, b, seed=0)["significantly_worse"]
    assert worse <= 6  # 2.5 % are expected; more than 6 of 60 has a chance of 0.1 %


def test_a_refit_raises_the_auc_is_in_use_at_once_and_the_files_before_are_kept(open_model, hospital, answers):
    studies, truth = hospital
    model = open_model()
    folder = model.model_file.parent
    before = {name: (folder / name).read_bytes() for name in ("model.pt", "model.json")}
    old = model.scores().probabilities
    say(answers, truth, list(studies)[:60])
    answers.add(list(studies)[70], FINDING, "uncertain", reader="Ada")
    done = refit(model, answers)

    assert done.swapped
    assert done.compared_with == PRESENT
    assert done.number == 1
    assert done.counts["studies"] == 60
    assert done.counts["uncertain"] == 1
    assert done.figures["new"]["auc"] > 0.8
    rest = [number for number, name in enumerate(studies) if number >= 60]
    labels = [truth[name] for name in studies]
    unseen = roc_auc_score(np.array(labels)[rest], model.scores().probabilities[rest])
    assert unseen > roc_auc_score(np.array(labels)[rest], old[rest])
    assert unseen > 0.8
    for name, content in before.items():
        assert (folder / "previous" / name).read_bytes() == content
        assert (folder / "first" / name).read_bytes() == content
    card = json.loads((folder / "model.json").read_text())
    assert card["test_auc"] is None  # it was the other head's
    assert card["refit"]["number"] == 1
    assert open_model().scores().probabilities == pytest.approx(model.scores().probabilities)
    (line,) = read_refits(folder)
    assert line["answers"] == {study: truth[study] for study in list(studies)[:60]}
    assert (folder / "refits.jsonl").stat().st_mode & 0o077 == 0


def test_the_new_head_is_the_probe_of_scikit_learn_on_the_answered_radiographs(open_model, hospital, answers):
    studies, truth = hospital
    model = open_model()
    say(answers, truth, list(studies)[:50])
    labelled, _, _ = gather(model, answers.labels(FINDING))
    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=DEFAULT_C, max_iter=2000))
    oracle.fit(labelled.embeddings.astype(float), labelled.labels)
    assert refit(model, answers).swapped
    rows = np.arange(len(studies.cohort))
    features = model.embeddings(rows)
    expected = oracle.predict_proba(features.astype(float))[:, 1]
    np.testing.assert_allclose(model.loaded().probabilities(features), expected, atol=1e-4)


def test_a_head_that_is_significantly_worse_is_not_swapped_in_and_the_figures_are_told(open_model, hospital, answers):
    studies, truth = hospital
    model = open_model()
    say(answers, truth, studies)
    assert refit(model, answers).swapped
    before, scores = model.model_file.read_bytes(), model.scores().probabilities

    class Worse(NewHead):
        name = "worse"

        def learn(self, present, labelled, folds, *, seed):
            good = super().learn(present, labelled, folds, seed=seed)
            noise = np.random.default_rng(0).random(len(good.held_out))
            return Candidate(network=good.network, held_out=noise, card=good.card)

    done = refit(model, answers, learning=Worse())
    assert not done.swapped
    assert model.model_file.read_bytes() == before
    np.testing.assert_array_equal(model.scores().probabilities, scores)
    for figure in (done.figures["new"]["auc"], done.figures["present"]["auc"]):
        assert f"{figure:.3f}" in done.reason
    assert "significantly worse" in done.reason
    assert [line["swapped"] for line in read_refits(model.model_file.parent)] == [True, False]


def test_a_head_that_was_refitted_on_these_answers_gains_nothing_from_having_seen_them(tmp_path, answers, open_model):
    studies, truth = make_studies(tmp_path / "noise", signal=0, seed=4)  # nothing can be learned
    model = open_model(studies)
    say(answers, truth, list(studies))
    assert refit(model, answers).swapped
    labelled, _, _ = gather(model, answers.labels(FINDING))
    units = labelled.units()
    seen = roc_auc_score(units.present, units.pool(model.loaded().probabilities(labelled.embeddings)[units.rows]))
    done = refit(model, answers)
    assert done.compared_with == STAND_IN
    assert done.figures["present"]["auc"] == done.figures["new"]["auc"] < seen  # the same answers
    assert done.swapped


def test_a_refitted_head_stands_for_itself_on_patients_it_never_saw(open_model, hospital, answers, tmp_path):
    studies, truth = hospital
    model, names = open_model(), list(studies)
    say(answers, truth, names[:40])
    refit(model, answers)
    others = Answers(tmp_path / "others.jsonl")
    say(others, truth, names[40:])
    patients = [{studies[name].patient for name in part} for part in (names[:40], names[40:])]
    assert patients[0].isdisjoint(patients[1])
    assert refit(model, others).compared_with == PRESENT


def test_a_refitted_head_without_its_history_is_not_compared(open_model, hospital, answers):
    model = open_model()
    say(answers, hospital[1], list(hospital[0])[:40])
    refit(model, answers)
    (model.model_file.parent / "refits.jsonl").unlink()
    with pytest.raises(CxrPairError, match=r"refit 1, which .* does not know"):
        refit(model, answers)


def test_answers_that_are_too_few_are_refused_with_what_is_missing(open_model, hospital, answers):
    studies, truth = hospital
    model = open_model()
    before = model.model_file.read_bytes()
    with pytest.raises(CxrPairError, match="no study is answered"):
        refit(model, answers)
    negative = [name for name in studies if not truth[name]]
    say(answers, truth, negative[:20])
    answers.add(next(name for name in studies if truth[name]), FINDING, "uncertain", reader="Ada")
    with pytest.raises(CxrPairError, match=r"all 20 answered studies .* without the finding: answer some with it"):
        refit(model, answers)
    say(answers, truth, [name for name in studies if truth[name]][:2])
    with pytest.raises(CxrPairError, match=r"only [12] of the answered patients are with the finding, 5 are needed"):
        refit(model, answers)
    assert model.model_file.read_bytes() == before
    assert not (model.model_file.parent / "refits.jsonl").exists()


def test_two_refits_at_once_are_one_and_an_error(open_model, hospital, answers):
    model = open_model()
    say(answers, hospital[1], list(hospital[0])[:40])
    with locked(model.model_file.parent / REFIT_LOCK), pytest.raises(CxrPairError, match="another refit"):
        refit(model, answers)
    assert refit(model, answers).swapped  # the lock is free again


def test_a_model_that_somebody_replaced_during_the_refit_is_left_alone(open_model, hospital, answers):
    model = open_model()
    say(answers, hospital[1], list(hospital[0])[:40])

    class Slow(NewHead):
        def learn(self, *given, **settings):
            made = super().learn(*given, **settings)
            write_model(model.model_file.parent, seed=9)
            return made

    with pytest.raises(CxrPairError, match="replaced during the refit"):
        refit(model, answers, learning=Slow())
    assert "refit" not in json.loads(model.model_file.with_suffix(".json").read_text())
