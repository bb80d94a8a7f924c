import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_cxrpair import __version__, cli
from monai_cxrpair.errors import CxrPairError

TABLE = "patient_id,study_id,path,view,age,sex,effusion\np,s,a.png,frontal,40,F,1\np,s,b.png,lateral,40,F,1\nq,t,,,,,\n"
COMMANDS = ("index", "describe", "sweep", "phantom", "pull")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


def _run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from monai_cxrpair.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_index_prints_the_summary_as_its_last_line(table: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["index", str(table), "--out", str(tmp_path / "c.parquet"), "--json"])
    assert result.exit_code == 0
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["radiographs"] == 2
    assert summary["laterality"] == {"frontal": 1, "lateral": 1, "unknown": 0}
    assert summary["findings"] == {"pleural_effusion": {"present": 2, "absent": 0, "uncertain": 0, "missing": 0}}
    assert (summary["files_seen"], summary["rejected"]) == (3, {"no path": 1})


def test_describe_prints_the_same_keys_and_more(table: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    index = runner.invoke(cli.app, ["index", str(table), "--out", str(tmp_path / "c.parquet"), "--json"])
    shown = runner.invoke(cli.app, ["describe", str(tmp_path / "c.parquet"), "--json"])
    summary, description = json.loads(index.stdout.splitlines()[-1]), json.loads(shown.stdout.splitlines()[-1])
    for key in ("radiographs", "patients", "studies", "laterality", "findings"):
        assert description[key] == summary[key]
    assert description["images_per_study"] == {"mean": 2.0, "median": 2.0, "largest": 2, "share_of_ones": 0.0}
    assert description["sex"] == {"F": 1, "M": 0, "O": 0, "several": 0, "unknown": 0}
    assert description["age"]["mean"] == 40


def test_without_json_there_are_tables(table: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    out = str(tmp_path / "c.parquet")
    index = runner.invoke(cli.app, ["index", str(table), "--out", out])
    assert "Left out: 1 of 3" in index.stdout
    assert "pleural_effusion" in index.stdout
    shown = runner.invoke(cli.app, ["describe", out])
    assert "studies per patient" in shown.stdout


def test_options_of_the_form_name_source_reach_the_reader(table: Path, tmp_path: Path) -> None:
    table.write_text(TABLE.replace("patient_id", "who").replace("effusion", "fluid"))
    arguments = ["index", str(table), "--out", str(tmp_path / "c.parquet"), "--column", "patient_id=who"]
    result = CliRunner().invoke(cli.app, [*arguments, "--finding", "pleural_effusion=fluid", "--json"])
    assert json.loads(result.stdout.splitlines()[-1])["findings"]["pleural_effusion"]["present"] == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: cxrpair {command}" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["index"],
        ["nonsense"],
        ["index", "x", "--out", "c.parquet", "--format", "bogus"],
        ["index", "x", "--out", "c.parquet", "--column", "age"],
        ["index", "x", "--out", "c.parquet", "--column", "age=a", "--column", "age=b"],
        ["index", "x", "--out", "c.parquet", "--workers", "0"],
        ["describe", "--bogus"],
        ["pull", "https://pacs.example/dicom-web", "--out", "x"],
        ["pull", "https://pacs.example/dicom-web", "--out", "x", "--dates", "2024"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli.app, arguments).exit_code == 2


def test_a_mistake_is_one_line_without_traceback_and_exits_with_1(tmp_path: Path) -> None:
    result = _run("describe", tmp_path / "none.parquet")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: no cohort file")
    assert result.stderr.count("\n") == 1


def _fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)


def test_an_unforeseen_error_is_one_line_that_keeps_its_message_to_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CXRPAIR_DEBUG", raising=False)
    _fail_with(KeyError("Doe^Jane"), monkeypatch)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    shown = capsys.readouterr().err
    assert "KeyError" in shown
    assert "CXRPAIR_DEBUG=1" in shown
    assert "Doe" not in shown


@pytest.mark.parametrize("error", [KeyError("x"), CxrPairError("y")])
def test_the_traceback_is_there_on_request(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRPAIR_DEBUG", "1")
    _fail_with(error, monkeypatch)
    with pytest.raises(type(error)):
        cli.main()


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(cli.app, ["--version"]).stdout == f"cxrpair {__version__}\n"


def test_help_is_there_at_once() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        assert _run("--help").returncode == 0
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 1.0  # the best of three: other work on the machine is not ours


def test_neither_help_nor_index_imports_torch_or_monai(table: Path, tmp_path: Path) -> None:
    code = """
import sys
from monai_cxrpair.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {"torch", "monai", "ignite", "sklearn", "matplotlib", "cv2"} & set(sys.modules)
assert not heavy, heavy
assert sys.argv[1] != "--help" or not {"pandas", "pydicom", "numpy"} & set(sys.modules)
"""
    for arguments in (["--help"], ["index", str(table), "--out", str(tmp_path / "c.parquet")]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_there_is_no_progress_bar_where_stderr_is_no_terminal(table: Path, tmp_path: Path) -> None:
    result = _run("index", table, "--out", tmp_path / "c.parquet", "--json")
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 1
