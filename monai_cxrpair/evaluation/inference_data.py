"""What inference reads: the radiographs of a cohort or a folder, each looked at before its pixels are decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import torch
from monai.data import MetaTensor

from monai_cxrpair.cohort.split.seen import seen_patients
from monai_cxrpair.evaluation.file_header import look
from monai_cxrpair.imaging.tolerant import TolerantDataset

UNKNOWN_VIEW = "unknown view: neither frontal nor lateral"


class InferenceDataset(TolerantDataset):
    """As `TolerantDataset`; what the header says is no chest radiograph is not even decoded.

    Its items also have `study`: the study of the cohort, or (`uid`) that of a DICOM header, or (`folder`) where the
    file lies, as `study_from` says; and `warning`: an unknown view, and what `CheckInputd` says. The study of a header
    is an identifier: whoever writes it to a file makes a pseudonym of it first.

    Args:
        data: MONAI's data list, `{"image": path, "image_id": id}`; of a cohort also `study_id` and `laterality`, and
            then headers are not asked: the index step has.
        transform: ends in (1, S, S) under `image`.
        image_size: S.
        card: of the classifier; patients of a cohort that it has learned from get a warning. None: nobody is known.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, str]],
        transform: Callable[..., Any],
        *,
        image_size: int,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data=data, transform=transform, image_size=image_size)
        self._learned_from = _learned_from(data, card or {})

    def _transform(self, index: int) -> dict[str, Any]:
        item = self.data[index]
        known = {"image_id": item["image_id"], **_study_and_view(item)}
        reason = known.pop("reason")
        if reason:
            return {**known, "image": _black(self.image_size), "error": reason}
        found = super()._transform(index)
        warnings = [known["warning"], "" if found["error"] else found.get("warning", "")]
        warnings.append(self._learned_from.get(item.get("patient_id", ""), ""))
        return {**known, "image": found["image"], "error": found["error"], "warning": "; ".join(filter(None, warnings))}


def _learned_from(data: Sequence[Mapping[str, str]], card: Mapping[str, Any]) -> dict[str, str]:
    """Patient -> warning."""
    patients = {item["patient_id"] for item in data if item.get("patient_id")}
    warnings = {}
    encoder = (card.get("encoder_card") or {}).get("cohort") or {}
    for said, what in ((encoder, "pre-training"), (card.get("trained_on") or {}, "training")):
        for patient in seen_patients(said.get("patients_seen"), patients):
            warnings[patient] = f"the patient was in the {what}: the probability may be too sure"
    return warnings


def _study_and_view(item: Mapping[str, str]) -> dict[str, str]:
    if "study_id" in item:
        warning = UNKNOWN_VIEW if item["laterality"] == "unknown" else ""
        return {"study": item["study_id"], "study_from": "cohort", "warning": warning, "reason": ""}
    said = look(item["image"])
    folder = str(PurePosixPath(item["image_id"]).parent)
    return {
        "study": said.study_uid or ("" if folder == "." else folder),
        "study_from": "uid" if said.study_uid else "folder",
        "warning": UNKNOWN_VIEW if said.laterality == "unknown" and not said.reason else "",
        "reason": said.reason,
    }


def _black(size: int) -> MetaTensor:
    return MetaTensor(torch.zeros(1, size, size))
