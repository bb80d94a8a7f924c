import numpy as np
import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.probe import LinearProbe
from monai_cxrpair.evaluation.statistics.auc import auc
from monai_cxrpair.label.simulate import Reading, simulate
from monai_cxrpair.label.strategies import STRATEGIES


def reading(n=160, seed=0, signal=2.0):
    """A study a patient, every second with two radiographs."""
    rng = np.random.default_rng(seed)
    studies = np.repeat(np.arange(n), np.arange(n) % 2 + 1)
    truth = (rng.random(n) < 0.3).astype(float)
    x = rng.normal(size=(len(studies), 5)) + signal * truth[studies][:, None] * (np.arange(5) == 0)
    return Reading(embeddings=x.astype(np.float32), labels=truth[studies], patients=studies, studies=studies)


POOL, TEST = np.arange(100), np.arange(100, 160)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_answer_is_another_study_of_the_pool_and_the_head_is_the_probe_of_these(strategy):
    given = reading()
    done = simulate(given, POOL, TEST, strategy=strategy, answers=30, rng=np.random.default_rng(1))
    assert len(set(done.chosen)) == 30
    assert set(done.chosen) <= set(POOL)
    own = np.isin(given.studies, done.chosen)
    order = np.argsort(given.studies[own], kind="stable")
    probe = LinearProbe().fit(given.embeddings[own][order], given.labels[own][order], given.patients[own][order])
    scores = [probe.predict_proba(given.embeddings[given.studies == study]).max() for study in TEST]
    truth = [given.labels[given.studies == study][0] for study in TEST]
    assert done.auc == pytest.approx(auc(truth, scores))
    assert done.present == sum(given.labels[given.studies == study][0] for study in done.chosen)


def test_the_whole_pool_gives_every_strategy_the_same_head():
    found = {s: simulate(reading(), POOL, TEST, strategy=s, answers=100, every=50, rng=np.random.default_rng(2)).auc
             for s in STRATEGIES}  # fmt: skip
    assert max(found.values()) - min(found.values()) < 1e-9


def test_answers_of_one_class_give_no_head():
    given = reading()
    negative = np.array([study for study in POOL if not given.labels[given.studies == study][0]])
    done = simulate(given, negative, TEST, strategy="uncertain", answers=10, rng=np.random.default_rng(0))
    assert (done.auc, done.present) == (None, 0)


def test_a_head_to_begin_with_decides_the_first_choice():
    given = reading()
    probe = LinearProbe().fit(given.embeddings, given.labels, given.patients)
    done = simulate(given, POOL, TEST, strategy="uncertain", answers=1, rng=np.random.default_rng(0), first=probe)
    near = [abs(probe.predict_proba(given.embeddings[given.studies == study]).max() - 0.5) for study in POOL]
    assert done.chosen[0] == int(np.argmin(near))


def test_a_patient_on_both_sides_and_too_many_answers_are_errors():
    with pytest.raises(CxrPairError, match="in the pool and on the test side"):
        simulate(reading(), POOL, np.arange(99, 120), strategy="random", answers=5, rng=np.random.default_rng(0))
    with pytest.raises(CxrPairError, match="101 answers"):
        simulate(reading(), POOL, TEST, strategy="random", answers=101, rng=np.random.default_rng(0))
