"""Which radiographs are there? Readers, schema, de-identification and the patient-level split."""

from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.split.saved import open_split
from monai_cxrpair.cohort.split.seen import patient_digests
from monai_cxrpair.cohort.split.split import Split, split_patients
from monai_cxrpair.cohort.split.validation import hold_out_validation

__all__ = ["Cohort", "Split", "hold_out_validation", "open_split", "patient_digests", "split_patients"]
