"""How does an answer go back? A structured report and an overlay picture, as DICOM objects for the archive.

- `answer`: what a classifier says about a radiograph, and who says it
- `codes`: the terms it is said in
- `source`: whose radiograph it is
- `structured_report`, `secondary_capture`, `overlay`: the two objects
- `validate`: whether others can read them
- `write`: the handler that writes them during inference

They bear the patient's name and the hospital's own numbers, without which an archive could not file them.
"""

from monai_cxrpair.reporting.answer import Algorithm, Answer, read_algorithm
from monai_cxrpair.reporting.secondary_capture import build_overlay
from monai_cxrpair.reporting.source import read_source
from monai_cxrpair.reporting.structured_report import build_report
from monai_cxrpair.reporting.validate import check_object
from monai_cxrpair.reporting.write import WriteDicom, save_object

__all__ = [
    "Algorithm",
    "Answer",
    "WriteDicom",
    "build_overlay",
    "build_report",
    "check_object",
    "read_algorithm",
    "read_source",
    "save_object",
]
