"""kill -9 at random moments: the next run finishes with the result of one that nobody disturbed.

`make test` kills the index twice (training, pull and cache building are killed by other tests, too); `make test-crash`
kills everything here 20 times, and also training (`tests/integration/test_never_lose.py`) and pull
(`tests/integration/test_pacs.py`).
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.phantom import write_phantom

REPOSITORY = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("CXRPAIR_KILLS", "2"))
LONG = pytest.mark.skipif(KILLS < 20, reason="each run takes minutes: `make test-crash` runs it")
CXRPAIR = [sys.executable, "-m", "monai_cxrpair.cli"]
BUNDLE = [sys.executable, "-m", "monai.bundle", "run"]
BUILD = """
import sys
from pathlib import Path
from monai_cxrpair.cohort import Cohort
from monai_cxrpair.imaging.cache import RadiographCacheDataset
from monai_cxrpair.label.embedder import preprocessing
cohort = Cohort.read(sys.argv[1])
RadiographCacheDataset(cohort, transform=preprocessing(64), image_size=64, cache_dir=Path(sys.argv[2]), num_workers=0)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A phantom, and its cohort under a given key, so that ids and split are the same in every run."""
    place = tmp_path_factory.mktemp("kills")
    write_phantom(place / "pacs", patients=60, file_format="dicom", seed=3)
    _key(place / "cohort.key")
    index_source(place / "pacs", out=place / "cohort.parquet", labels=place / "pacs" / "truth.csv")
    return place


def _key(path):
    path.parent.mkdir(exist_ok=True)
    path.write_text("5a" * 32)
    path.chmod(0o600)


def start(command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        list(map(str, command)), cwd=REPOSITORY / "bundle", env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def descendants(pid):
    """All processes below one; a sweep gives each run a session of its own, so its group is not enough."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            said = stat.read_text().rpartition(")")[2].split()
            parents.setdefault(int(said[1]), []).append(int(stat.parent.name))
    found = list(parents.get(pid, []))
    for child in found:
        found.extend(parents.get(child, []))
    return found


def finish(command):
    """Seconds that it took."""
    began = time.monotonic()
    process = start(command)
    said = process.communicate(timeout=900)[1].decode(errors="replace")
    assert process.returncode == 0, said[-2000:]
    return time.monotonic() - began


def survives(command, folder, *, read, idle=0.5, kills=KILLS, prepare=lambda folder: None):
    """Compare what `read` finds in a folder whose runs were killed with what it finds in another one.

    Args:
        command: of a folder.
        idle: the share of the run in which nothing is written yet; moments are drawn from the rest.
    """
    for name in ("whole", "killed"):
        (folder / name).mkdir()
        prepare(folder / name)
    seconds = finish(command(folder / "whole"))
    rng, killed, done = random.Random(0), 0, 0
    while killed < kills:
        process = start(command(folder / "killed"))
        try:
            process.wait(seconds * rng.uniform(idle, 1))
            done += 1  # it was quicker, or what was there before made it so
            assert process.returncode == 0, process.stderr.read().decode()[-2000:]
            assert done < 4 * kills + 20, f"only {killed} kills came in time"
            seconds = max(0.97 * seconds, 0.1)
        except subprocess.TimeoutExpired:
            for pid in [process.pid, *descendants(process.pid)]:  # as if the power had gone
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
            killed += 1
        process.stderr.close()
    finish(command(folder / "killed"))
    assert read(folder / "killed") == read(folder / "whole")
    assert [path.name for path in (folder / "killed").rglob("*.tmp")] == []


def test_index(place, tmp_path):
    def command(folder):
        labels = ["--labels", place / "pacs" / "truth.csv"]
        return [*CXRPAIR, "index", place / "pacs", "--out", folder / "c.parquet", "--check-pixels", *labels]

    def read(folder):
        tables = pd.read_parquet(folder / "c.parquet").to_csv(), (folder / "c.rejects.csv").read_text()
        return *tables, sorted((folder / "c.mapping.csv").read_text().splitlines())

    survives(command, tmp_path, read=read, prepare=lambda folder: _key(folder / "c.key"))


@LONG
@pytest.mark.slow
def test_cache_building(place, tmp_path):
    def command(folder):
        return [sys.executable, "-c", BUILD, place / "cohort.parquet", folder / "pixels"]

    def read(folder):
        from monai_cxrpair.cohort import Cohort
        from monai_cxrpair.imaging.cache import RadiographCacheDataset
        from monai_cxrpair.label.embedder import preprocessing

        cohort = Cohort.read(place / "cohort.parquet")
        shown = RadiographCacheDataset(
            cohort, transform=preprocessing(64), image_size=64, cache_dir=folder / "pixels", num_workers=0
        )
        return np.asarray(shown.__getitems__(range(len(shown)))["image"]).tobytes()

    survives(command, tmp_path, read=read, idle=0.7)


@pytest.fixture(scope="module")
def encoder(place):
    """Of one epoch."""
    small = ["--image_size", "48", "--max_epochs", "1", "--batch_size", "16", "--num_workers", "0"]
    options = ["--config_file", "configs/train.yaml", "--cohort_file", place / "cohort.parquet", *small]
    finish([*BUNDLE, "training", *options, "--output_dir", place / "run"])
    return place / "run" / "encoder.pt"


@LONG
@pytest.mark.slow
def test_evaluating(place, encoder, tmp_path):
    def command(folder):
        options = ["--config_file", "configs/evaluate.yaml", "--cohort_file", place / "cohort.parquet"]
        options += ["--encoder_file", encoder, "--label_fraction", "0.5", "--draws", "2"]
        return [*BUNDLE, "evaluating", *options, "--cache_dir", folder / "cache", "--output_dir", folder / "report"]

    def read(folder):
        report = folder / "report"
        assert (report / "report.html").read_text().rstrip().endswith("</html>")
        assert (report / "model.pt").is_file()
        return json.loads((report / "results.json").read_text()), (report / "predictions.csv").read_text()

    survives(command, tmp_path, read=read, idle=0.4)


@LONG
@pytest.mark.slow
def test_inference(place, encoder, tmp_path):
    cohort = ["--cohort_file", place / "cohort.parquet", "--label_fraction", "0.5", "--draws", "2"]
    config = ["evaluating", "--config_file", "configs/evaluate.yaml", "--encoder_file", encoder]
    finish([*BUNDLE, *config, *cohort, "--output_dir", place / "report"])

    def command(folder):
        options = ["--config_file", "configs/inference.yaml", "--dataset_dir", place / "pacs"]
        options += ["--model_file", place / "report" / "model.pt", "--overlay_dir", folder / "maps"]
        return [*BUNDLE, "inference", *options, "--output_dir", folder / "out"]

    def read(folder):
        maps = {path.name: path.read_bytes() for path in (folder / "maps").rglob("*.png")}
        assert maps
        table = pd.read_csv(folder / "out" / "predictions.csv")
        return table.drop(columns="study_id").to_csv(), maps  # each folder of answers has a key of its own

    survives(command, tmp_path, read=read, idle=0.5)


@LONG
@pytest.mark.slow
def test_sweep(place, tmp_path):
    table = {
        "name": "tiny",
        "source": "a paper",
        "settings": {"image_size": 48, "max_epochs": 2, "batch_size": 16},
        "evaluate": {"finding": "pleural_effusion", "label_fraction": 0.5, "draws": 2},
        "rows": [
            {"name": "random", "baseline": "random"},
            {"name": "same study", "overlays": [str(REPOSITORY / "configs" / "pairing" / "same_study.yaml")]},
        ],
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(table))

    def command(folder):
        options = ["--cohort", place / "cohort.parquet", "--out", folder, "--seeds", "1", "--jobs", "1"]
        return [*CXRPAIR, "sweep", tmp_path / "tiny.yaml", *options, "--bundle", REPOSITORY / "bundle"]

    def read(folder):
        (block,) = json.loads((folder / "tiny" / "table.json").read_text())["blocks"]
        assert all(row["auc_draws"] for row in block["rows"])
        return [(row["row"], row["auc_draws"]) for row in block["rows"]]

    survives(command, tmp_path, read=read, idle=0.1)
