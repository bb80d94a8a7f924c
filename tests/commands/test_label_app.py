import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_cxrpair.cli import app


def _run(*arguments: object):
    return CliRunner().invoke(app, ["label-app", *map(str, arguments)])


def test_it_prints_the_folder_of_an_app_that_only_its_owner_can_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = Path(_run().stdout.removesuffix("\n"))
    assert folder == tmp_path / "cxrpair" / "label-app"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "import MyApp" in (folder / "main.py").read_text()
    compile((folder / "main.py").read_text(), "main.py", "exec")


def test_a_classifier_is_copied_with_its_card_and_a_second_call_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    (tmp_path / "model.json").write_text("{}")
    assert _run("--out", tmp_path / "app", "--model", tmp_path / "model.pt").exit_code == 0
    (tmp_path / "app" / "model" / "model.pt").write_bytes(b"refitted")
    assert _run("--out", tmp_path / "app").exit_code == 0
    assert (tmp_path / "app" / "model" / "model.pt").read_bytes() == b"refitted"
    assert (tmp_path / "app" / "model" / "model.json").read_text() == "{}"


def test_a_classifier_without_its_card_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    done = _run("--out", tmp_path / "app", "--model", tmp_path / "model.pt")
    assert "model.json: no such file" in str(done.exception)
    assert not (tmp_path / "app" / "model" / "model.pt").exists()


def test_a_path_that_the_start_script_would_tear_apart_is_refused(tmp_path: Path) -> None:
    assert "with a space" in str(_run("--out", tmp_path / "my app").exception)
