"""The names that used to stand here; they are in `statistics/auc.py` and `statistics/bootstrap.py`."""

from monai_cxrpair.evaluation.statistics.auc import auc, weighted_aucs
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, draw_weights, patient_weights

__all__ = ["auc", "ci95", "draw_weights", "patient_weights", "weighted_aucs"]
