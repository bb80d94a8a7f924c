"""Which radiographs are there? Readers, schema, de-identification and the patient-level split."""

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.split import Split, split_patients
from monai_cxrpair.cohort.split_file import open_split

__all__ = ["Cohort", "Split", "open_split", "split_patients"]
