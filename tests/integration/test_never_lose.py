"""A run loses nothing, whatever happens to it: through the bundle, with the real dataset, loader and handlers."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import real_run
import torch

from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.phantom import write_phantom

KILLS = 20
TIMES = ("pairs_per_second", "data_wait")
MOMENTS = ("a while after a step", "in a checkpoint", "in encoder.pt, encoder.json or history.jsonl")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A phantom and its cohort file."""
    place = tmp_path_factory.mktemp("never_lose")
    write_phantom(place / "pacs", patients=40, file_format="dicom", seed=3)
    key = place / "cohort.key"  # a given key, so that pseudonyms and with them the split are the same in every run
    key.write_text("5a" * 32)
    key.chmod(0o600)
    index_source(place / "pacs", out=place / "cohort.parquet", labels=place / "pacs" / "truth.csv")
    return place


def newest(folder):
    """Epoch and batch of the newest checkpoint."""
    found = sorted(path.name for path in (folder / "checkpoints").glob("epoch_*.pt"))
    return tuple(map(int, re.findall(r"\d+", found[-1]))) if found else (0, 0)


def half_written(folder):
    return sorted(path.name for path in folder.rglob(".*.tmp"))


def wait_for(condition, process, folder, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.is_alive(), (folder / "stderr.txt").read_text()
        assert time.monotonic() < end
        time.sleep(0.0005)


def kill(process, folder, *, moment, steps, delay, last):
    """Once it has come some steps further, and then at a moment: what it was writing when it died.

    Where the run waits before its `last` step nothing more will come: it is killed there.
    """
    began, seen = newest(folder), set()

    def further():
        seen.add(newest(folder))
        return len(seen - {began}) >= steps or newest(folder) >= last

    def in_a_checkpoint():
        return any((folder / "checkpoints").glob(".*.tmp")) or newest(folder) >= last

    def in_other_files():
        missed = newest(folder)[0] >= began[0] + 2 or newest(folder) >= last  # they were too quick to be seen
        return missed or any(not name.startswith(".epoch") for name in half_written(folder))

    wait_for(further, process, folder)
    if moment == MOMENTS[0]:
        time.sleep(delay)
    else:
        wait_for(in_a_checkpoint if moment == MOMENTS[1] else in_other_files, process, folder)
    os.killpg(process.pid, signal.SIGKILL)  # with its worker, as if the power had gone
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    return half_written(folder)


def everything(folder):
    """The final encoder, the final checkpoint without its clock, and all figures that are not times."""
    checkpoint = torch.load(sorted((folder / "checkpoints").glob("*.pt"))[-1], weights_only=True)
    del checkpoint["ranks"][0]["sums"]["seconds"]
    card = json.loads((folder / "encoder.json").read_text())
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    for figures in (*lines, card["training"]["last_epoch"]):
        for name in TIMES:
            del figures[name]
    return {
        "encoder": torch.load(folder / "encoder.pt", weights_only=True), "card": card, "history": lines,
        "checkpoint": checkpoint,
    }  # fmt: skip


def differences(one, other, place=""):
    """The places where two nested tables are not equal bit for bit."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for name in one for found in differences(one[name], other[name], f"{place}/{name}")]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return [d for n, pair in enumerate(zip(one, other, strict=True)) for d in differences(*pair, f"{place}/{n}")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return [] if same and one.numpy().tobytes() == other.numpy().tobytes() else [place]
    return [] if one == other else [place]


@pytest.fixture(scope="module")
def expected(fork, place):
    """What a run that nobody disturbs leaves behind."""
    whole = fork(real_run.train, place, "whole", may_finish=True)
    whole.join(120)
    assert whole.exitcode == 0, (place / "whole" / "stderr.txt").read_text()
    return everything(place / "whole")


@pytest.mark.slow
def test_a_run_killed_at_20_random_moments_ends_bit_equal_in_weights_checkpoint_and_history(fork, place, expected):
    assert len(expected["history"]) == real_run.EPOCHS
    assert expected["card"]["training"]["chosen_by"] == "knn_auc"
    epoch, batch = newest(place / "whole")
    rng, folder, places, interrupted = random.Random(0), place / "killed", set(), []
    for number in range(KILLS):
        # A run that is to be killed waits before its last step: on a fast machine too all kills come before the end.
        process = fork(real_run.train, place, "killed", may_finish=False, num_workers=int(number % 4 == 3))
        moment = MOMENTS[number % 3]
        steps, delay = rng.randint(1, 2), rng.uniform(0, 0.05)
        interrupted += kill(process, folder, moment=moment, steps=steps, delay=delay, last=(epoch, batch - 1))
        places.add(newest(folder))
    last = fork(real_run.train, place, "killed", may_finish=True)
    last.join(120)
    said = (folder / "stderr.txt").read_text()
    assert last.exitcode == 0, said
    seen = f"{KILLS} kills at {sorted(places)}, while writing {interrupted}"
    assert len(places) >= KILLS // 2, seen
    assert any(name.startswith(".epoch") for name in interrupted), seen
    assert differences(everything(folder), expected) == [], seen
    assert half_written(folder) == []
    assert not list(folder.rglob("*.damaged")), said


@pytest.mark.slow
def test_sigterm_on_the_command_line_is_one_line_and_143_and_the_same_command_goes_on(place, bundle, expected):
    settings = {**real_run.settings_of(place, "stopped"), "encoder": {"_target_": "real_run.SlowEncoder"}}
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "training"]
    command += ["--config_file", "configs/train.yaml"]
    command += [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(real_run.__file__).parent)}

    def start():
        return subprocess.Popen(
            command, cwd=bundle, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    with start() as stopped:
        end = time.monotonic() + 120
        while newest(place / "stopped") == (0, 0) and stopped.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        stopped.send_signal(signal.SIGTERM)
        said = stopped.communicate(timeout=60)[0]
    assert stopped.returncode == 143, said
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if "SIGTERM" in line]
    assert len(lines) == 2, said
    assert "SIGTERM: finishing the step" in lines[0]
    saved = sorted((place / "stopped" / "checkpoints").glob("*.pt"))[-1]
    assert f"SIGTERM: saved {saved}; the same command goes on from there" in lines[1]
    assert newest(place / "stopped") < newest(place / "whole")
    with start() as rest:
        said = rest.communicate(timeout=120)[0]
    assert rest.returncode == 0, said
    assert f"going on from {saved}" in said
    found = everything(place / "stopped")
    assert differences(found["encoder"], expected["encoder"]) == []
    assert found["history"] == expected["history"]
