"""Going on: bit for bit where it stopped, from the newest checkpoint that is whole, and from nothing else."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DistributedSampler

from monai_cxrpair.contrast import cosine, resume_folder
from monai_cxrpair.contrast.checkpoints.random_state import random_state, set_random_state
from monai_cxrpair.errors import CxrPairError


class KilledError(Exception):
    pass


def kill_after(trainer, step):
    @trainer.on("ITERATION_COMPLETED")  # after the handler that saves
    def _kill(engine):
        if engine.state.iteration == step:
            raise KilledError

    with pytest.raises(KilledError):
        trainer.run()
    return trainer


def names(folder):
    return sorted(p.name for p in (folder / "checkpoints").iterdir())


def everything(folder):
    """All that the newest checkpoint holds, but for wall time and the generators, as a flat table."""
    state = torch.load(sorted((folder / "checkpoints").glob("*.pt"))[-1], weights_only=True)
    assert state["ranks"][0]["sums"].pop("seconds") > 0
    del state["ranks"][0]["random"]
    found = {}

    def walk(prefix, value):
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
        if items is None:
            found[prefix] = value.tolist() if isinstance(value, torch.Tensor) else value
        for name, part in items or ():
            walk(f"{prefix}/{name}", part)

    walk("", state)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    return tmp_path_factory.mktemp("whole")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_after_any_step_ends_bit_equal_and_reports_the_same_epochs(make, whole, tmp_path, workers):
    uninterrupted = make(whole, resume=False)
    uninterrupted.run()
    expected = everything(whole)
    for step in range(1, 12) if workers == 0 else (4, 7):
        folder = tmp_path / str(step)
        killed = kill_after(make(folder, workers=workers), step)
        rest, started, steps = make(folder, workers=workers), [], []
        rest.add_event_handler("EPOCH_STARTED", lambda e, seen: seen.append(e.state.epoch), started)
        rest.add_event_handler("ITERATION_COMPLETED", lambda e, seen: seen.append(e.state.iteration), steps)
        rest.run()
        done = step if step % 3 else step - 1  # the checkpoint of an epoch's last step comes at the end of the epoch
        assert steps == list(range(done + 1, 13))
        assert started == list(range(done // 3 + 1, 5))
        assert everything(folder) == expected
        assert killed.reported + rest.reported == uninterrupted.reported


def test_a_run_with_accumulated_steps_killed_after_any_batch_ends_bit_equal(make, tmp_path):
    """Six batches an epoch of which two make a step: within one there are gradients to lose, so nothing is saved."""
    settings = {"batch": 2, "accumulation_steps": 2, "max_epochs": 2, "keep": 99}
    uninterrupted = make(tmp_path / "whole", **settings)
    uninterrupted.run()
    assert names(tmp_path / "whole") == [f"epoch_0000{e}_batch_00000{b}.pt" for e in (1, 2) for b in (2, 4, 6)]
    expected = everything(tmp_path / "whole")
    for batch in range(2, 12):
        folder = tmp_path / str(batch)
        killed = kill_after(make(folder, **settings), batch)
        rest, done = make(folder, **settings), []
        rest.add_event_handler("ITERATION_COMPLETED", lambda e, seen: seen.append(e.state.iteration), done)
        rest.run()
        assert done[0] == (batch - batch % 2 if batch != 6 else 4) + 1
        assert everything(folder) == expected
        assert killed.reported + rest.reported == uninterrupted.reported


def test_a_finished_run_gets_more_epochs_at_the_learning_rate_of_the_new_end(make, tmp_path):
    """The first epoch's rate is the same under both cosines; that of the second is 0 under the old one."""

    def run(folder, max_epochs):
        def schedule(optimizer):
            return torch.optim.lr_scheduler.LambdaLR(optimizer, cosine(max_epochs))

        trainer, rates = make(folder, max_epochs=max_epochs, schedule=schedule), []
        trainer.add_event_handler("EPOCH_STARTED", lambda e: rates.append(e.optimizer.param_groups[0]["lr"]))
        trainer.run()
        return rates

    assert run(tmp_path / "whole", 2) == pytest.approx([0.01, 0.005])
    assert run(tmp_path / "longer", 1) == pytest.approx([0.01])
    assert run(tmp_path / "longer", 2) == pytest.approx([0.005])
    assert everything(tmp_path / "longer") == everything(tmp_path / "whole")


def test_a_schedule_of_milestones_goes_on_where_it_was(make, tmp_path):
    def run(folder, max_epochs):
        def schedule(optimizer):
            return torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], 0.1)

        make(folder, max_epochs=max_epochs, schedule=schedule).run()

    run(tmp_path / "whole", 4)
    run(tmp_path / "longer", 2)
    run(tmp_path / "longer", 4)
    assert everything(tmp_path / "longer") == everything(tmp_path / "whole")


def test_all_generators_go_on_where_they_were(make, tmp_path):
    def draws(trainer):
        seen = []

        @trainer.on("ITERATION_STARTED")
        def _draw(engine):
            seen.append((random.random(), random.gauss(0, 1), np.random.random(), np.random.normal()))

        return seen

    random.seed(5)
    np.random.seed(5)
    one = make(tmp_path / "one")
    expected = draws(one)
    one.run()
    random.seed(5)
    np.random.seed(5)
    two = make(tmp_path / "two")
    before = draws(two)
    kill_after(two, 7)
    random.seed(99)
    np.random.seed(99)
    rest = make(tmp_path / "two")
    after = draws(rest)
    rest.run()
    assert before + after == expected


def test_random_states_survive_a_file_that_loads_without_unpickling(tmp_path):
    random.gauss(0, 1)  # leaves half a pair behind
    np.random.normal()
    torch.save(random_state(), tmp_path / "state.pt")
    expected = random.gauss(0, 1), random.random(), np.random.normal(), np.random.random(), torch.rand(3).tolist()
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    again = random.gauss(0, 1), random.random(), np.random.normal(), np.random.random(), torch.rand(3).tolist()
    assert again == expected


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    state = torch.load(path, weights_only=True)
    at = content.index(state["network"]["queue.keys"].numpy().tobytes()) + 5
    content[at] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)  # torch does not notice


def empty(path):
    path.write_bytes(b"")


def drop_the_network(path):
    state = torch.load(path, weights_only=True)
    del state["network"]
    torch.save(state, path)


def make_it_a_list(path):
    torch.save([torch.zeros(2)], path)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, drop_the_network, make_it_a_list])
def test_a_damaged_checkpoint_is_renamed_and_the_one_before_it_taken(make, whole, tmp_path, caplog, damage):
    make(whole, resume=False).run()
    kill_after(make(tmp_path), 8)
    assert names(tmp_path) == ["epoch_00003_batch_000001.pt", "epoch_00003_batch_000002.pt"]
    damage(tmp_path / "checkpoints" / "epoch_00003_batch_000002.pt")
    rest, steps = make(tmp_path), []
    rest.add_event_handler("ITERATION_COMPLETED", lambda e: steps.append(e.state.iteration))
    rest.run()
    assert steps[0] == 8
    assert everything(tmp_path) == everything(whole)
    assert names(tmp_path) == [
        "epoch_00003_batch_000002.pt.damaged", "epoch_00004_batch_000002.pt", "epoch_00004_batch_000003.pt",
    ]  # fmt: skip
    warning = next(r.getMessage() for r in caplog.records if ".pt: damaged" in r.getMessage())
    assert "epoch_00003_batch_000002.pt: damaged" in warning
    assert "going on from epoch_00003_batch_000001.pt" in warning
    assert "\n" not in warning


def test_where_all_are_damaged_it_is_a_one_line_error_at_every_start(make, tmp_path):
    kill_after(make(tmp_path), 8)
    for path in (tmp_path / "checkpoints").iterdir():
        truncate(path)
    for _ in range(2):  # a cluster starts it again: that must not begin anew
        with pytest.raises(CxrPairError, match="none of the 2 checkpoints can be read") as caught:
            make(tmp_path).run()
        assert "\n" not in str(caught.value)
    make(tmp_path, resume=False, max_epochs=1).run()
    assert len(list((tmp_path / "checkpoints.1").iterdir())) == 2


def test_other_settings_are_refused_with_at_most_four_of_the_differences(make, tmp_path):
    make(tmp_path, max_epochs=1, card={str(n): n for n in range(6)}).run()
    with pytest.raises(CxrPairError) as caught:
        make(tmp_path, card={"0": 0, "split": {"hash": "b"}}).run()
    assert "1 was 1, is None; 2 was 2, is None; 3 was 3, is None; 4 was 4, is None; and 2 more" in str(caught.value)
    assert "resume false" in str(caught.value)


def test_a_checkpoint_of_another_format_or_number_of_processes_is_refused(make, tmp_path):
    make(tmp_path, max_epochs=1, keep=1).run()
    path = tmp_path / "checkpoints" / "epoch_00001_batch_000003.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "trainer": {**state["trainer"], "processes": 2}}, path)
    with pytest.raises(CxrPairError, match="made by 2 processes, this run has 1"):
        make(tmp_path).run()
    torch.save({**state, "format": "cxrpair-checkpoint/0"}, path)
    with pytest.raises(CxrPairError, match="another version"):
        make(tmp_path).run()
    torch.save({**state, "optimizer": {"state": {}}}, path)
    with pytest.raises(CxrPairError, match="cannot go on from this checkpoint"):
        make(tmp_path).run()


def test_a_run_with_nothing_to_go_on_from_starts_and_a_finished_one_can_get_more_epochs(make, whole, tmp_path, caplog):
    caplog.set_level("INFO")
    make(whole, resume=False).run()
    make(tmp_path, max_epochs=2).run()
    assert "training starts anew" in caplog.text
    make(tmp_path, max_epochs=4).run()
    assert everything(tmp_path) == everything(whole)


def test_the_key_resume_takes_auto_true_and_false(tmp_path):
    assert resume_folder(tmp_path, "auto") == resume_folder(str(tmp_path), True) == tmp_path / "checkpoints"
    assert resume_folder(tmp_path, False) is None
    with pytest.raises(CxrPairError, match="resume is 'yes': use auto, true or false"):
        resume_folder(tmp_path, "yes")


def test_a_sampler_that_cannot_begin_in_mid_epoch_is_an_error_before_training(make, tmp_path):
    trainer = make(tmp_path, sampler=DistributedSampler)
    with pytest.raises(CxrPairError, match="ResumableSampler"):
        trainer.run()
    assert trainer.state.iteration == 0
