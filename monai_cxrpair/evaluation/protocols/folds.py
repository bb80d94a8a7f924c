"""Parts of a draw that hold out patients."""

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from monai_cxrpair.evaluation.probe import FOLDS
from monai_cxrpair.evaluation.protocols.learned import too_few


def folds_by_patient(
    labels: NDArray[np.float64], patients: NDArray[np.int64], *, seed: int, least: int, folds: int = FOLDS
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]] | None:
    """Positions to learn from and to hold out, no patient in both, both classes among the first.

    Args:
        labels: (n,) 1 or 0 of a draw.
        patients: (n,).
        seed: of the folds.
        least: radiographs of each class that are needed.
        folds: how many, fewer where a class has fewer patients.

    Returns:
        The folds; None where there is too little, or a class sits in one patient.
    """
    present = labels == 1
    folds = min(folds, len(np.unique(patients[present])), len(np.unique(patients[~present])))
    if too_few(labels, least) or folds < 2:
        return None
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    parts = list(splitter.split(np.zeros(len(labels)), present, patients))
    if any(present[learn].all() or not present[learn].any() for learn, _ in parts):
        return None
    return parts
