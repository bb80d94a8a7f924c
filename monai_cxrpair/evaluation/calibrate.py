"""From the probability of the classifier to one that can be taken at its word: logistic recalibration (Cox 1958)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from monai_cxrpair.evaluation.probe import OUT_OF_FOLD
from monai_cxrpair.evaluation.statistics.calibration import recalibration

_EDGE = 1e-7  # a probability of 0 or 1 has no logit


def fit_calibration(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike) -> dict[str, Any] | None:
    """Fit the recalibration on predictions of rows that the model did not learn from.

    Args:
        labels: (n,) 0 or 1.
        scores: (n,) of `LinearProbe.out_of_fold`.
        patients: (n,) codes.

    Returns:
        `slope`, `intercept`, `method`, `source`, `present`, `absent`, for `calibrated`; None where the scores
        separate the classes, or do not rise with the finding.
    """
    present = np.asarray(labels) == 1
    found = recalibration(present, scores, patients)
    if found["slope"] is None or found["slope"] <= 0:  # it would turn the order round
        return None
    return {
        "slope": found["slope"],
        "intercept": found["intercept"],
        "method": "logistic recalibration",
        "source": OUT_OF_FOLD,
        "present": int(present.sum()),
        "absent": int((~present).sum()),
    }


def calibrated(probability: float, calibration: Mapping[str, Any] | None) -> float | None:
    """The calibrated probability; None where the card has no calibration.

    Args:
        probability: of the classifier, in [0, 1].
        calibration: `calibration` of the classifier's card: `slope` and `intercept`, or in older ones `temperature`.
    """
    if not calibration:
        return None
    slope = calibration["slope"] if "slope" in calibration else 1 / calibration["temperature"]
    inside = min(max(probability, _EDGE), 1 - _EDGE)
    logit = calibration.get("intercept", 0.0) + slope * math.log(inside / (1 - inside))
    return 0.5 * (1 + math.tanh(0.5 * logit))
