"""The present classifier in the comparison: measured on nobody whose answers it learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.label.history import FIRST, present_refit
from monai_cxrpair.label.judge import Fold, Labelled, out_of_fold
from monai_cxrpair.label.loaded import Loaded
from monai_cxrpair.label.reader_model import ReaderModel

PRESENT = "present head"
STAND_IN = "heads that learn, without the patients held out, from the answers that the present head had"
KEPT = "present network, and of patients whose answers it had what networks without these answers said of them then"


def start_of(model: ReaderModel, present: Loaded) -> Loaded:
    """The classifier whose encoder saw no answer: the present one, or after a fine-tuning the one it began with."""
    record = present_refit(present.card, model.model_file.parent)
    return model.first() if record and record.get("held_out") else present


def present_scores(
    present: Loaded, model: ReaderModel, labelled: Labelled, studies: Sequence[str], folds: list[Fold], *, seed: int
) -> tuple[str, npt.NDArray[np.float64]]:
    """What the present classifier says of radiographs, as if it had seen no answer of their patients.

    Args:
        present: the classifier in use.
        model: with the studies that are read.
        labelled: the radiographs.
        studies: the ids behind their study codes, "" for one without radiographs.
        folds: by patient.
        seed: of the probe.

    Returns:
        Who stands for it (`PRESENT`, `STAND_IN`, `KEPT`) and (n,) probabilities, NaN where nobody can.

    Raises:
        CxrPairError: nothing can stand for it.
    """
    record = present_refit(present.card, model.model_file.parent) or {}
    learned: Mapping[str, Any] = record.get("answers", {})
    patient = {study: each.patient for study, each in model.studies.items()}
    seen = {patient[study] for study in learned if study in patient}
    if seen.isdisjoint({patient[study] for study in studies if study}):
        return PRESENT, _says(present, model, labelled)
    if record.get("held_out"):
        kept = {str(study): float(value) for study, value in record["held_out"].items()}
        instead = np.array([kept.get(studies[code], np.nan) for code in labelled.studies])
        theirs = np.array([patient[studies[code]] in seen for code in labelled.studies])
        return KEPT, np.where(theirs, instead, _says(present, model, labelled))
    known = np.array([float(learned.get(studies[code], np.nan)) for code in labelled.studies])
    scores = out_of_fold(labelled, folds, seed=seed, known=known)
    if scores is None:
        raise nobody(model)
    return STAND_IN, scores


def nobody(model: ReaderModel) -> CxrPairError:
    """The error where nothing can stand for the present classifier."""
    return CxrPairError(
        "most answers that the present head learned from were taken back, so nothing can stand for it: copy "
        f"model.pt and model.json of {model.model_file.parent / FIRST} back, and refit again"
    )


def _says(present: Loaded, model: ReaderModel, labelled: Labelled) -> npt.NDArray[np.float64]:
    return present.probabilities(model.embeddings(labelled.rows, present))
