from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace

import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.phantom import PhantomSettings

# The generator is frozen: the published figures hold for this hash only. Whoever changes a setting, or what is drawn
# (then raise `generator`), runs benchmarks/phantom_calibration.py again and writes the new hash here.
PINNED = "4e107aaae5a3ef0e"


def test_the_settings_are_the_ones_that_were_calibrated() -> None:
    assert PhantomSettings().hash == PINNED


def test_the_hash_changes_with_every_setting() -> None:
    assert replace(PhantomSettings(), prevalence=0.39).hash != PINNED
    assert replace(PhantomSettings(), image_size=128).hash != PINNED


def test_the_settings_cannot_be_changed_by_accident() -> None:
    with pytest.raises(FrozenInstanceError):
        PhantomSettings().prevalence = 0.5  # type: ignore[misc]


def test_a_size_too_small_for_a_chest_is_refused() -> None:
    with pytest.raises(CxrPairError, match="image_size=8"):
        PhantomSettings(image_size=8)


def test_a_phantom_needs_neither_torch_nor_monai() -> None:
    code = "import sys, monai_cxrpair.phantom; print(sorted({'torch', 'monai', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
