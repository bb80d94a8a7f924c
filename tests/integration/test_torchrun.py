"""Training on two processes through the bundle, as its users start it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.imaging import LoadRadiographd, PairCacheDataset, ResizeShorterSided
from monai_cxrpair.phantom import write_phantom

# Nothing random in the views and no batch statistics: then the sum over two processes is that of one.
SAME_ON_ONE_AND_TWO = """
encoder: {_target_: monai.networks.nets.Classifier, in_shape: [1, 48, 48], classes: 16, channels: [4, 8],
          strides: [2, 2], norm: null}
augmentation: {rotate_degrees: 0, flip_probability: 0, crop_area: [1.0, 1.0]}
train#preprocessing:
  _target_: Compose
  transforms:
    - {_target_: monai_cxrpair.imaging.LoadRadiographd, keys: image}
    - {_target_: Resized, keys: image, spatial_size: [48, 48]}
pairing: null
precision: fp32
queue_size: 16
image_size: 48
batch_size: 8
accumulation_steps: 2
max_epochs: 3
knn_finding: null
"""
TWO = """
+imports: [$import json, $import pathlib]
training:
  - $@train#trainer.run()
  - "$pathlib.Path(@output_dir, 'rank%d.json' % @train#sampler.rank).write_text(
    json.dumps(@train#trainer.state.metrics))"
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    place = tmp_path_factory.mktemp("ranks")
    write_phantom(place / "ph", patients=12, file_format="png", seed=3)
    index_source(place / "ph" / "truth.csv", out=place / "cohort.parquet", root=place / "ph", file_format="table")
    (place / "same.yaml").write_text(SAME_ON_ONE_AND_TWO)
    (place / "two.yaml").write_text(TWO)
    return place


@pytest.fixture(autouse=True)
def _keep_the_exception_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def in_this_process(workplace, bundle, config="train", run_id="training", **override):
    files = [str(bundle / "configs" / f"{config}.yaml")] + ([str(workplace / "same.yaml")] if config == "train" else [])
    workflow = ConfigWorkflow(
        config_file=files, run_id=run_id, logging_file=False, meta_file=str(bundle / "configs" / "metadata.json"),
        bundle_root=str(bundle), workflow_type="train" if config == "train" else "infer",
        cohort_file=str(workplace / "cohort.parquet"), output_dir=str(workplace / "one"), **override,
    )  # fmt: skip
    workflow.initialize()
    return workflow


def test_two_processes_train_as_one_does_and_only_the_first_writes(workplace, bundle):
    files = [
        "configs/train.yaml",
        "configs/multi_gpu_train.yaml",
        str(workplace / "same.yaml"),
        str(workplace / "two.yaml"),
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m",
         "monai.bundle", "run", "training", "--trust_config", "true", "--config_file", str(files), "--cohort_file",
         str(workplace / "cohort.parquet"), "--output_dir", str(workplace / "two")],
        cwd=bundle, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("epoch 2 of 3: loss") == 1
    written = sorted(p.name for p in (workplace / "two").iterdir() if p.is_file())
    assert written.count("encoder.pt") == 1
    assert sum("tfevents" in name for name in written) == 1
    ranks = [json.loads((workplace / "two" / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    for name in ("loss", "accuracy", "positive_similarity", "self_pair_rate", "data_wait"):
        assert ranks[0][name] == ranks[1][name], name

    one = in_this_process(workplace, bundle)
    one.run()
    alone = one.parser.get_parsed_content("train#trainer").state.metrics
    assert ranks[0]["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    assert alone["loss"] > 0.5
    mine, theirs = (torch.load(workplace / name / "encoder.pt", weights_only=True) for name in ("one", "two"))
    assert list(mine) == list(theirs)
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-3, atol=1e-4)
    card = json.loads((workplace / "two" / "encoder.json").read_text())
    assert card["training"]["batch_size"] == 8
    assert card["training"]["accumulation_steps"] == 2


@pytest.mark.parametrize(("config", "run_id"), [("train", "training"), ("evaluate", "evaluating")])
def test_several_processes_without_the_overlay_are_refused(workplace, bundle, monkeypatch, config, run_id):
    """Each would train a network of its own, and they would write to the same files."""
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises((CxrPairError, RuntimeError)) as caught:
        in_this_process(workplace, bundle, config, run_id)
    cause = caught.value
    while not isinstance(cause, CxrPairError):
        cause = cause.__cause__
    assert "configs/multi_gpu_train.yaml" in str(cause)


def test_the_views_of_two_ranks_are_drawn_apart(workplace):
    """Both make views of the same radiograph in the same step: the random numbers differ, for the batches differ."""
    from monai.transforms import Compose

    data = PairCacheDataset(
        Cohort.read(workplace / "cohort.parquet"), pairing=None, augmentation={"rotate_degrees": 10.0}, image_size=48,
        transform=Compose([LoadRadiographd(keys="image"), ResizeShorterSided(keys="image", size=48)]),
    )  # fmt: skip
    one, two = data.__getitems__([5, 0, 2]), data.__getitems__([5, 1, 3])
    assert one["row"][0] == two["row"][0] == 5
    assert (one["query"][0] != two["query"][0]).any()
    assert (one["key"][0] != two["key"][0]).any()


@pytest.mark.parametrize("overlay", ["sgd_cosine", "adamw_cosine"])
def test_an_optimisation_overlay_scales_the_learning_rate_with_the_pairs_of_a_step_and_warms_up(
    workplace, bundle, overlay
):
    path = Path(__file__).resolve().parents[2] / "configs" / "optimisation" / f"{overlay}.yaml"
    with_overlay = in_this_process(workplace, bundle)
    with_overlay.parser.read_config([str(bundle / "configs" / "train.yaml"), str(workplace / "same.yaml"), str(path)])
    with_overlay.parser.update({"cohort_file": str(workplace / "cohort.parquet"), "max_epochs": 6})
    optimizer = with_overlay.parser.get_parsed_content("optimizer")
    scheduler = with_overlay.parser.get_parsed_content("lr_scheduler")
    full = with_overlay.parser.get("learning_rate") * 8 * 2 / 256
    found = []
    for _ in range(4):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert found[:3] == pytest.approx([full / 3, full * 2 / 3, full])
    assert found[3] < full
