"""What every reader hands over, before labels, de-identification and the schema."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from monai_cxrpair.cohort.rejects import Reason

NO_PATIENTS = (
    "this data set has no patient ids: each image counts as a patient of its own, pairing is refused, and whether a "
    "person is on two sides of a split cannot be checked"
)


@dataclass(kw_only=True)
class Reading:
    """The radiographs found in a source, and what was left out.

    Attributes:
        table: Columns of `schema.COLUMNS` (those that `schema.complete` can fill may be absent) and the findings.
            Columns whose names start with `_` are for the steps up to the cohort and do not reach it.
        findings: Names of the label columns.
        rejects: `(path, reason)` of everything left out.
        files_seen: Files looked at, or rows of the table; `len(table) + len(rejects)`.
        root: The folder that `path` is relative to.
        source: Name of the format.
        notes: What the user should know, one line each, without identifiers.
        patient_in_studies: Has the reader put the patient id in front of all study ids?
        patients_known: False where the source has no patient ids, and each image stands for a patient of its own.
    """

    table: pd.DataFrame
    findings: list[str]
    rejects: list[tuple[str, Reason]]
    files_seen: int
    root: Path
    source: str
    notes: list[str] = field(default_factory=list)
    patient_in_studies: bool = False
    patients_known: bool = True

    def leave_out(self, bad: "pd.Series[bool]", reason: Reason) -> None:
        """Move the rows for which `bad` is true from the table to the rejects."""
        if bad.any():
            self.rejects.extend((path, reason) for path in self.table.loc[bad, "path"])
            self.table = self.table[~bad]

    def leave_out_unusable(self) -> None:
        """Leave out rows that name no file, no patient or no study, and those whose path (and frame) came before."""
        self.leave_out(self.table["path"].str.strip() == "", Reason.NO_PATH)
        self.leave_out(self.table["patient_id"].str.strip() == "", Reason.NO_PATIENT_ID)
        self.leave_out(self.table["study_id"].str.strip() == "", Reason.NO_STUDY_ID)
        keys = [name for name in ("path", "frame") if name in self.table]
        self.leave_out(self.table.duplicated(keys), Reason.DUPLICATE)
        self.table = self.table.copy()


def own_studies(table: pd.DataFrame, *, all_if_any: bool) -> tuple[pd.Series, int]:
    """Make every study belong to one patient by writing the patient id in front where a study id is shared.

    Args:
        table: Columns `patient_id` and `study_id`.
        all_if_any: Write it in front of all study ids once one is shared, so that all ids look alike (`1`, `2`, ...
            counted per patient); otherwise only where it is shared (a DICOM study of two merged patients).

    Returns:
        The study ids, and how many different study ids are shared.
    """
    pairs = table[["patient_id", "study_id"]].drop_duplicates()
    shared = set(pairs.loc[pairs["study_id"].duplicated(), "study_id"])
    if not shared:
        return table["study_id"], 0
    affected = pd.Series(True, index=table.index) if all_if_any else table["study_id"].isin(shared)
    return table["study_id"].mask(affected, table["patient_id"] + "/" + table["study_id"]), len(shared)
