"""The figures of an epoch against closed forms and brute force."""

import json
import logging
import resource

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.metrics import EmbeddingCollapseMetric
from scipy.spatial.distance import pdist

from monai_cxrpair.contrast.method.queue import KeyQueue
from monai_cxrpair.contrast.training.history import WriteHistory
from monai_cxrpair.contrast.training.monitors import Monitors, effective_rank, queue_age, same_patient_rate, uniformity
from monai_cxrpair.pairing.codes import CODES


def directions(n, dim, seed=0):
    return torch.nn.functional.normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def codes_of(patients):
    codes = torch.full((len(patients), len(CODES)), -1)
    codes[:, CODES.index("patient")] = torch.as_tensor(patients)
    return codes


def test_orthogonal_embeddings_fill_all_dimensions_and_equal_ones_a_single_one():
    assert effective_rank(torch.eye(7)) == pytest.approx(7, abs=1e-9)
    assert effective_rank(torch.eye(7).repeat(5, 1)) == pytest.approx(7, abs=1e-9)
    assert effective_rank(directions(1, 7).repeat(40, 1)) == pytest.approx(1, abs=1e-4)


def test_the_effective_rank_of_two_unequal_directions_is_the_exponential_of_their_entropy():
    one, other = 0.75, 0.25  # of the singular values' sum: 9 and 1 equal rows have the lengths 3 and 1
    expected = np.exp(-one * np.log(one) - other * np.log(other))
    assert effective_rank(torch.eye(2)[[0] * 9 + [1]]) == pytest.approx(expected, abs=1e-9)


def test_the_effective_rank_is_that_of_monai_where_the_mean_is_zero():
    half = directions(30, 12)
    embeddings = torch.cat([half, -half])
    score = EmbeddingCollapseMetric(include_indicators=["effective_rank"])(embeddings)["effective_rank_score"]
    assert effective_rank(embeddings) == pytest.approx((1 - float(score)) * 12, rel=1e-5)


def test_keys_that_are_alike_up_to_rounding_are_a_collapse_here_and_none_to_a_rank_without_the_mean():
    alike = torch.nn.functional.normalize(directions(1, 12) + 1e-6 * directions(300, 12, seed=1), dim=1)
    score = EmbeddingCollapseMetric(include_indicators=["effective_rank"])(alike)["effective_rank_score"]
    assert float(score) < 0.2  # 0: no collapse
    assert effective_rank(alike) < 1.01


def test_uniformity_is_that_of_a_loop_over_all_pairs():
    embeddings = directions(50, 6)
    distances = pdist(embeddings.double().numpy())
    assert uniformity(embeddings) == pytest.approx(np.log(np.exp(-2 * distances**2).mean()), abs=1e-5)


def test_uniformity_of_equal_and_of_opposite_embeddings_is_known():
    assert uniformity(directions(1, 6).repeat(9, 1)) == pytest.approx(0, abs=1e-5)
    assert uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-8)  # one pair, d = 2
    assert uniformity(torch.eye(3)) == pytest.approx(-4)  # d^2 = 2


@pytest.mark.parametrize(("steps", "expected"), [(1, 1.0), (2, 1.5), (3, (1 * 4 + 2 * 4 + 3 * 2) / 10), (9, 1.8)])
def test_the_age_of_the_queue_is_counted_in_batches_since_each_key_came(steps, expected):
    queue = KeyQueue(size=10, dim=2)
    came = torch.zeros(10)
    for step in range(steps):
        places = (queue.pointer + torch.arange(4)) % 10
        queue.enqueue(directions(4, 2, seed=step), codes_of([0] * 4))
        came[places] = step
    assert queue_age(queue, batches=steps) == pytest.approx(float((steps - came)[queue.filled].mean()))
    assert queue_age(queue, batches=steps) == pytest.approx(expected)


def test_the_same_patient_rate_counts_the_keys_of_the_own_patient():
    queries, keys = torch.tensor([1, 2, 9]), torch.tensor([1, 1, 2, 3])
    assert float(same_patient_rate(queries, keys)) == pytest.approx((2 + 1 + 0) / 12)
    assert same_patient_rate(queries, keys[:0]) is None
    # Among themselves a query is not its own key: 1 and 1 meet each other, of 2 others each.
    assert float(same_patient_rate(keys[:3], keys[:3], among_themselves=True)) == pytest.approx(2 / 6)
    assert same_patient_rate(keys[:1], keys[:1], among_themselves=True) is None


class OneParameter(torch.nn.Module):
    """Turns a number into a direction; with or without a queue."""

    def __init__(self, size):
        super().__init__()
        self.query_head = torch.nn.Linear(1, 2, bias=False)
        self.queue = KeyQueue(size=size, dim=2) if size else None


def trained(network, *, epochs=2, metrics=None):
    """An engine of two batches an epoch: patients (0, 1), then (1, 1)."""

    def step(engine, batch):
        head = torch.nn.functional.normalize(network.query_head(batch["view"]), dim=1)
        if network.queue is not None:
            network.queue.enqueue(head.detach(), batch["codes"][:, 0])
        return head

    engine = Engine(step)
    engine.state.device = torch.device("cpu")
    engine.add_event_handler("EPOCH_COMPLETED", lambda e: e.state.metrics.update(metrics or {}))
    Monitors(network).attach(engine)
    history = []
    engine.add_event_handler("EPOCH_COMPLETED", lambda e: history.append(dict(e.state.metrics)))
    batches = [{"view": torch.tensor([[1.0], [2.0]]), "codes": codes_of(p)[:, None]} for p in ([0, 1], [1, 1])]
    engine.run(batches, max_epochs=epochs)
    return history


def test_the_handler_writes_the_figures_of_each_epoch():
    network = OneParameter(size=3)
    first, second = trained(network, metrics={"positive_similarity": 0.75})
    assert first["alignment"] == pytest.approx(0.5)
    # The second batch (1, 1) meets the first one's keys, 0 and 1; in epoch 2 it meets 1, 0, 1.
    assert first["same_patient_rate"] == pytest.approx(1 / 2)
    assert second["same_patient_rate"] == pytest.approx(2 / 3)
    assert first["queue_age"] == pytest.approx((1 + 1 + 2) / 3)
    assert first["effective_rank"] == pytest.approx(1, abs=1e-3)  # all views point into one direction
    assert first["uniformity"] == pytest.approx(0, abs=1e-5)


def test_without_a_queue_the_last_batch_is_measured_and_its_hook_is_gone():
    network = OneParameter(size=0)
    figures = trained(network)[-1]
    assert "queue_age" not in figures
    assert figures["same_patient_rate"] == 1.0  # of the last batch (1, 1)
    assert figures["effective_rank"] == pytest.approx(1, abs=1e-3)
    assert not network.query_head._forward_hooks


def test_a_collapse_is_said_once_when_it_begins(caplog):
    network = OneParameter(size=3)
    with caplog.at_level(logging.WARNING):
        trained(network, epochs=4)
    said = [record.getMessage() for record in caplog.records if "COLLAPSE" in record.getMessage()]
    assert len(said) == 1
    assert "epoch 2" in said[0]  # in the first one the keys have hardly parted
    assert "learning_rate" in said[0]
    assert "\n" not in said[0]


def test_keys_in_many_directions_are_no_collapse(caplog):
    network = OneParameter(size=3)
    network.query_head = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.ReLU())
    network.query_head[0].load_state_dict({"weight": torch.tensor([[1.0], [-2.0]]), "bias": torch.tensor([0.0, 3.5])})
    trained(network)
    assert "COLLAPSE" not in caplog.text


def run_history(folder, *, epochs, start=0):
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(
        "EPOCH_COMPLETED", lambda e: e.state.metrics.update(loss=10.0 - e.state.epoch, bad=float("nan"), name="text")
    )
    WriteHistory(folder).attach(engine)
    if start:
        engine.load_state_dict({"epoch_length": 2, "max_epochs": epochs, "iteration": 2 * start})
    engine.run([0, 0], max_epochs=epochs)
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_the_history_has_one_line_per_epoch_with_null_for_what_is_no_number(tmp_path):
    lines = run_history(tmp_path, epochs=2)
    assert lines == [
        {"epoch": 1, "iteration": 2, "loss": 9.0, "bad": None},
        {"epoch": 2, "iteration": 4, "loss": 8.0, "bad": None},
    ]


def test_a_resumed_run_repeats_no_epoch_in_the_history(tmp_path):
    run_history(tmp_path, epochs=3)
    lines = run_history(tmp_path, epochs=5, start=2)  # the newest checkpoint was of epoch 2
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    assert not (tmp_path / "history.1.jsonl").exists()


def test_a_disk_that_is_full_costs_the_history_of_an_epoch_and_not_the_run(tmp_path, caplog):
    """A write that really fails, as on a full disk: no file may be longer than a few bytes."""
    run_history(tmp_path, epochs=1)
    before, (soft, hard) = (tmp_path / "history.jsonl").read_text(), resource.getrlimit(resource.RLIMIT_FSIZE)
    engine, seen = Engine(lambda engine, batch: None), []
    WriteHistory(tmp_path).attach(engine)

    def fill(engine):
        limit = 20 if engine.state.epoch < 3 else soft
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        seen.append({path.name: path.read_text() for path in tmp_path.iterdir()})

    engine.add_event_handler("EPOCH_STARTED", fill)
    engine.load_state_dict({"epoch_length": 2, "max_epochs": 3, "iteration": 2})
    try:
        engine.run([0, 0], max_epochs=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert seen == [{"history.jsonl": before}] * 2  # the old file is whole, and nothing lies beside it
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert warnings == [
        f"cannot write {tmp_path / 'history.jsonl'}: File too large: training goes on, the next epoch writes all lines "
        "again"
    ]


def test_what_a_killed_run_left_of_a_history_is_removed(tmp_path):
    left, other = tmp_path / ".history.jsonl.ab12.tmp", tmp_path / ".notes.tmp"
    for path in (left, other):
        path.write_text("half")
    run_history(tmp_path, epochs=1)
    assert not left.exists()
    assert other.exists()


DAMAGE = ("half a li", "[1]", "3", '{"loss": 1.0}', '{"epoch": "two"}', "\x00\x00")


@pytest.mark.parametrize("start", [2, 0])
@pytest.mark.parametrize("damage", DAMAGE)
def test_of_a_damaged_history_the_good_lines_are_kept_and_the_file_is_moved_aside(tmp_path, caplog, start, damage):
    path = tmp_path / "history.jsonl"
    run_history(tmp_path, epochs=3)
    good = path.read_text().splitlines()
    path.write_bytes("\n".join([good[0], damage, "", good[1], "\xff"]).encode("latin-1"))
    spoiled = path.read_bytes()
    lines = run_history(tmp_path, epochs=4, start=start)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert (tmp_path / "history.1.jsonl").read_bytes() == spoiled
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert ("damaged, 2 of its 4 lines cannot be read" in warnings[0]) == (start > 0)


def test_the_good_lines_of_a_damaged_history_are_written_before_the_next_epoch_ends(tmp_path):
    run_history(tmp_path, epochs=2)
    good = (tmp_path / "history.jsonl").read_text()
    (tmp_path / "history.jsonl").write_text(good + "half a li")
    engine = Engine(lambda engine, batch: 1 / 0)
    WriteHistory(tmp_path).attach(engine)
    engine.load_state_dict({"epoch_length": 2, "max_epochs": 3, "iteration": 4})
    with pytest.raises(ZeroDivisionError):
        engine.run([0, 0], max_epochs=3)
    assert (tmp_path / "history.jsonl").read_text() == good


def test_a_new_run_moves_the_history_of_an_earlier_one_aside(tmp_path, caplog):
    run_history(tmp_path, epochs=3)
    assert len(run_history(tmp_path, epochs=1)) == 1
    assert len((tmp_path / "history.1.jsonl").read_text().splitlines()) == 3
    assert "history.1.jsonl" in caplog.text
