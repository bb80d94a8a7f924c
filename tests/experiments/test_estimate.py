"""What is known beforehand is said with its source, what is not is said to be unknown."""

import shutil
from types import SimpleNamespace

import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.experiments.estimate import check_disk, estimate, size_text
from monai_cxrpair.experiments.experiment import read_experiment
from monai_cxrpair.experiments.plan import training_job


@pytest.fixture
def guess(file, place):
    def make(*, seeds=2, asked=None, **more):
        experiment = read_experiment(file, asked=asked)
        jobs = [
            training_job(experiment, row, seed, cohort=place / "c", cohort_hash="h", out=place / "out")
            for seed in range(seeds)
            for row in experiment.rows[1:]
        ]
        return jobs, estimate(jobs, radiographs=1000, out=place / "out", bundle=place / "bundle", **more)

    return make


def finish(job, *, seconds=8, size=1000, epochs=4):
    job.folder.mkdir(parents=True)
    (job.folder / "encoder.pt").write_bytes(b"0" * size)
    (job.folder / "encoder.json").touch()
    (job.folder / "history.jsonl").write_text(f'{{"epoch": {epochs}}}\n')
    job.write_record(finished=epochs == 4, seconds=seconds)


def test_before_the_first_run_the_time_is_unknown_and_the_disk_follows_from_the_weights(guess):
    _, found = guess()
    assert found.seconds is None
    assert "no run here" in found.seconds_from
    # Four runs: encoder.pt, and two checkpoints of two encoders and Adam's two moments; the pixels beside.
    assert found.bytes == pytest.approx(4 * 9 * 44.7e6 + 1000 * 48 * 48 * 1.2)


def test_after_it_both_follow_from_what_was_measured(guess, place):
    jobs, _ = guess()
    finish(jobs[0])
    (place / "out" / "pixels").mkdir()
    size = sum(path.stat().st_size for path in jobs[0].folder.iterdir())
    _, found = guess()
    assert found.seconds == pytest.approx(3 * 8)
    assert found.bytes == 3 * size
    assert "1 runs" in found.seconds_from
    _, two = guess(at_once=2)
    assert two.seconds == pytest.approx(12)


def test_of_a_stopped_run_only_the_rest_is_counted(guess):
    jobs, _ = guess(seeds=1)
    finish(jobs[0], epochs=1, seconds=3)
    _, found = guess(seeds=1)
    assert found.seconds == pytest.approx(3 * 3 + 4 * 3)


def test_runs_of_another_table_in_the_folder_tell_the_pace_where_they_are_of_the_same_size(guess, change):
    jobs, _ = guess(seeds=1)
    finish(jobs[0], seconds=8)
    change(name="table2")
    _, found = guess(seeds=1)
    assert found.seconds == pytest.approx(2 * 8)
    _, other = guess(seeds=1, asked={"image_size": 64})
    assert other.seconds is None


def test_nothing_left_costs_nothing(guess):
    jobs, _ = guess(seeds=1)
    for job in jobs:
        finish(job)
    _, found = guess(seeds=1)
    assert (found.seconds, found.bytes) == (0, 0)


def test_tidy_runs_keep_their_encoder_alone(guess):
    _, found = guess(tidy=True)
    assert found.bytes == pytest.approx((4 + 8) * 44.7e6 + 1000 * 48 * 48 * 1.2)


def test_an_encoder_of_ones_own_has_an_unknown_size_and_no_check_of_the_disk(guess, tmp_path):
    _, found = guess(asked={"encoder": {"_target_": "mine.Net"}})
    assert found.bytes is None
    check_disk(found, tmp_path)


def test_a_disk_that_is_too_small_is_refused_before_the_work(guess, tmp_path, monkeypatch):
    _, found = guess()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e9))
    with pytest.raises(CxrPairError, match=r"need about 1\.6 GB, 1\.0 GB are free: make room, use --tidy"):
        check_disk(found, tmp_path / "not" / "there")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2e9))
    check_disk(found, tmp_path / "not" / "there")


def test_sizes_are_readable():
    assert [size_text(s) for s in (3.5e8, 4.2e9)] == ["350 MB", "4.2 GB"]
