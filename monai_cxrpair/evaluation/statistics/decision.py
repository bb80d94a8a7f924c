"""What is acting on the probabilities worth? Decision curves (Vickers and Elkin 2006)."""

import numpy as np
from numpy.typing import ArrayLike

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.statistics.checks import binary, probabilities

# Whoever would act at 1 % or at 99 % needs no model.
THRESHOLDS = tuple(step / 100 for step in range(1, 100))


def decision_curve(labels: ArrayLike, scores: ArrayLike, thresholds: ArrayLike = THRESHOLDS) -> dict[str, list[float]]:
    """Net benefit: true positives less false positives at the odds of the threshold, per radiograph.

    Who acts from probability t on holds a false alarm for t / (1 - t) times as bad as a finding is good:
    net benefit = TP / N - FP / N x t / (1 - t).

    Args:
        labels: (N,) 0 or 1, at least one.
        scores: (N,) probabilities; acted on where `score >= t`. Net benefit supposes that they are calibrated.
        thresholds: (T,) inside (0, 1).

    Returns:
        `thresholds`, `net_benefit` of the model, `treat_all`; to treat none is worth 0 throughout.
    """
    present = binary(labels, "decision_curve")
    values = probabilities(scores, len(present), "decision_curve")
    t = np.asarray(thresholds, dtype=np.float64)
    if not len(present):
        raise CxrPairError("decision_curve: no radiograph to decide on")
    if t.ndim != 1 or not ((t > 0) & (t < 1)).all():
        raise CxrPairError("decision_curve: thresholds must lie between 0 and 1, the ends left out")
    odds = t / (1 - t)
    # Those called positive at each threshold, by counting from the top.
    found, false = (rows.sum() - np.searchsorted(np.sort(values[rows]), t, side="left") for rows in (present, ~present))
    prevalence = present.mean()
    return {
        "thresholds": t.tolist(),
        "net_benefit": (found / len(present) - false / len(present) * odds).tolist(),
        "treat_all": (prevalence - (1 - prevalence) * odds).tolist(),
    }
