"""Two runs never write to one folder."""

import errno
import time

import pytest

from monai_cxrpair.contrast.checkpoints import lock
from monai_cxrpair.errors import CxrPairError


def contents(folder):
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in sorted(folder.rglob("*"))}


def start(forked, folder, **settings):
    """A run that holds the lock and stands in a step."""
    process, before = forked(folder, step_seconds=60.0, **settings), steps(folder)
    end = time.monotonic() + 60
    while steps(folder) == before:
        assert time.monotonic() < end
        time.sleep(0.01)
    return process


def steps(folder):
    return (folder / "steps").stat().st_size if (folder / "steps").exists() else 0


def test_a_second_run_in_the_folder_is_refused_and_nothing_is_touched_until_the_first_has_died(forked, make, tmp_path):
    make(tmp_path, max_epochs=2).run()
    first = start(forked, tmp_path)
    assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o600
    before = contents(tmp_path)
    for resume in (True, False):
        with pytest.raises(CxrPairError, match=f"another run is writing to {tmp_path}: wait for it, or use") as caught:
            make(tmp_path, resume=resume).run()
        assert "\n" not in str(caught.value)
    second = forked(tmp_path)
    second.join(60)
    assert second.exitcode == 1
    assert "another run is writing to" in (tmp_path / "stderr.txt").read_text()
    after = contents(tmp_path)
    assert after.keys() - before.keys() == set()
    assert [path.name for path in before if before[path] != after[path]] == ["stderr.txt"]
    first.kill()
    first.join()
    rest = make(tmp_path)
    rest.run()
    assert rest.state.epoch == 4


def test_the_lock_ends_with_the_run_also_with_one_that_fails(forked, make, tmp_path):
    def fail(engine):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make(tmp_path, before_saving=fail).run()
    make(tmp_path, max_epochs=1).run()
    make(tmp_path, max_epochs=1).run()  # it is done already
    other = forked(tmp_path, max_epochs=2)  # while this process lives
    other.join(60)
    assert other.exitcode == 0


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_run_goes_on(make, tmp_path, monkeypatch, caplog, number):
    def refuse(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    with caplog.at_level("INFO"):
        make(tmp_path, max_epochs=1).run()
    assert "no locks here" in caplog.text
    assert (tmp_path / "encoder.pt").exists()
