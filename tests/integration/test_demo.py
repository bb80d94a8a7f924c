"""`make demo`, small enough for a test: every step is a process of its own, as for a user."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"


@pytest.mark.slow
def test_the_demo_ends_with_the_report_and_the_auc_table_of_all_three_encoders(tmp_path):
    out = tmp_path / "demo"
    small = ["--patients", "40", "--image-size", "32", "--epochs", "1", "--label-fraction", "0.5"]
    done = subprocess.run(
        [sys.executable, str(DEMO), "--out", str(out), *small], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    last = done.stdout.strip().splitlines()
    assert last[-1] == f"report: {out / 'report' / 'report.html'}"
    table = "\n".join(last[-14:])
    results = json.loads((out / "report" / "results.json").read_text())
    for name in ("random weights", "MoCo without metadata", "same-patient same-study pairs"):
        linear = results["encoders"][name]["linear"]
        assert f"{linear['auc_mean']:.3f}" in table
        assert f"{linear['ci95'][0]:.3f} to {linear['ci95'][1]:.3f}" in table


def test_the_demo_does_not_delete_a_folder_that_it_did_not_make(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    done = subprocess.run(
        [sys.executable, str(DEMO), "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "not an earlier demo" in done.stderr
    assert (tmp_path / "mine.txt").exists()
