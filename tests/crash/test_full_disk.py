"""A disk that is full, or that nobody may write to: one line that says so, and no half of a file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.phantom import write_phantom

REPOSITORY = Path(__file__).resolve().parents[2]
CXRPAIR = [sys.executable, "-m", "monai_cxrpair.cli"]
BUNDLE = [sys.executable, "-m", "monai.bundle", "run"]
SMALL = ["--image_size", "48", "--max_epochs", "1", "--batch_size", "16", "--num_workers", "0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A phantom, its cohort, an encoder and a classifier."""
    place = tmp_path_factory.mktemp("full")
    write_phantom(place / "pacs", patients=30, file_format="dicom", seed=3)
    index_source(place / "pacs", out=place / "cohort.parquet", labels=place / "pacs" / "truth.csv")
    cohort = ["--cohort_file", place / "cohort.parquet"]
    training = ["training", "--config_file", "configs/train.yaml", *cohort, *SMALL, "--output_dir", place / "run"]
    evaluating = ["evaluating", "--config_file", "configs/evaluate.yaml", *cohort, "--label_fraction", "0.5"]
    evaluating += ["--draws", "2", "--encoder_file", place / "run" / "encoder.pt", "--output_dir", place / "report"]
    for command in (training, evaluating):
        done = _run([*BUNDLE, *command])
        assert done.returncode == 0, done.stderr[-2000:]
    return place


@pytest.fixture(params=["full", "read-only"])
def disk(request, tmp_path):
    """A disk of its own, in memory, with `said`, what the system says of it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a disk")
    (folder / "filler").write_bytes(bytes(4096))
    if request.param == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    yield folder, "No space left on device" if request.param == "full" else "Read-only file system"
    subprocess.run(["umount", "-l", folder], check=True)


def _run(command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        list(map(str, command)), cwd=REPOSITORY / "bundle", env=environment, capture_output=True, text=True, timeout=300
    )


def _commands(place, folder):
    cohort = ["--cohort_file", place / "cohort.parquet"]
    train = [*BUNDLE, "training", "--config_file", "configs/train.yaml", *cohort, *SMALL]
    evaluate = [*BUNDLE, "evaluating", "--config_file", "configs/evaluate.yaml", *cohort, "--label_fraction", "0.5"]
    evaluate += ["--draws", "2", "--encoder_file", place / "run" / "encoder.pt"]
    infer = [*BUNDLE, "inference", "--config_file", "configs/inference.yaml", "--dataset_dir", place / "pacs"]
    infer += ["--model_file", place / "report" / "model.pt"]
    return {
        "phantom": [*CXRPAIR, "phantom", folder / "phantom", "--patients", "3"],
        "index": [*CXRPAIR, "index", place / "pacs", "--out", folder / "c.parquet"],
        "describe": [*CXRPAIR, "describe", place / "cohort.parquet", "--html", folder / "page.html"],
        "split": [*CXRPAIR, "split", place / "cohort.parquet", "--test", "0.2", "--out", folder / "split.json"],
        "pairs": [*CXRPAIR, "pairs", place / "cohort.parquet", "--html", folder / "pairs.html"],
        "training": [*train, "--output_dir", folder / "run"],
        "a cache": [*train, "--output_dir", place / "again", "--cache_dir", folder / "cache"],
        "evaluating": [*evaluate, "--output_dir", folder / "report"],
        "inference": [*infer, "--output_dir", folder / "out"],
    }


NAMES = list(_commands(Path(), Path()))


@pytest.mark.parametrize("name", NAMES)
def test_one_line_says_what_is_wrong_with_the_disk(place, disk, name):
    folder, reason = disk
    done = _run(_commands(place, folder)[name])
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert last.startswith("error: ")
    # The cache asks for the room before it begins.
    assert reason in last or "are free; make room" in last
    assert not [path for path in folder.rglob("*") if path.suffix == ".tmp"]
