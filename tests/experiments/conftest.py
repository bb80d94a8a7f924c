"""A bundle of two config files and an experiment beside it: nothing here trains."""

import json
import os
import sys

import numpy as np
import pytest
import yaml

from monai_cxrpair.experiments.experiment import read_experiment

TRAIN = {"max_epochs": 20, "image_size": 224, "encoder": "resnet18", "pairing": {"study": "same"}, "batch_size": 32,
         "cohort_file": None, "output_dir": None, "seed": 0, "resume": "auto", "cache_dir": None, "num_workers": 0,
         "imagenet_weights": None, "split_file": None, "test_fraction": 0.3, "split_seed": 0,
         "dataset_dir": None}  # fmt: skip
EVALUATE = {"finding": "pleural_effusion", "label_fraction": 0.01, "label_studies": None, "draws": 5, "subset": None,
            "protocols": ["linear"], "cohort_file": None, "output_dir": None, "encoder_file": None, "seed": 0,
            "cache_dir": None, "imagenet_weights": None, "split_file": None, "test_fraction": 0.3, "split_seed": 0,
            "dataset_dir": None, "num_workers": 0}  # fmt: skip
TABLE = {
    "name": "table1",
    "source": "somebody",
    "base": ["paper.yaml"],
    "settings": {"image_size": 48},
    "evaluate": {"finding": "pleural_effusion", "label_fraction": 0.1, "draws": 5},
    "rows": [
        {"name": "random", "baseline": "random"},
        {"name": "MoCo v2", "overlays": ["pairing/none.yaml"], "paper": {"linear": [0.8, 0.01]}},
        {"name": "same study", "overlays": ["pairing/same.yaml"], "overrides": {"pairing#include_self": True},
         "paper": {"linear": [0.85, 0.02]}},
    ],
}  # fmt: skip

# Stands for `python -m monai.bundle`: folder, epochs and act are its arguments, and it leaves what a run does.
RUN = """
import json, pathlib, signal, sys, time
folder, epochs, act = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with (folder / "starts").open("a") as file:
    file.write("x")
if act == "fail":
    print("Traceback\\nerror: queue_size is too large\\nthe end")
    sys.exit(1)
if act == "nothing":
    sys.exit(0)
done = (folder / "history.jsonl").read_text().count("epoch") if (folder / "history.jsonl").exists() else 0
stop = []
signal.signal(signal.SIGINT, lambda *_: stop.append(130))
signal.signal(signal.SIGTERM, lambda *_: stop.append(143))
for epoch in range(done + 1, epochs + 1):
    with (folder / "history.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": epoch}) + "\\n")
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / f"epoch_{epoch:05d}_batch_000001.pt").write_bytes(b"0" * 900)
    if act == "slow":
        time.sleep(0.2)
    if stop:
        sys.exit(stop[0])
for name in ("encoder.pt", "encoder.json"):
    (folder / name).write_bytes(b"0" * 50)
"""


@pytest.fixture
def place(tmp_path):
    """`configs/` and `bundle/`, as in the project."""
    for path, content in {
        "bundle/configs/train.yaml": TRAIN,
        "bundle/configs/evaluate.yaml": EVALUATE,
        "configs/paper.yaml": {"batch_size": 16, "max_epochs": 4},
        "configs/pairing/none.yaml": {"pairing": None},
        "configs/pairing/same.yaml": {"pairing": {"study": "same"}},
        "configs/experiments/table1.yaml": TABLE,
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(yaml.safe_dump(content))
    return tmp_path


@pytest.fixture
def file(place):
    return place / "configs" / "experiments" / "table1.yaml"


@pytest.fixture
def experiment(file):
    return read_experiment(file)


@pytest.fixture
def change(file):
    """Change the experiment file: `change(rows=...)`."""

    def write(**content):
        file.write_text(yaml.safe_dump({**TABLE, **content}))
        return file

    return write


@pytest.fixture
def run_file(tmp_path):
    path = tmp_path / "run.py"
    path.write_text(RUN)
    return path


@pytest.fixture
def pretend(run_file):
    """The same job with a command that only pretends: `pretend(job, "fail")`."""
    from dataclasses import replace

    def make(job, act="train"):
        return replace(job, command=(sys.executable, str(run_file), str(job.folder), str(job.epochs), act))

    return make


@pytest.fixture
def evaluated():
    """Write a `results.json`: AUCs by encoder, (D,) each, and what the test patients alone would change."""

    def write(folder, aucs, *, se_test=0.01, protocol="linear", **told):
        folder.mkdir(parents=True, exist_ok=True)
        names = list(aucs)
        encoders = {
            name: {protocol: {"auc_mean": float(np.mean(draws)), "auc_draws": list(draws),
                              "variance": {"test": 0.02**2}}, "card": {}, "gives_away": {"auc": 0.9}}
            for name, draws in aucs.items()
        }  # fmt: skip
        pairs = [{"a": a, "b": b, "protocol": protocol, "difference": 0.0, "ci95": [0, 0], "p": 1, "se_test": se_test}
                 for i, b in enumerate(names) for a in names[i + 1 :]]  # fmt: skip
        content = {"encoders": encoders, "comparisons": pairs, "not_run": {"ImageNet weights": "no file was given"},
                   "protocol": {"split_hash": "abc", "draws": 5, **told}}  # fmt: skip
        (folder / "results.json").write_text(json.dumps(content))

    return write


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert os.getcwd() == str(tmp_path)
