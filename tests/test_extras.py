"""What an extra brings may be missing: one line names the extra."""

import os
import subprocess
import sys

import pytest

from monai_cxrpair.phantom import write_phantom

# Nothing that begins like that can be imported.
WITHOUT = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Without())
sys.argv[0] = "cxrpair"
"""
COMMAND = "from monai_cxrpair.cli import main; main()"
IN_PYTHON = """
from monai_cxrpair.errors import CxrPairError
try:
    {call}
except CxrPairError as error:
    sys.exit(f"error: {{error}}")
"""
PULL = ["--out", "{place}/out", "--dates", "20240101-20240102"]
VIT = "from monai_cxrpair.contrast import build_encoder; build_encoder('vit_small')"
ONNX = (
    "import torch; from monai_cxrpair.evaluation.export import export_onnx; "
    "export_onnx(torch.nn.Identity(), None, image_size=8)"
)
CASES = {
    "pull over DICOMweb": ("pacs", ["dicomweb_client", "requests"], ["pull", "http://127.0.0.1:9/dicom-web", *PULL]),
    "pull over DIMSE": ("pacs", ["pynetdicom"], ["pull", "dimse://PACS@127.0.0.1:9", *PULL]),
    "send over DICOMweb": ("pacs", ["dicomweb_client", "requests"],
                           ["send", "{place}", "--to", "http://127.0.0.1:9/dicom-web"]),
    "send over DIMSE": ("pacs", ["pynetdicom"], ["send", "{place}", "--to", "dimse://PACS@127.0.0.1:9"]),
    "DICOM answers": ("reporting", ["highdicom"],
                      "from monai_cxrpair.reporting.answer import highdicom; highdicom()"),
    "a ViT": ("encoders", ["transformers"], VIT),
    "ONNX": ("export", ["onnx", "onnxruntime", "onnxscript"],
             ONNX),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("extras")
    write_phantom(place / "dicom", patients=1, file_format="dicom", seed=1)
    return place


@pytest.mark.parametrize("case", CASES)
def test_one_line_names_the_extra_that_is_missing(place, case):
    extra, modules, work = CASES[case]
    code = WITHOUT.format(modules=modules) + (COMMAND if isinstance(work, list) else IN_PYTHON.format(call=work))
    words = [word.format(place=place) for word in work] if isinstance(work, list) else []
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        cwd=place,
        env=dict(os.environ),
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    (line,) = [each for each in done.stderr.splitlines() if not each.startswith("  ") and "Warning" not in each]
    assert line.startswith("error: ")
    assert f"monai-cxrpair[{extra}]" in line
