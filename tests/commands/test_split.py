"""`cxrpair split` as its users call it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from monai_cxrpair.cli import app
from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.split.near_duplicates import DIGITS
from monai_cxrpair.cohort.split.saved import read_split


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """50 patients with two radiographs each; of a and b, and of c and d, one is the same."""
    names = ["a", "b", "c", "d", *[f"p{number}" for number in range(46)]]
    table = pd.DataFrame({"patient_id": np.repeat(names, 2)}, dtype="str")
    table["image_id"] = [f"i{row}" for row in range(100)]
    table["path"], table["study_id"] = table["image_id"], "s" + table["image_id"]
    table["effusion"] = np.random.default_rng(0).choice([1.0, 0.0], 100, p=[0.4, 0.6])
    hashes = [np.random.default_rng(row).bytes(DIGITS // 2).hex() for row in range(100)]
    hashes[2], hashes[6] = hashes[0], hashes[4]
    table["perceptual_hash"] = pd.Series(hashes, dtype="str")
    Cohort(table, root=tmp_path, findings=["effusion"], source="table").write(tmp_path / "cohort.parquet")
    return tmp_path / "cohort.parquet"


def _split(file: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["split", str(file), "--out", str(file.with_name("split.json")), *options])


def test_sides_of_the_size_that_was_asked_for_with_draws(file: Path) -> None:
    options = ["--test", "0.2", "--validation", "5", "--label-fraction", "0.1", "--label-fraction", "0.5"]
    result = _split(file, *options, "--draws", "3", "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout.splitlines()[-1])
    assert [shown["counts"][side]["patients"] for side in ("train", "validation", "test")] == [35, 5, 10]
    assert [(d["fraction"], len(d["radiographs"])) for d in shown["label_draws"]] == [(0.1, 3), (0.5, 3)]
    assert shown["near_duplicates"]["linked_groups"] == 2
    split = read_split(file.with_name("split.json"), Cohort.read(file))
    assert split.file_hash == shown["hash"]
    for one, other in (("a", "b"), ("c", "d")):
        assert any({one, other} <= set(side) for side in (split.train_patients, split.validation_patients,
                                                          split.test_patients))  # fmt: skip
    again = json.loads(_split(file, *options, "--draws", "3", "--json").stdout.splitlines()[-1])
    assert again["hash"] == shown["hash"]


def test_the_text_shows_shares_and_near_duplicates(file: Path) -> None:
    result = _split(file, "--test", "0.3")
    assert result.exit_code == 0, result.output
    assert "effusion" in result.stdout
    assert "2 pairs; 4 patients linked into 2 groups" in result.stdout


def test_tables_that_tear_linked_patients_apart_are_an_error_or_lose_them_from_train(file: Path) -> None:
    table = file.with_name("test.csv")
    pd.DataFrame({"patient_id": ["a", "p1"]}).to_csv(table, index=False)
    train = file.with_name("train.csv")
    pd.DataFrame({"patient_id": ["b", "c", "d", "p2"]}).to_csv(train, index=False)
    result = _split(file, "--test-file", str(table), "--train-file", str(train))
    assert "1 groups of patients who share a picture" in str(result.exception)
    assert not file.with_name("split.json").exists()
    result = _split(file, "--test-file", str(table), "--train-file", str(train), "--leave-out-overlap")
    assert result.exit_code == 0, result.output
    split = read_split(file.with_name("split.json"), Cohort.read(file))
    assert set(split.train_patients) == {"c", "d", "p2"}
    result = _split(file, "--test-file", str(table), "--rest", "train")
    split = read_split(file.with_name("split.json"), Cohort.read(file))
    assert set(split.test_patients) == {"a", "p1"}
    assert len(split.train_patients) == 47  # all others but b


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--test", "0.2", "--published"],
        ["--published", "--test-file", "x.csv"],
        ["--test", "0.2", "--rest", "somewhere"],
        ["--test", "0.2", "--draw-file", "x.csv"],
        ["--stratify", "effusion", "--published"],
    ],
)
def test_wrong_usage_is_exit_2(file: Path, options: list[str]) -> None:
    assert _split(file, *options).exit_code == 2
