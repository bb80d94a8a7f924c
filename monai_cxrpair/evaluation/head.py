"""The classifier's head: trained on all labels of the training side, with its threshold and its calibration."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from monai_cxrpair.evaluation.calibrate import fit_calibration
from monai_cxrpair.evaluation.probe import OUT_OF_FOLD, LinearProbe
from monai_cxrpair.evaluation.statistics.operating import youden_threshold


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head with what was chosen on rows that it did not learn from.

    Attributes:
        probe: the fitted linear layer.
        operating_point: see `operating_point`; None where a class has too few rows or a single patient.
        calibration: see `fit_calibration`; None likewise.
    """

    probe: LinearProbe
    operating_point: dict[str, Any] | None
    calibration: dict[str, Any] | None


def fit_head(
    embeddings: npt.NDArray[np.float32], labels: npt.NDArray[np.float64], patients: npt.NDArray[np.int64], *, seed: int
) -> Head:
    """The probe on all labelled radiographs of the training side, its operating point and its calibration."""
    probe = LinearProbe(seed=seed).fit(embeddings, labels, patients)
    scores = probe.out_of_fold(embeddings, labels, patients)
    if scores is None:
        return Head(probe=probe, operating_point=None, calibration=None)
    return Head(
        probe=probe,
        operating_point=operating_point(labels, scores),
        calibration=fit_calibration(labels, scores, patients),
    )


def operating_point(labels: npt.ArrayLike, scores: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Where to call a radiograph positive, from rows that the head did not learn from.

    The threshold maximises Youden's index (sensitivity + specificity - 1). Sensitivity and specificity there are
    slightly optimistic, as the threshold was chosen on them.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) of `LinearProbe.out_of_fold`.

    Returns:
        `threshold`, `sensitivity`, `specificity` in [0, 1], `rule`, `source`, `present`, `absent`.
    """
    present = np.asarray(labels) == 1
    threshold = youden_threshold(present, scores)
    called = scores >= threshold
    return {
        "threshold": threshold,
        "sensitivity": float(called[present].mean()),
        "specificity": float((~called)[~present].mean()),
        "rule": "youden",
        "source": OUT_OF_FOLD,
        "present": int(present.sum()),
        "absent": int((~present).sum()),
    }
