import itertools
import multiprocessing
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.answers import Answers
from monai_cxrpair.label.strategies import STRATEGIES, choose, closeness, distances, standardised
from monai_cxrpair.label.worklist import Leases, StudyScores, Worklist

FINDING = "pleural_effusion"


def scores(n=30, seed=0, threshold=0.3):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 6)).astype(np.float32)
    names = [f"s{i}" for i in range(n)]
    return StudyScores(studies=names, probabilities=rng.random(n), embeddings=features, threshold=threshold)


def worklist(folder, **settings):
    return Worklist(Answers(folder / "answers.jsonl"), Leases(folder / "leases.json", **settings), finding=FINDING)


def pick(strategy, given, candidates, taken, seed=0):
    return choose(
        strategy, candidates=np.array(candidates), taken=np.array(taken, dtype=np.int64), threshold=given.threshold,
        probabilities=given.probabilities, embeddings=given.embeddings, rng=np.random.default_rng(seed),
    )  # fmt: skip


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_diverse_takes_the_candidate_whose_nearest_taken_study_is_furthest_as_brute_force_finds_it(seed, k):
    rng = np.random.default_rng(seed)
    given = scores(12, seed)
    order = rng.permutation(12)
    taken, candidates = order[:k], order[k:]
    far = {c: min(np.linalg.norm(given.embeddings[c] - given.embeddings[t]) for t in taken) for c in candidates}
    assert far[pick("diverse", given, candidates, taken)] == pytest.approx(max(far.values()), rel=1e-6)


def test_k_center_greedy_covers_within_twice_the_best_radius_of_all_choices():
    given = scores(11, 3)
    apart = np.linalg.norm(given.embeddings[:, None] - given.embeddings[None], axis=2)
    chosen = [0]
    while len(chosen) < 4:
        chosen.append(pick("diverse", given, [i for i in range(11) if i not in chosen], chosen))
    best = min(apart[list(some)].min(axis=0).max() for some in itertools.combinations(range(11), 4))
    assert best <= apart[chosen].min(axis=0).max() <= 2 * best


def test_distances_are_right_far_from_the_origin_where_squares_are_large():
    features = (1e4 + np.random.default_rng(0).normal(size=(40, 8))).astype(np.float32)
    found = distances(features, np.arange(20), np.arange(20, 40))
    exact = features.astype(np.float64)
    expected = ((exact[:20, None] - exact[None, 20:]) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_uncertain_takes_the_study_nearest_the_threshold_in_logits():
    given = StudyScores(studies=list("abcd"), probabilities=np.array([0.02, 0.18, 0.5, 1.0]),
                        embeddings=np.zeros((4, 2), np.float32), threshold=0.1)  # fmt: skip
    logit = np.log(given.probabilities[:3] / (1 - given.probabilities[:3])) - np.log(0.1 / 0.9)
    np.testing.assert_allclose(closeness(given.probabilities[:3], 0.1), -np.abs(logit))
    assert pick("uncertain", given, [0, 1, 2, 3], []) == 1
    assert pick("uncertain", given, [0, 2, 3], []) == 0 + (abs(logit[2]) < abs(logit[0])) * 2


def test_mixed_takes_what_is_second_in_both_rather_than_first_in_one_and_last_in_the_other():
    probabilities = np.array([0.5, 0.55, 0.99, 0.7, 0.5])
    features = np.array([[0.1], [4.0], [5.0], [1.0], [0.0]], np.float32)
    given = StudyScores(studies=list("abcde"), probabilities=probabilities, embeddings=features, threshold=0.5)
    candidates = [0, 1, 2, 3]
    assert pick("uncertain", given, candidates, [4]) == 0
    assert pick("diverse", given, candidates, [4]) == 2
    assert pick("mixed", given, candidates, [4]) == 1


def test_equals_are_decided_by_the_generator_and_all_of_them_have_their_turn():
    given = StudyScores(studies=list("abc"), probabilities=np.full(3, 0.5), embeddings=np.ones((3, 2), np.float32),
                        threshold=0.5)  # fmt: skip
    for strategy in STRATEGIES:
        assert {pick(strategy, given, [0, 1, 2], [], seed) for seed in range(30)} == {0, 1, 2}
        assert pick(strategy, given, [0, 1, 2], [], 7) == pick(strategy, given, [0, 1, 2], [], 7)


def test_standardised_features_have_unit_spread_and_a_dead_one_is_zero():
    features = np.random.default_rng(0).normal(5, [[1, 100, 0]], (50, 3)).astype(np.float32)
    found = standardised(features)
    np.testing.assert_allclose(found.std(axis=0), [1, 1, 0], atol=1e-5)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_study_is_given_out_once_and_then_none(tmp_path, strategy):
    work, given, rng = worklist(tmp_path), scores(12), np.random.default_rng(0)
    seen = []
    for turn in range(12):
        reader = "AB"[turn % 2]
        seen.append(work.next(given, strategy=strategy, reader=reader, rng=rng))
        if turn % 3 == 0:
            work.answer(seen[-1], "uncertain", reader=reader)
    assert sorted(seen) == sorted(given.studies)
    assert work.next(given, strategy=strategy, reader="A", rng=rng) is None
    assert work.progress(given) == {"studies": 12, "answered": 4, "being_read": 8, "unreadable": 0}


def test_a_lease_outlives_the_server_and_expires(tmp_path):
    now = [1000.0]
    first = worklist(tmp_path, minutes=1, clock=lambda: now[0])
    given, rng = scores(1), np.random.default_rng(0)
    assert first.next(given, strategy="random", reader="A", rng=rng) == "s0"
    again = worklist(tmp_path, minutes=1, clock=lambda: now[0])
    assert again.leases.held("A") == {"s0": "A"}
    now[0] += 59
    assert again.next(given, strategy="random", reader="B", rng=rng) is None
    assert again.leases.renew("s0", "A")
    assert not again.leases.renew("s0", "B")
    now[0] += 59
    assert again.next(given, strategy="random", reader="B", rng=rng) is None
    now[0] += 2
    assert again.next(given, strategy="random", reader="B", rng=rng) == "s0"
    again.leases.release("s0", "A")  # not A's any more
    assert again.leases.held() == {"s0": "B"}


def test_a_lease_from_a_clock_that_was_years_ahead_does_not_keep_a_study_for_years(tmp_path):
    worklist(tmp_path, clock=lambda: 4e9).next(scores(1), strategy="random", reader="A", rng=np.random.default_rng(0))
    assert worklist(tmp_path, clock=lambda: 2e9).leases.held() == {}


def test_a_study_that_cannot_be_read_is_offered_to_nobody(tmp_path):
    given = scores(3)
    given.probabilities[1] = np.nan
    work, rng = worklist(tmp_path), np.random.default_rng(0)
    assert {work.next(given, strategy="mixed", reader="A", rng=rng) for _ in range(3)} == {"s0", "s2", None}


def test_an_unknown_strategy_and_a_damaged_file_are_errors(tmp_path):
    work = worklist(tmp_path)
    with pytest.raises(CxrPairError, match="uncertain, diverse, mixed, random"):
        work.next(scores(), strategy="best", reader="A", rng=np.random.default_rng(0))
    (tmp_path / "leases.json").write_text("[1")
    with pytest.raises(CxrPairError, match="delete it"):
        work.next(scores(), strategy="random", reader="A", rng=np.random.default_rng(0))


def _read_all(folder, reader, queue):
    work, rng = worklist(folder), np.random.default_rng(0)  # the same generator: they want the same studies
    mine = []

    def read():
        while (study := work.next(scores(), strategy="uncertain", reader=reader, rng=rng)) is not None:
            mine.append(study)
            work.answer(study, "present", reader=reader)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.put(mine)


def test_threads_of_two_processes_never_get_the_same_study(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_read_all, args=(tmp_path, name, queue)) for name in "AB"]
    for process in processes:
        process.start()
    seen = [study for _ in processes for study in queue.get(timeout=60)]
    for process in processes:
        process.join(60)
    assert sorted(seen) == sorted(scores().studies)
