"""Is a new head worse than the present one? Both on the same studies, neither having learned from their patients."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.probe import LinearProbe
from monai_cxrpair.evaluation.protocols.folds import folds_by_patient
from monai_cxrpair.evaluation.protocols.units import Units, make_units
from monai_cxrpair.evaluation.report.results import LEVEL
from monai_cxrpair.evaluation.statistics.auc import auc, weighted_aucs
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, patient_weights
from monai_cxrpair.evaluation.statistics.compare import compare_delong

LEAST_PATIENTS = 5  # of each class: each of the five folds can hold one out
REPLICATES = 1000  # as for the learning curve; the interval's ends then vary by about 0.003

Fold = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The radiographs of the answered studies.

    Attributes:
        embeddings: (n, F).
        labels: (n,) 1 or 0, those of the study.
        patients: (n,) codes.
        studies: (n,) codes.
        rows: (n,) in the cohort that is read.
    """

    embeddings: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float64]
    patients: npt.NDArray[np.int64]
    studies: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    def take(self, chosen: npt.NDArray[np.bool_]) -> Labelled:
        """Some of the radiographs."""
        return Labelled(**{each.name: getattr(self, each.name)[chosen] for each in fields(self)})

    def units(self) -> Units:
        """The studies, as the evaluation tests them: by the maximum over their radiographs."""
        rows = np.arange(len(self.labels))
        return make_units(rows, self.labels, self.patients, self.studies, aggregate="study_max")

    def counts(self) -> dict[str, int]:
        """Of radiographs, studies, patients, and studies of each class."""
        units = self.units()
        return {
            "radiographs": len(self.labels),
            "studies": len(units.present),
            "patients": len(np.unique(self.patients)),
            "present": int(units.present.sum()),
            "absent": int((~units.present).sum()),
        }


def make_folds(labelled: Labelled, *, seed: int) -> list[Fold]:
    """Folds by patient, or why these answers are too few.

    Raises:
        CxrPairError: one class only, or too few patients of a class.
    """
    if not len(labelled.labels):
        raise CxrPairError("no study is answered present or absent yet: there is nothing to learn from")
    patients = {
        word: len(np.unique(labelled.patients[labelled.labels == value]))
        for word, value in (("with", 1), ("without", 0))
    }
    for word, count in patients.items():
        if count == 0:
            raise CxrPairError(
                f"all {labelled.counts()['studies']} answered studies are of patients "
                f"{'without' if word == 'with' else 'with'} the finding: answer some {word} it, too"
            )
    word, least = min(patients.items(), key=lambda item: item[1])
    if least < LEAST_PATIENTS:
        raise CxrPairError(
            f"only {least} of the answered patients are {word} the finding, {LEAST_PATIENTS} are needed: answer more "
            "studies"
        )
    folds = folds_by_patient(labelled.labels, labelled.patients, seed=seed, least=LEAST_PATIENTS)
    if folds is None:
        raise CxrPairError("nearly all studies of one class are of one patient: answer more studies of other patients")
    return folds


def out_of_fold(
    labelled: Labelled, folds: list[Fold], *, seed: int, known: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64] | None:
    """What heads say of each radiograph that saw no answer of its patient.

    Args:
        labelled: the radiographs.
        folds: by patient.
        seed: of the probe.
        known: (n,) the labels that a head learned from, NaN where it did not know one; None: all.

    Returns:
        (n,) probabilities; None where a head knew one class only once a fold is held out.
    """
    labels = labelled.labels if known is None else known
    scores = np.empty(len(labels))
    for learn, hold in folds:
        rows = learn[np.isfinite(labels[learn])]
        if len(np.unique(labels[rows])) < 2:
            return None
        probe = LinearProbe(seed=seed).fit(labelled.embeddings[rows], labels[rows], labelled.patients[rows])
        scores[hold] = probe.predict_proba(labelled.embeddings[hold])
    return scores


def judge(
    labelled: Labelled, new: npt.NDArray[np.float64], present: npt.NDArray[np.float64], *, seed: int
) -> dict[str, Any]:
    """Compare two heads by the AUC of the studies.

    Args:
        labelled: the radiographs.
        new: (n,) out-of-fold probabilities of the radiographs.
        present: (n,) those of the present head, which saw no answer of their patients either.
        seed: of the bootstrap, which draws patients.

    Returns:
        `new` and `present` with `auc` and `ci95`; `difference` (new - present) with `value`, `ci95` and `p` (DeLong,
        clustered by patient); `significantly_worse`.
    """
    units = labelled.units()
    pooled = units.pool(np.stack([new, present])[:, units.rows])  # (2, U); the units have an order of their own
    weights = patient_weights(units.patients, replicates=REPLICATES, seed=seed)
    samples = weighted_aucs(units.present, pooled, weights)  # (2, R)
    compared = compare_delong(units.present, pooled[0], pooled[1], units.patients)
    difference, p = compared["difference"], compared["p"]
    assert difference is not None
    assert p is not None
    return {
        "new": {"auc": auc(units.present, pooled[0]), "ci95": list(ci95(samples[0]))},
        "present": {"auc": auc(units.present, pooled[1]), "ci95": list(ci95(samples[1]))},
        "difference": {"value": difference, "ci95": list(ci95(samples[0] - samples[1])), "p": p},
        "significantly_worse": bool(difference < 0 and p < LEVEL),
    }
