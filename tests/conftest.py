"""Fixtures that several rooms use."""

import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import settings

# Continuous integration tries the same examples every time; at a desk each run tries new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The bundle's folder."""
    return Path(__file__).resolve().parents[1] / "bundle"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real radiographs beside the project; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real radiographs (../shared/data) are not on this machine")
    return SHARED_DATA


@pytest.fixture(scope="session")
def fork():
    """Call a function in a process of its own that may be killed, forked in an instant: all imports are made."""
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["pytest", "monai.bundle", "torch.utils.tensorboard", "monai_cxrpair.contrast", "monai_cxrpair.evaluation"]
    )
    started = []

    def start(function, *args, **settings):
        process = context.Process(target=function, args=args, kwargs=settings)
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
