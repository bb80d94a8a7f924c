"""Runs that pretend: skipped, gone on with, failed, stopped by a signal."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.experiments.plan import DONE, STOPPED, training_job
from monai_cxrpair.experiments.runner import Runner, StoppedError, duration, last_words, only_one


@pytest.fixture
def jobs(experiment, place, pretend):
    """Two seeds of two rows, of four epochs each."""
    found = [
        training_job(experiment, row, seed, cohort=place / "c", cohort_hash="h", out=place / "out")
        for seed in range(2)
        for row in experiment.rows[1:]
    ]
    return [pretend(job) for job in found]


@pytest.fixture
def runner(place):
    def make(**more):
        return Runner(bundle=place / "bundle", total=4, epochs=16, **more)

    return make


def starts(job):
    path = job.folder / "starts"
    return len(path.read_text()) if path.exists() else 0


def test_what_is_done_is_not_run_again(jobs, runner):
    runner().run(jobs)
    assert [job.state() for job in jobs] == [DONE] * 4
    again = runner()
    again.run(jobs)
    assert [starts(job) for job in jobs] == [1] * 4
    assert not again.failures


def test_a_failure_is_named_with_its_error_and_the_others_go_on(jobs, runner, pretend):
    jobs[1] = pretend(jobs[1], "fail")
    jobs[2] = pretend(jobs[2], "nothing")
    first = runner()
    first.run(jobs)
    assert [(each.title, each.line) for each in first.failures] == [
        ("same study, seed 0", "queue_size is too large"),
        ("MoCo v2, seed 1", "wrote no encoder.pt"),
    ]
    assert first.failures[0].log.read_text().startswith("Traceback")
    assert [jobs[0].state(), jobs[3].state()] == [DONE, DONE]
    mended = runner()
    mended.run([pretend(job) for job in jobs])
    assert not mended.failures
    assert [starts(job) for job in jobs] == [1, 2, 2, 1]


def test_a_program_that_is_not_there_is_a_failure_too(jobs, runner):
    from dataclasses import replace

    jobs[0] = replace(jobs[0], command=("/no/such/program",))
    found = runner()
    found.run(jobs)
    assert [each.title for each in found.failures] == ["MoCo v2, seed 0"]
    assert "No such file" in found.failures[0].line


def test_a_folder_with_other_settings_is_left_alone(jobs, runner):
    from dataclasses import replace

    runner().run(jobs[:1])
    other = replace(jobs[0], asked={**jobs[0].asked, "image_size": 64})
    found = runner()
    found.run([other])
    assert "image_size was 48, is 64" in found.failures[0].line
    assert "another --out" in found.failures[0].line
    assert jobs[0].state() == DONE


def test_runs_side_by_side_overlap_and_share_the_cores(jobs, runner, pretend, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    seen = []
    slow = [pretend(job, "slow") for job in jobs]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    started, real = [], subprocess.Popen

    def popen(command, **settings):
        started.append(settings["env"].get("OMP_NUM_THREADS"))
        seen.append(time.monotonic())
        return real(command, **settings)

    monkeypatch.setattr(subprocess, "Popen", popen)
    runner(at_once=2).run(slow)
    assert started == ["4"] * 4
    assert seen[1] - seen[0] < 0.5 < seen[2] - seen[1]


def test_progress_counts_the_epochs_of_done_and_running_runs(jobs, runner, pretend):
    runner().run(jobs[:1])
    told = []
    runner(progress=lambda done, total: told.append((done, total))).run([jobs[0], pretend(jobs[1], "slow")])
    assert told == sorted(told)
    assert told[0][0] >= 4  # that of the run done before
    assert told[-1] == (8, 16)
    assert {done for done, _ in told} & {5, 6, 7}  # within a run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_reaches_the_run_which_saves_and_no_other_begins(jobs, runner, pretend, number, code):
    slow = [pretend(job, "slow") for job in jobs]
    history = slow[0].folder / "history.jsonl"

    def later():
        while not history.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=later)
    before = signal.getsignal(number)
    thread.start()
    with pytest.raises(StoppedError) as caught:
        runner().run(slow)
    thread.join()
    assert caught.value.code == code
    assert signal.getsignal(number) is before
    assert slow[0].state() == STOPPED
    assert 1 <= slow[0].epochs_done() < 4
    assert [starts(job) for job in slow] == [1, 0, 0, 0]
    runner().run(jobs)
    assert [job.state() for job in jobs] == [DONE] * 4
    assert history.read_text().count("epoch") == 4  # gone on with, not begun again


def test_the_log_counts_trainings_and_tells_the_time_left(jobs, runner, caplog):
    with caplog.at_level("INFO"):
        runner().run(jobs)
    begins = [message for message in caplog.messages if " begins" in message]
    assert begins[0] == "1 of 4: MoCo v2, seed 0 begins"
    assert begins[3].startswith("4 of 4: same study, seed 1 begins, about ")
    assert begins[3].endswith(" s left")


def test_the_time_of_a_stopped_run_is_kept(jobs, runner):
    jobs[0].write_record(finished=False, seconds=100)
    runner().run(jobs[:1])
    assert jobs[0].record()["seconds"] >= 100


def test_tidy_removes_the_checkpoints_of_finished_runs_alone(jobs, runner, pretend):
    jobs[1] = pretend(jobs[1], "fail")
    (jobs[1].folder / "checkpoints").mkdir(parents=True)
    (jobs[1].folder / "checkpoints" / "epoch_00001_batch_000001.pt").touch()
    runner(tidy=True).run(jobs[:2])
    assert not list((jobs[0].folder / "checkpoints").iterdir())
    assert list((jobs[1].folder / "checkpoints").iterdir())
    assert jobs[0].state() == DONE


def test_two_sweeps_do_not_work_in_one_folder(tmp_path):
    with only_one(tmp_path / "out"), pytest.raises(CxrPairError, match="another sweep"), only_one(tmp_path / "out"):
        pass
    with only_one(tmp_path / "out"):
        pass


def test_a_run_that_outlives_its_sweep_keeps_the_next_one_out(tmp_path):
    with only_one(tmp_path) as lock:
        run = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=(lock,))
    try:
        with pytest.raises(CxrPairError, match="one that was killed"), only_one(tmp_path):
            pass
    finally:
        run.kill()
        run.wait()
    with only_one(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CxrPairError, match="cannot write to"), only_one(tmp_path / "file" / "out"):
        pass


def test_the_last_words_of_a_run(tmp_path):
    log = tmp_path / "log.txt"
    assert last_words(log, 1) == "exit 1"
    log.write_text("first\nlast\n\n")
    assert last_words(log, 9) == "exit 9, last"
    log.write_text("error: one\nmore\nerror: two\nmore\n")
    assert last_words(log, 1) == "two"


def test_durations_are_readable():
    assert [duration(s) for s in (0, 89, 91, 5300, 12000)] == ["0 s", "89 s", "2 min", "88 min", "3 h 20 min"]
