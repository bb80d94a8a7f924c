"""No identifier gets out: an export in which every attribute that could name somebody holds a token of its own.

PS3.15 Annex E lists some 400 identifying attributes. Here every text, name, identifier and date of DICOM's whole data
dictionary is planted, in the object itself and in an item of every sequence: a superset of the list, whatever edition.
The tokens may stand only where the design says: in key, mapping and state, which are the owner's.
"""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pydicom
import pytest
import yaml
from canary import TOKENS, contents, write_export
from no_network import guarded

OWNERS = {"c.key", "c.mapping.csv", "c.state"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the index, describe, training, evaluating and inference write about such an export."""
    place = tmp_path_factory.mktemp("canary")
    labels = [(uid, number % 2) for number, uid in enumerate(write_export(place / "pacs", patients=20, seed=5))]
    pd.DataFrame(labels, columns=["SOPInstanceUID", "pleural_effusion"]).to_csv(place / "labels.csv", index=False)
    out = place / "out"
    out.mkdir()
    for name, command in _commands(place).items():
        environment = {**os.environ, **guarded(place / "guard"), "OMP_NUM_THREADS": "1"}
        cwd = Path(__file__).resolve().parents[2] / "bundle"
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr[-2000:]}"
        (out / f"{name}.stdout").write_text(done.stdout)
        (out / f"{name}.stderr").write_text(done.stderr)
    return place


def _commands(place: Path) -> dict[str, list[str]]:
    out = place / "out"
    cxrpair = [sys.executable, "-m", "monai_cxrpair.cli"]
    bundle = [sys.executable, "-m", "monai.bundle", "run"]
    cohort = ["--cohort_file", str(out / "c.parquet")]
    small = ["--image_size", "32", "--num_workers", "0"]
    index = [
        *cxrpair,
        "index",
        str(place / "pacs"),
        "--out",
        str(out / "c.parquet"),
        "--labels",
        str(place / "labels.csv"),
    ]
    return {
        "index": [*index, "--check-pixels", "--json"],
        "index again": [*index, "--check-pixels"],
        "describe": [*cxrpair, "describe", str(out / "c.parquet")],
        "describe json": [*cxrpair, "describe", str(out / "c.parquet"), "--json", "--html", str(out / "describe.html")],
        "pairs": [*cxrpair, "pairs", str(out / "c.parquet"), "--json", "--html", str(out / "pairs.html")],
        "split": [*cxrpair, "split", str(out / "c.parquet"), "--out", str(out / "split.json"), "--test", "0.3"],
        "train": [*bundle, "training", "--config_file", "configs/train.yaml", *cohort, *small, "--max_epochs", "1",
                  "--batch_size", "8", "--output_dir", str(out / "run")],
        "evaluate": [*bundle, "evaluating", "--config_file", "configs/evaluate.yaml", *cohort, "--encoder_file",
                     str(out / "run" / "encoder.pt"), "--output_dir", str(out / "report"), "--label_fraction", "0.8",
                     "--draws", "1"],
        "inference": [*bundle, "inference", "--config_file", "configs/inference.yaml", *cohort, "--model_file",
                      str(out / "report" / "model.pt"), "--output_dir", str(out / "predictions")],
        "a mistake": [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", *index, "--finding",
                      "x=y"],
    }  # fmt: skip


def test_the_tokens_are_found_where_they_may_stand(place: Path) -> None:
    """The test can fail: what the owner keeps is full of them."""
    assert any(TOKENS.search(text) for text in contents(place / "out" / "c.mapping.csv"))
    assert any(TOKENS.search(text) for text in contents(place / "out" / "c.state"))
    planted = [len(list(pydicom.dcmread(path).iterall())) > 4000 for path in sorted((place / "pacs").rglob("IM*"))]
    assert sum(planted) > 4
    for name in OWNERS:
        assert (place / "out" / name).stat().st_mode & 0o777 == 0o600


def test_no_token_stands_in_anything_that_was_written(place: Path) -> None:
    files = [path for path in (place / "out").rglob("*") if path.is_file() and path.name not in OWNERS]
    assert len(files) > 25
    for path in files:
        assert not TOKENS.search(path.relative_to(place).as_posix())
        for text in contents(path):
            found = TOKENS.search(text)
            assert not found, f"{path.relative_to(place)}: {text[max(found.start() - 60, 0) : found.end() + 40]!r}"


def test_nobody_asked_the_network(place: Path) -> None:
    guard = place / "guard"
    assert (guard / "asked").read_text() == ""
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **guarded(guard)}, check=False)
    assert done.returncode == 1
    assert "192.0.2.1" in (guard / "asked").read_text()  # it can fail


def test_no_date_of_the_export_is_left_in_the_cohort(place: Path) -> None:
    exported = {str(pydicom.dcmread(path, stop_before_pixels=True).StudyDate) for path in (place / "pacs").rglob("IM*")}
    cohort = pd.read_parquet(place / "out" / "c.parquet")
    mapping = pd.read_csv(place / "out" / "c.mapping.csv", dtype={"shift_days": int})
    assert (mapping["shift_days"] != 0).all()
    shifted = set(cohort["study_datetime"].dt.strftime("%Y%m%d"))
    by_chance = len(shifted & exported) / len(shifted)
    assert by_chance < 0.1, "a shifted date may be another study's date by chance only"


def test_the_config_that_ran_is_not_saved_with_identifiers(place: Path) -> None:
    for path in (place / "out").rglob("*.yaml"):
        assert not TOKENS.search(yaml.safe_dump(yaml.safe_load(path.read_text())))
