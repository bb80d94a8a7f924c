"""What a killed pull leaves, and what the next one makes of it."""

import sqlite3
import threading
from pathlib import Path

import pytest

from monai_cxrpair.cohort.files import PULL_FOLDER
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pacs.inbox import Inbox
from monai_cxrpair.pacs.retry import Retry, StoppedError, TransientError


def _file(tmp_path: Path, uid: str) -> Path:
    return tmp_path / "export" / "1.2" / f"{uid}.dcm"


def _state(tmp_path: Path) -> Path:
    return tmp_path / "export" / PULL_FOLDER


def test_a_half_written_part_is_thrown_away_and_fetched_again(web, pull_from, tmp_path):
    pull_from(web.url)
    whole = _file(tmp_path, "1.2.3.2").read_bytes()
    with sqlite3.connect(_state(tmp_path) / "ledger.sqlite") as db:
        db.execute("UPDATE instances SET bytes = NULL WHERE uid = '1.2.3.2'")
    _file(tmp_path, "1.2.3.2").unlink()
    (_state(tmp_path) / "parts" / "1.2.3.2.part").write_bytes(whole[:100])
    web.requests.clear()
    result = pull_from(web.url)
    assert (result.fetched, result.already_there) == (1, 2)
    assert web.fetches == ["1.2.3.2"]
    assert _file(tmp_path, "1.2.3.2").read_bytes() == whole
    assert not list((_state(tmp_path) / "parts").iterdir())


def test_a_pull_killed_between_rename_and_mark_does_not_fetch_again(web, pull_from, tmp_path):
    pull_from(web.url)
    with sqlite3.connect(_state(tmp_path) / "ledger.sqlite") as db:
        db.execute("UPDATE instances SET bytes = NULL")
    web.requests.clear()
    assert pull_from(web.url).already_there == 3
    assert web.fetches == []


def test_a_deleted_or_damaged_ledger_costs_no_second_fetch(web, pull_from, tmp_path):
    pull_from(web.url)
    ledger = _state(tmp_path) / "ledger.sqlite"
    ledger.write_bytes(b"no database at all" * 100)
    with pytest.raises(CxrPairError, match="is damaged: delete it"):
        pull_from(web.url)
    ledger.unlink()
    web.requests.clear()
    assert pull_from(web.url).already_there == 3
    assert web.fetches == []


@pytest.mark.parametrize("harm", ["delete", "cut"])
def test_a_file_that_was_deleted_or_cut_is_fetched_again(web, pull_from, tmp_path, harm):
    pull_from(web.url)
    path = _file(tmp_path, "1.2.3.1")
    whole = path.read_bytes()
    path.unlink() if harm == "delete" else path.write_bytes(whole[:-7])
    web.requests.clear()
    assert pull_from(web.url).fetched == 1
    assert web.fetches == ["1.2.3.1"]
    assert path.read_bytes() == whole


def test_an_unchanged_study_is_not_even_listed_again_and_one_that_grew_is(web, pull_from, radiograph):
    pull_from(web.url)
    web.requests.clear()
    pull_from(web.url)
    assert all("/series" not in path for path in web.requests)
    web.images.append(radiograph("1.2.3.4"))
    assert pull_from(web.url).fetched == 1
    assert web.fetches == ["1.2.3.4"]


def test_two_pulls_into_one_folder_at_a_time_are_refused(web, pull_from, tmp_path):
    inbox = Inbox(tmp_path / "export", stop=threading.Event())
    try:
        with pytest.raises(CxrPairError, match="another pull is writing"):
            pull_from(web.url)
    finally:
        inbox.ledger.close()
    assert pull_from(web.url).fetched == 3


def test_a_full_disk_ends_the_pull_at_once(web, pull_from, tmp_path, monkeypatch):
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CxrPairError, match="No space left") as error:
        pull_from(web.url, retries=20, backoff=60.0)
    assert "1.2.3" not in str(error.value)
    assert not list(tmp_path.rglob("*.dcm"))
    assert not list(tmp_path.rglob("*.part"))


def test_ctrl_c_leaves_a_state_that_goes_on(web, pull_from):
    def press(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(CxrPairError, match="the same command goes on"):
        pull_from(web.url, progress=press)
    result = pull_from(web.url)
    assert result.instances == 3
    assert len(web.fetches) == len(set(web.fetches))


def test_waiting_times_double_up_to_a_minute_and_differ(monkeypatch):
    waits: list[float] = []
    retry = Retry(9, first=1.0)
    monkeypatch.setattr(retry.stop, "wait", lambda seconds: waits.append(seconds) or False)

    def fail() -> None:
        raise TransientError("busy")

    for _ in range(40):
        with pytest.raises(TransientError):
            retry.call(fail)
    for attempt in range(9):
        own = waits[attempt::9]
        longest = min(60.0, 2.0**attempt)
        assert 0.8 * longest < max(own) <= longest
        assert min(own) < 0.3 * longest


def test_a_stopped_pull_does_not_wait():
    retry = Retry(5, first=60.0)
    retry.stop.set()
    with pytest.raises(StoppedError):
        retry.wait(5, TransientError("busy"))
