"""The bundle's own training on a small phantom with a small encoder, in a process that may be killed."""

import logging
import os
import time
from pathlib import Path

import torch
from monai.bundle import ConfigWorkflow

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
EVERY_BATCH = 1e-9  # checkpoint_minutes
EPOCHS = 24


class SmallEncoder(torch.nn.Sequential):
    """Convolutions and batch norms: all that a checkpoint has to bring back, in milliseconds."""

    def __init__(self, width=256):
        super().__init__(
            torch.nn.Conv2d(1, 8, 5, stride=4), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
            torch.nn.Conv2d(8, width, 3, stride=2), torch.nn.BatchNorm2d(width), torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        )  # fmt: skip


class SlowEncoder(SmallEncoder):
    """Slow enough for a signal to come in time, whatever else the machine does."""

    def forward(self, views):
        time.sleep(0.01)
        return super().forward(views)


def settings_of(place, name):
    """`place` has the cohort file and gets the pixel cache and the run."""
    return {
        "cohort_file": str(place / "cohort.parquet"), "output_dir": str(place / name), "image_size": 48,
        "cache_dir": str(place / "pixels"), "knn_finding": "pleural_effusion", "validation_fraction": 0.3,
        "precision": "fp32", "batch_size": 8, "max_epochs": EPOCHS, "checkpoint_minutes": EVERY_BATCH,
    }  # fmt: skip


def workflow(place, name, **override):
    """The bundle's `training`, ready to run."""
    settings = {**settings_of(place, name), "encoder": {"_target_": "real_run.SmallEncoder"}, **override}
    made = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "train.yaml"), run_id="training", logging_file=False,
        bundle_root=str(BUNDLE), workflow_type="train", **settings,
    )  # fmt: skip
    made.initialize()
    return made


def train(place, name, *, may_finish, **override):
    """Train in a process group of its own; one that may not finish waits before its last step, to be killed."""
    os.setsid()
    (place / name).mkdir(exist_ok=True)
    errors = os.open(place / name / "stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    logging.basicConfig(level=logging.WARNING, force=True)
    made = workflow(place, name, **override)
    if not may_finish:
        trainer = made.parser.get_parsed_content("train#trainer")
        trainer.add_event_handler("ITERATION_STARTED", _wait_before_the_last_step)
    made.run()


def _wait_before_the_last_step(engine):
    if engine.state.iteration == engine.state.max_epochs * engine.state.epoch_length:
        time.sleep(600)
