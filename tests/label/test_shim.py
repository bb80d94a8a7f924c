"""The stand-in for the module of pydicom 2, in fresh processes, as Python starts them."""

import subprocess
import sys
from pathlib import Path

from monai_cxrpair.label import shim

ASK = (
    "from pydicom._storage_sopclass_uids import SegmentationStorage as uid\n"
    "import pydicom.uid; assert uid == pydicom.uid.SegmentationStorage; print(uid)"
)


def _python(code: str, *, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    add = f"import site; site.addsitedir({str(site)!r})\n" if site else ""
    return subprocess.run([sys.executable, "-c", add + code], capture_output=True, text=True, check=False)


def test_it_gives_the_module_that_pydicom_3_lacks_to_every_process(tmp_path: Path) -> None:
    shim.install(str(tmp_path))
    done = _python(ASK, site=tmp_path)
    assert done.stdout.strip() == "1.2.840.10008.5.1.4.1.1.66.4", done.stderr


def test_no_other_missing_module_is_invented(tmp_path: Path) -> None:
    shim.install(str(tmp_path))
    done = _python("import pydicom._no_such_module", site=tmp_path)
    assert "ModuleNotFoundError" in done.stderr


def test_what_runs_at_every_start_loads_no_library(tmp_path: Path) -> None:
    shim.install(str(tmp_path))
    code = "import sys; print(sorted({'pydicom', 'numpy', 'monai_cxrpair', 'torch'} & set(sys.modules)))"
    assert _python(code, site=tmp_path).stdout.strip() == "[]"


def test_importing_it_as_a_module_of_ours_changes_nothing() -> None:
    before = list(sys.meta_path)
    __import__("importlib").reload(shim)
    assert sys.meta_path == before
