"""SIGTERM and Ctrl-C: the step is finished, everything saved, and the process leaves with a code that says why."""

import os
import signal
import threading
import time

import pytest
import torch

from monai_cxrpair.contrast.checkpoints.signals import SIGNALS, StopSignals


def steps(folder, rank=""):
    path = folder / f"steps{rank}"
    return path.stat().st_size if path.exists() else 0


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def newest(folder):
    return sorted((folder / "checkpoints").glob("*.pt"))[-1]


def weights(folder):
    return torch.load(newest(folder), weights_only=True)["network"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_whole_group_saves_before_leaving_and_nothing_is_lost(forked, tmp_path, number, code, workers):
    """To the group, as Slurm and a terminal send it: the loader's workers get it too."""
    killed = forked(tmp_path / "run", workers=workers, step_seconds=0.2, checkpoint_minutes=0)
    wait_for(lambda: steps(tmp_path / "run") >= 5)  # not ==: on a busy machine the fifth may pass unseen
    os.killpg(killed.pid, number)
    killed.join(240)
    assert killed.exitcode == code
    done = steps(tmp_path / "run")
    assert newest(tmp_path / "run").name == f"epoch_{(done + 2) // 3:05d}_batch_{(done - 1) % 3 + 1:06d}.pt"
    said = (tmp_path / "run" / "stderr.txt").read_text().strip()
    at_once, saved = said.splitlines()
    assert at_once == f"{number.name}: finishing the step and saving; the same again after 2 s leaves at once"
    assert f"{number.name}: saved" in saved
    rest, whole = forked(tmp_path / "run", workers=workers), forked(tmp_path / "whole")
    for process in (rest, whole):
        process.join(240)
        assert process.exitcode == 0
    assert steps(tmp_path / "run") == 12  # no step was done twice
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(weights(tmp_path / "run")[name], value), name


def test_a_second_signal_leaves_at_once_but_an_echo_of_the_first_does_not(forked, tmp_path):
    patient = forked(tmp_path / "echo", step_seconds=1.0)
    wait_for(lambda: steps(tmp_path / "echo") == 1)
    patient_began = time.monotonic()
    os.kill(patient.pid, signal.SIGTERM)
    os.kill(patient.pid, signal.SIGTERM)
    patient.join(240)
    assert patient.exitcode == 143
    assert time.monotonic() - patient_began < 20

    hasty = forked(tmp_path / "twice", step_seconds=60.0, echo_seconds=0.1)
    wait_for(lambda: steps(tmp_path / "twice") == 1)
    began = time.monotonic()
    os.kill(hasty.pid, signal.SIGTERM)
    time.sleep(0.3)
    assert hasty.is_alive()
    os.kill(hasty.pid, signal.SIGTERM)
    hasty.join(240)
    assert hasty.exitcode == -signal.SIGTERM
    assert time.monotonic() - began < 20


def test_several_processes_agree_on_the_step_after_which_they_stop(forked, tmp_path):
    """One of two gets the signal; the first writes what both need, and the two go on from there."""
    pair = [forked(tmp_path, ranks=(rank, 2), batch=1, step_seconds=0.02, checkpoint_minutes=0) for rank in (0, 1)]
    wait_for(lambda: steps(tmp_path, 1) >= 13)
    os.kill(pair[1].pid, signal.SIGTERM)
    for process in pair:
        process.join(240)
        assert process.exitcode == 143
    done = steps(tmp_path, 0)
    assert steps(tmp_path, 1) == done
    state = torch.load(newest(tmp_path), weights_only=True)
    assert state["trainer"] == {"iteration": done, "epoch_length": 12, "processes": 2}
    assert len(state["ranks"]) == 2
    (tmp_path / "meeting").unlink(missing_ok=True)
    for process in [forked(tmp_path, ranks=(rank, 2), batch=1) for rank in (0, 1)]:
        process.join(240)
        assert process.exitcode == 0
    assert steps(tmp_path, 0) == steps(tmp_path, 1) == 48


def test_the_first_signal_is_answered_while_the_step_still_goes_on(forked, tmp_path):
    busy = forked(tmp_path, step_seconds=60.0)
    wait_for(lambda: steps(tmp_path) == 1)
    os.kill(busy.pid, signal.SIGINT)
    wait_for(lambda: "SIGINT: finishing the step" in (tmp_path / "stderr.txt").read_text(), seconds=20)
    assert busy.is_alive()


def test_the_handlers_of_before_are_back_after_the_run_also_after_an_error(make, tmp_path):
    before = [signal.getsignal(number) for number in SIGNALS]
    trainer, within = make(tmp_path, max_epochs=1), []
    trainer.add_event_handler("ITERATION_COMPLETED", lambda _: within.append([signal.getsignal(n) for n in SIGNALS]))
    trainer.run()
    assert within[0] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before

    def fail(engine):
        raise KeyError("x")

    with pytest.raises(KeyError):
        make(tmp_path / "error", before_saving=fail).run()
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_run_outside_the_main_thread_leaves_signals_alone(make, tmp_path):
    trainer, within = make(tmp_path, max_epochs=1), []
    trainer.add_event_handler("ITERATION_COMPLETED", lambda _: within.append([signal.getsignal(n) for n in SIGNALS]))
    before = [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=trainer.run)
    thread.start()
    thread.join(240)
    assert within == [before] * 3


def test_a_signal_in_the_last_step_does_not_spoil_a_run_that_is_done(make, tmp_path):
    def at_the_end(engine):
        if engine.state.iteration == 12:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer = make(tmp_path, before_saving=at_the_end)
    trainer.run()
    assert trainer.state.iteration == 12


def stop_by(number):
    with StopSignals() as signals:
        os.kill(os.getpid(), number)
        signals.obeyed = True


def test_an_orderly_end_leaves_with_128_plus_the_signal():
    with pytest.raises(SystemExit) as caught:
        stop_by(signal.SIGINT)
    assert caught.value.code == 130
