"""`cxrpair doctor` on environments that are made up, and on the one that the tests run in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_cxrpair.cli import app
from monai_cxrpair.commands import doctor_checks
from monai_cxrpair.errors import CxrPairError

REQUIRES = ["solid>=2.0", "shaky>=1.5", 'far-away>=1.0; extra == "pacs"', 'monailabel-dep>=3; extra == "label"']
VERSIONS = {"solid": "2.1", "shaky": "1.4", "far-away": "1.2+cpu", "torch": "2.13.0+cpu"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment of three packages, which a test changes."""
    versions = dict(VERSIONS)

    def version(name: str) -> str:
        if name not in versions:
            raise doctor_checks.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor_checks, "requires", lambda name: REQUIRES)
    monkeypatch.setattr(doctor_checks, "version", version)
    return versions


def _by_name(**options: bool) -> dict[str, doctor_checks.Check]:
    return {check.name: check for check in doctor_checks.all_checks(label=options.get("label", False))}


def test_a_package_below_its_floor_is_as_bad_as_none(environment: dict[str, str]) -> None:
    found = _by_name()
    assert (found["solid"].status, found["shaky"].status) == ("ok", "missing")
    assert "shaky>=1.5" in found["shaky"].advice
    del environment["solid"]
    assert _by_name()["solid"].status == "missing"


def test_what_only_an_extra_needs_may_be_missing(environment: dict[str, str]) -> None:
    found = _by_name()
    assert found["extra [label]"].status == "note"
    assert "monailabel-dep" not in found
    assert found["far-away"].status == "ok"  # it is there, so it is looked at
    del environment["far-away"]
    assert _by_name()["extra [pacs]"].status == "note"


def test_the_label_server_needs_its_extras(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = _by_name(label=True)
    assert {name for name, check in found.items() if check.status == "missing"} == {
        "shaky",
        "monailabel-dep",
        "monailabel",
        "pydicom-seg",
    }


def test_another_version_than_the_exact_one_is_a_note_but_the_build_does_not_matter(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "constraints.txt").write_text("# comment\nSolid==2.0\nfar_away==1.2\n")
    monkeypatch.setattr(doctor_checks, "CHECKOUT", tmp_path)
    found = _by_name()
    assert (found["solid"].status, found["solid"].advice) == ("note", "seen to work: 2.0")
    assert found["far-away"].status == "ok"


@pytest.mark.parametrize("label", [False, True])
def test_the_remedy_is_one_command_that_exists(label: bool) -> None:
    command, _, target = doctor_checks.remedy(label=label).rpartition(" ")
    assert command.startswith("make -C ")
    makefile = (doctor_checks.CHECKOUT / "Makefile").read_text()
    assert f"\n{target}:" in makefile


def test_a_folder_that_cannot_be_written_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there"))
    monkeypatch.setattr(doctor_checks.os, "access", lambda path, mode: Path(path) != tmp_path)
    found = {check.name: check.status for check in doctor_checks._folders()}
    assert found["cache"] == "missing"
    assert found["working folder"] in ("ok", "note")


def test_dangerous_settings_of_the_label_server_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("")
    monkeypatch.setenv("MONAI_LABEL_CORS_ORIGINS", '["*"]')
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_SEARCH_FILTER", '{"Modality": "CT"}')
    names = {check.name for check in doctor_checks._settings()}
    expected = {"MONAI_LABEL_AUTH_ENABLE", "MONAI_LABEL_CORS_ORIGINS", "MONAI_LABEL_DICOMWEB_SEARCH_FILTER", ".env"}
    assert names == expected
    monkeypatch.setenv("MONAI_LABEL_AUTH_ENABLE", "true")
    assert "MONAI_LABEL_AUTH_ENABLE" not in {check.name for check in doctor_checks._settings()}


def test_it_exits_with_1_and_the_remedy_where_something_is_missing(environment: dict[str, str]) -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["ok"] is False
    assert said["remedy"] == doctor_checks.remedy(label=False)
    assert isinstance(done.exception, CxrPairError)  # main() makes it one line and exit code 1
    assert "shaky" in str(done.exception)
    environment["shaky"] = "1.5"
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout.splitlines()[-1])["remedy"] is None


def test_it_loads_nothing_of_what_it_asks_about() -> None:
    code = (
        "import sys\nfrom monai_cxrpair.commands.doctor_checks import all_checks\n"
        "list(all_checks(label=False))\nprint(sorted({'torch', 'monai', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
