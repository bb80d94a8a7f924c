"""`cxrpair sweep` before anything is trained: what it shows, and what it refuses."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from monai_cxrpair import cli
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.errors import CxrPairError

TABLES = Path(__file__).resolve().parents[2] / "configs" / "experiments"
FEW = ("--set", "queue_size=auto", "--set", "image_size=64")


@pytest.fixture
def cohort(tmp_path):
    table = pd.DataFrame({"patient_id": list("abcd"), "study_id": list("efgh"), "path": [f"{n}.png" for n in range(4)],
                          "pleural_effusion": [0, 1, 0, 1]})  # fmt: skip
    table.to_csv(tmp_path / "table.csv", index=False)
    index_source(tmp_path / "table.csv", out=tmp_path / "cohort.parquet", file_format="table")
    return tmp_path / "cohort.parquet"


def sweep(cohort, *more, table="table1"):
    words = ["sweep", str(TABLES / f"{table}.yaml"), "--cohort", str(cohort), "--out", str(cohort.parent / "out")]
    done = CliRunner().invoke(cli.app, [*words, *map(str, more)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_a_dry_run_lists_every_row_with_every_seed_and_trains_nothing(cohort):
    done = sweep(cohort, *FEW, "--seeds", 2, "--dry-run", "--json")
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["runs"]) == 2 * 8  # ten rows, two of them baselines
    assert {run["state"] for run in found["runs"]} == {"to do"}
    assert [run["run"] for run in found["runs"][:2]] == ["MoCo v2, seed 0", "MoCo v2, random crop, seed 0"]
    assert "configs/augmentation/random_crop.yaml" in found["runs"][1]["command"]
    assert found["estimate"]["seconds"] is None
    assert found["estimate"]["bytes"] == pytest.approx(16 * 9 * 44.7e6, rel=0.01)
    assert not (cohort.parent / "out").exists()


def test_a_dry_run_says_what_is_unknown(cohort):
    text = sweep(cohort, *FEW, "--seeds", 1, "--dry-run", table="table2").stdout
    assert "2 of 2 runs left" in text
    assert "time: unknown (no run here has done an epoch yet)" in text
    assert "--image_size 64" in text


def test_every_table_of_the_paper_can_be_planned(cohort):
    numbers = {"table1": 8, "table2": 2, "table3": 2, "table4": 3, "table5": 2, "table6": 5}
    for table, rows in numbers.items():
        found = json.loads(sweep(cohort, "--dry-run", "--json", "--seeds", 1, table=table).stdout.splitlines()[-1])
        assert len(found["runs"]) == rows, table


def test_a_finding_that_the_cohort_lacks_is_said_before_anything_is_trained(cohort):
    with pytest.raises(CxrPairError, match="atelectasis"):
        sweep(cohort, "--dry-run", table="table7")


def test_a_missing_cohort_and_a_wrong_setting_are_errors(cohort):
    with pytest.raises(CxrPairError, match="cannot read the cohort"):
        sweep(cohort.parent / "none.parquet")
    with pytest.raises(CxrPairError, match="did you mean image_size"):
        sweep(cohort, "--set", "image_siz=64")


@pytest.mark.parametrize("words", [("--set", "image_size"), ("--set", "pairing={"), ("--seeds", "0")])
def test_wrong_usage_is_exit_2(cohort, words):
    assert sweep(cohort, *words).exit_code == 2


def test_a_full_disk_is_said_before_anything_is_trained(cohort, monkeypatch):
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e8))
    with pytest.raises(CxrPairError, match=r"need about 9\.7 GB, 100 MB are free"):
        sweep(cohort, *FEW)
