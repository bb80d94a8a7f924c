"""Training runs of milliseconds."""

import pytest
import tiny_run


@pytest.fixture
def forked(fork):
    """Start `tiny_run.train(folder, **settings)` in a process of its own; its stderr goes to `folder/stderr.txt`."""
    return lambda folder, **settings: fork(tiny_run.train, folder, **settings)


@pytest.fixture
def make():
    """`tiny_run.make`: a training run of 4 epochs of 3 batches."""
    return tiny_run.make
