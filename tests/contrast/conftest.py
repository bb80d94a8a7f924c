"""Processes with everything imported, forked in an instant: for runs that are killed."""

import multiprocessing
import os

import pytest
import tiny_run


@pytest.fixture(scope="session")
def forked():
    """Start `tiny_run.train(folder, **settings)` in a process of its own; its stderr goes to `folder/stderr.txt`."""
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["monai_cxrpair.contrast", "monai_cxrpair.imaging", "pytest"])
    started = []

    def start(folder, **settings):
        process = context.Process(target=tiny_run.train, args=(folder,), kwargs=settings)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()
    os.environ.pop("OMP_NUM_THREADS")
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = threads


@pytest.fixture
def make():
    """`tiny_run.make`: a training run of 4 epochs of 3 batches."""
    return tiny_run.make
