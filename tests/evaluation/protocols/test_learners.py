"""Each learner against a library or a plain loop that was written for the test."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize

from monai_cxrpair.evaluation.probe import GRID
from monai_cxrpair.evaluation.protocols.knn import KnnLearner
from monai_cxrpair.evaluation.protocols.linear import LinearLearner
from monai_cxrpair.evaluation.protocols.paper_probe import AdamLearner, AdamSettings, first_layer, train_probes


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    labels = (np.arange(200) % 3 == 0).astype(float)
    table = rng.normal(size=(200, 24)).astype(np.float32)
    table[:, :2] += labels[:, None]
    patients = np.arange(200) // 2
    draws = [np.arange(0, 70), np.arange(50, 139)]  # of different sizes, neither a multiple of 16
    return table, labels, patients, draws, np.arange(140, 200)


def test_the_converged_probe_is_scikit_learns_at_the_default_penalty(sample):
    table, labels, patients, draws, rows = sample
    learned = LinearLearner({"e": table}, labels, patients, seed=0).learn("e", draws, rows)
    for own, scores in zip(draws, learned.scores, strict=True):
        scaler = StandardScaler().fit(table[own].astype(float))
        model = LogisticRegression(C=0.01, max_iter=2000).fit(scaler.transform(table[own].astype(float)), labels[own])
        np.testing.assert_allclose(
            scores, model.predict_proba(scaler.transform(table[rows].astype(float)))[:, 1], atol=1e-5
        )
    chosen = LinearLearner({"e": table}, labels, patients, seed=0, c=None).learn("e", draws, rows).details
    assert chosen["c_source"] == ["cross-validated"] * 2
    assert set(chosen["c"]) <= set(GRID)


@pytest.mark.parametrize("batch", [16, 7])
def test_the_papers_optimiser_is_torchs_adam_in_a_plain_loop(sample, batch):
    table, labels, _, draws, _ = sample
    settings = AdamSettings(learning_rate=0.01, batch_size=batch, epochs=4)
    seeds = [[5, 0], [5, 1]]
    weights, biases = train_probes(table, labels, draws, seeds, settings)
    for own, seed, weight, bias in zip(draws, seeds, weights, biases, strict=True):
        layer = torch.nn.Linear(24, 1)
        start = torch.as_tensor(first_layer(24, seed), dtype=torch.float32)
        layer.load_state_dict({"weight": start[None, :-1], "bias": start[-1:]})
        adam = torch.optim.Adam(layer.parameters(), lr=0.01)
        loss = torch.nn.BCEWithLogitsLoss()
        for epoch in range(4):
            order = own[np.random.default_rng([*seed, epoch]).permutation(len(own))]
            for part in np.split(order, range(batch, len(order), batch)):
                adam.zero_grad()
                loss(layer(torch.as_tensor(table[part]))[:, 0], torch.as_tensor(labels[part]).float()).backward()
                adam.step()
        np.testing.assert_allclose(weight, layer.weight.detach()[0], atol=2e-6)
        np.testing.assert_allclose(bias, layer.bias.item(), atol=2e-6)


def test_the_papers_settings_are_the_default_and_a_draw_does_not_depend_on_the_others(sample):
    assert (AdamSettings().learning_rate, AdamSettings().batch_size, AdamSettings().epochs) == (3e-5, 16, 95)
    table, labels, patients, draws, rows = sample
    settings = AdamSettings(learning_rate=0.01, epochs=3)
    learner = AdamLearner({"e": table}, labels, patients, seed=2, settings=settings)
    both, first = learner.learn("e", draws, rows), learner.learn("e", draws[:1], rows)
    np.testing.assert_allclose(both.scores[0], first.scores[0], atol=1e-6)
    assert learner.describe()["batch_norm"] == "frozen"


def test_what_the_papers_probe_holds_out_is_predicted_without_the_patient(sample):
    """Embeddings that name the patient: whoever saw the patient would know the label."""
    _, _, patients, draws, _ = sample
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 100)[patients].astype(float)
    table = 3 * np.eye(100, dtype=np.float32)[patients]
    settings = AdamSettings(learning_rate=0.1, epochs=20)
    learned = AdamLearner({"e": table}, labels, patients, seed=0, settings=settings).learn("e", draws[1:], draws[1])
    own, held = learned.held_out[0]
    np.testing.assert_array_equal(own, draws[1])
    agree = lambda scores: np.corrcoef(scores, labels[own])[0, 1]  # noqa: E731
    assert agree(learned.scores[0]) > 0.95
    assert agree(held) < 0.4


def test_knn_is_scikit_learns_and_holds_out_whole_patients(sample):
    table, labels, patients, draws, rows = sample
    learner = KnnLearner({"e": table}, labels, patients, neighbours=7, temperature=None)
    learned = learner.learn("e", draws, rows)
    unit = normalize(table.astype(float))
    for own, scores in zip(draws, learned.scores, strict=True):
        model = KNeighborsClassifier(7, metric="cosine", algorithm="brute").fit(unit[own], labels[own])
        np.testing.assert_allclose(scores, model.predict_proba(unit[rows])[:, 1], atol=1e-12)
    own, held = learned.held_out[0]
    for row in (0, 33):
        others = own[patients[own] != patients[own[row]]]
        model = KNeighborsClassifier(7, metric="cosine", algorithm="brute").fit(unit[others], labels[others])
        assert held[row] == pytest.approx(model.predict_proba(unit[own[[row]]])[0, 1])


def test_a_draw_too_small_for_a_threshold_holds_nothing_out(sample):
    table, labels, patients, _, rows = sample
    small = [np.arange(12)]
    for learner in (
        LinearLearner({"e": table}, labels, patients, seed=0),
        KnnLearner({"e": table}, labels, patients),
        AdamLearner({"e": table}, labels, patients, seed=0, settings=AdamSettings(epochs=1)),
    ):
        assert learner.learn("e", small, rows).held_out == [None]
