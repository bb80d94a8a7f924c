"""Fixtures that several rooms use."""

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
