"""`cxrpair pairs` as its users call it."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from monai_cxrpair.cli import app
from monai_cxrpair.cohort import Cohort
from monai_cxrpair.contrast.settings import queue_size

OVERLAYS = sorted((Path(__file__).resolve().parents[2] / "configs" / "pairing").glob("*.yaml"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """40 patients: a study with a frontal and a lateral, and a second study with a frontal."""
    rows = [(f"p{n}", f"s{n}{study}", view, float(study == "b")) for n in range(40)
            for study, view in (("a", "frontal"), ("a", "lateral"), ("b", "frontal"))]  # fmt: skip
    table = pd.DataFrame(rows, columns=["patient_id", "study_id", "laterality", "pleural_effusion"])
    table["image_id"] = table["path"] = [f"i{row}" for row in range(len(rows))]
    Cohort(table, root=tmp_path, findings=["pleural_effusion"], source="table").write(tmp_path / "cohort.parquet")
    return tmp_path / "cohort.parquet"


def _pairs(file: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["pairs", str(file), *map(str, options)], env={"COLUMNS": "80"})


def _found(file: Path, *options: str) -> dict:
    result = _pairs(file, "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def _error(file: Path, *options: str) -> str:
    result = _pairs(file, *options)
    assert result.exit_code == 1
    return str(result.exception)


def test_the_json_is_that_of_the_contract(file):
    rules = _found(file)["rules"]
    assert len(rules) == 18
    same = next(r for r in rules if (r["study"], r["laterality"], r["include_self"]) == ("same", "any", True))
    contract = {"study": "same", "laterality": "any", "include_self": True, "empty_fraction": 0.0, "with_partner": 120,
                "largest": 2, "mismatch_rate": {"pleural_effusion": 0.0}}  # fmt: skip
    assert contract.items() <= same.items()
    assert same["mean_size"] == pytest.approx(5 / 3)
    assert same["self_pair_rate"] == pytest.approx(2 / 3)
    distinct = next(r for r in rules if (r["study"], r["laterality"]) == ("distinct", "distinct"))
    assert distinct["empty_fraction"] == pytest.approx(1 / 3)
    assert distinct["mismatch_rate"] == {"pleural_effusion": 1.0}


def test_the_text_and_the_page_are_written(file, tmp_path):
    result = _pairs(file, "--html", tmp_path / "new" / "page.html")
    assert result.exit_code == 0, result.output
    assert "What each rule does" in result.stdout
    assert f"Page: {tmp_path}" in result.stdout.replace("\n", "")
    assert "120 radiographs of 40 patients in 80 studies" in (tmp_path / "new" / "page.html").read_text()


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_every_overlay_of_the_project_can_be_counted(overlay, file):
    (rule,) = _found(file, "--config", overlay)["further"]
    assert rule["name"] == overlay.stem
    assert 0 <= rule["self_pair_rate"] <= 1


def test_the_papers_config_counts_the_query_among_its_candidates_and_brings_its_queue(file):
    found = _found(file, "--config", OVERLAYS[0].parents[1] / "paper.yaml")
    assert found["further"][0]["settings"]["include_self"] is True
    assert found["further"][0]["self_pair_rate"] == pytest.approx(2 / 3)
    assert found["queue"] == {"size": 24_576, "patient": None, "study": None}
    assert "training refuses it" in " ".join(
        _pairs(file, "--config", OVERLAYS[0].parents[1] / "paper.yaml").stdout.split()
    )


def test_the_queue_is_that_of_training_unless_it_is_given(file):
    assert _found(file)["queue"]["size"] == queue_size("auto", radiographs=120, batch_size=32) == 32
    assert _found(file, "--queue-size", "50")["queue"]["size"] == 50
    expected = _found(file, "--queue-size", "50")["queue"]["patient"]["expected"]
    assert expected == pytest.approx(50 * 2 / 119)


@pytest.mark.parametrize(
    ("content", "said"),
    [("batch_size: 3", "no `pairing` section"), ("pairing: {studdy: same}", "studdy"), ("pairing: [", "no YAML"),
     ("pairing: {study: same}\nqueue_size: many", "queue_size is 'many'"), ("- 1", "no `pairing` section"),
     (None, "cannot read the config")],
)  # fmt: skip
def test_a_config_that_is_none_is_an_error_that_says_why(content, said, file, tmp_path):
    if content is not None:
        (tmp_path / "x.yaml").write_text(content)
    assert said in _error(file, "--config", tmp_path / "x.yaml")


def test_an_unknown_finding_and_a_cohort_without_patients_are_errors(file, tmp_path):
    assert "--finding mass" in _error(file, "--finding", "mass")
    table = Cohort.read(file).table.assign(patient_id=[f"q{row}" for row in range(120)])
    table["study_id"] = table["patient_id"]
    nobody = Cohort(table, root=tmp_path, findings=["pleural_effusion"], source="vindr", patients_known=False)
    nobody.write(tmp_path / "vindr.parquet")
    message = _error(tmp_path / "vindr.parquet")
    assert "has no patient ids" in message
    assert "\n" not in message


def test_a_wrong_option_is_wrong_usage(file):
    assert _pairs(file, "--queue-size", "0").exit_code == 2


def test_neither_torch_nor_monai_nor_matplotlib_is_imported(file):
    code = """
import sys
from monai_cxrpair.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {"torch", "monai", "ignite", "matplotlib", "sklearn"} | (set() if "--html" in sys.argv else {"jinja2"})
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    for arguments in (["--json"], ["--config", str(OVERLAYS[0]), "--html", str(file.with_suffix(".html"))]):
        command = [sys.executable, "-c", code, "pairs", str(file), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
