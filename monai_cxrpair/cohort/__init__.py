"""Which radiographs are there? Readers, schema, de-identification and the patient-level split."""

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.split import Split, split_patients

__all__ = ["Cohort", "Split", "split_patients"]
