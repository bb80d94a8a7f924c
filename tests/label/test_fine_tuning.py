import json

import numpy as np
import pytest
import torch
from reading_room import FINDING, make_studies, say
from sklearn.metrics import roc_auc_score

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.embedding_store import network_hash
from monai_cxrpair.label.fine_tuning import FineTuning
from monai_cxrpair.label.history import read_refits
from monai_cxrpair.label.judge import make_folds
from monai_cxrpair.label.present import KEPT, PRESENT
from monai_cxrpair.label.refit import gather, refit


def test_the_whole_network_learns_and_is_in_use_and_the_next_head_is_on_the_encoder_as_it_came(
    open_model, hospital, answers
):
    studies, truth = hospital
    model, names = open_model(), list(studies)
    say(answers, truth, names[:50])
    before = network_hash(model.loaded().encoder.network)
    done = refit(model, answers, learning=FineTuning(model, max_epochs=20))
    assert done.swapped, done.reason
    assert done.compared_with == PRESENT
    assert done.reason.startswith("the fine-tuned network is in use")
    assert network_hash(model.loaded().encoder.network) != before
    card = json.loads((model.model_file.parent / "model.json").read_text())
    assert card["refit"]["learning"] == "fine_tuning"
    assert 0 < card["operating_point"]["threshold"] < 1
    rest = slice(50, None)
    unseen = model.scores().probabilities[rest]  # the embeddings are the new encoder's
    assert roc_auc_score([truth[name] for name in names[rest]], unseen) > 0.8

    kept = read_refits(model.model_file.parent)[0]["held_out"]
    assert sorted(kept) == sorted(names[:50])
    say(answers, truth, names[50:])
    again = refit(model, answers)
    assert again.compared_with == KEPT
    assert again.counts["studies"] == len(names)
    # Of patients with a study before and one after the 50th: the later one has no honest score.
    split = [name for name in names[50:] if any(studies[name].patient == studies[each].patient for each in names[:50])]
    assert again.counts["compared"] == len(names) - len(split)
    if again.swapped:
        assert network_hash(model.loaded().encoder.network) == before


def test_what_is_kept_of_a_patient_comes_from_networks_without_its_answers(open_model, tmp_path, answers):
    studies, truth = make_studies(tmp_path / "noise", signal=0, seed=4)  # nothing can be learned
    model = open_model(studies)
    say(answers, truth, studies)
    labelled, _, _ = gather(model, answers.labels(FINDING))
    start, folds = model.loaded(), make_folds(labelled, seed=0)
    learning = FineTuning(model, max_epochs=4)
    made = learning.learn(start, labelled, folds, seed=0)
    units = labelled.units()
    assert 0.3 < roc_auc_score(units.present, units.pool(made.held_out[units.rows])) < 0.7
    for learn, hold in folds:
        assert not set(labelled.patients[learn]) & set(labelled.patients[hold])
    # Other answers of the patients held out change nothing of what is said of them.
    learn, hold = folds[0]
    labels = labelled.labels.copy()
    labels[hold] = 1 - labels[hold]
    turned = type(labelled)(**{**vars(labelled), "labels": labels})
    other = learning.learn(start, turned, folds, seed=0)
    np.testing.assert_array_equal(other.held_out[hold], made.held_out[hold])
    assert not np.array_equal(other.held_out[folds[1][1]], made.held_out[folds[1][1]])


def test_the_same_answers_and_seed_give_the_same_network(open_model, hospital, answers):
    studies, truth = hospital
    model = open_model()
    say(answers, truth, list(studies)[:30])
    labelled, _, _ = gather(model, answers.labels(FINDING))
    folds = make_folds(labelled, seed=1)
    made = [FineTuning(model, max_epochs=2).learn(model.loaded(), labelled, folds, seed=1) for _ in range(2)]
    for one, other in zip(*(each.network.state_dict().values() for each in made), strict=True):
        assert torch.equal(one, other)


def test_too_long_a_training_is_refused_after_its_first_epoch_with_what_it_would_take(open_model, hospital, answers):
    studies, truth = hospital
    model = open_model()
    before = model.model_file.read_bytes()
    say(answers, truth, studies)
    with pytest.raises(CxrPairError, match=r'takes about \d+ minutes here, 1e-06 are allowed: send "minutes"'):
        refit(model, answers, learning=FineTuning(model, max_epochs=50, minutes=1e-6))
    assert model.model_file.read_bytes() == before
    assert read_refits(model.model_file.parent) == []
