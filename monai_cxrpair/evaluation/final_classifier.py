"""The classifier that an evaluation leaves behind: trained on all labels, measured on the test side, saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from monai_cxrpair.cohort import patient_digests
from monai_cxrpair.evaluation.classifier import build_classifier, save_classifier
from monai_cxrpair.evaluation.encoders import FrozenEncoder
from monai_cxrpair.evaluation.head import fit_head
from monai_cxrpair.evaluation.input_check import training_statistics
from monai_cxrpair.evaluation.probe import LinearProbe
from monai_cxrpair.evaluation.protocols.runner import REPLICATES, ProtocolResult
from monai_cxrpair.evaluation.statistics.auc import auc, weighted_aucs
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, patient_weights
from monai_cxrpair.evaluation.statistics.operating import at_threshold
from monai_cxrpair.imaging.cache import RadiographCacheDataset


def final_classifier(
    name: str,
    encoder: FrozenEncoder,
    embeddings: npt.NDArray[np.float32],
    linear: ProtocolResult,
    *,
    dataset: RadiographCacheDataset,
    finding: str,
    output_dir: Path,
    seed: int,
) -> tuple[dict[str, Any], LinearProbe]:
    """Train the head on all labels of the training side and save it; the test side only measures it.

    Args:
        name: of the encoder.
        encoder: its network and card.
        embeddings: (N, F) of all radiographs.
        linear: labels and sides, and what is tested.
        dataset: item k is the radiograph of row k; the card says what inputs look like.
        finding: what is predicted.
        output_dir: gets `model.pt` and `model.json`.
        seed: of the folds and the bootstrap.

    Returns:
        The card, and the head.
    """
    cases = linear.cases
    rows = cases.train[np.isin(cases.labels[cases.train], (0.0, 1.0))]
    head = fit_head(embeddings[rows], cases.labels[rows], cases.patients[rows], seed=seed)
    probe, point = head.probe, head.operating_point
    scores = cases.units.pool(probe.predict_proba(embeddings[linear.test_rows]))
    weights = patient_weights(linear.test_patients, replicates=REPLICATES, seed=seed)
    card = {
        "encoder": name,
        "trained_on": {
            "radiographs": len(rows),
            "present": int(cases.labels[rows].sum()),
            "patients_seen": patient_digests(dataset.cohort, rows),
        },
        "test_auc": auc(linear.test_labels, scores),
        # One head: what other labels would have made of it is not in this interval.
        "test_auc_ci95": list(ci95(weighted_aucs(linear.test_labels, scores, weights))),
        "operating_point": point,
        "at_operating_point": None
        if point is None
        else at_threshold(linear.test_labels, scores, point["threshold"], linear.test_patients),
        "calibration": head.calibration,
    }
    save_classifier(
        build_classifier(encoder, probe),
        output_dir,
        {
            **card,
            "finding": finding,
            "network": encoder.card["encoder"],
            "preprocessing": encoder.card["preprocessing"],
            "encoder_card": encoder.card,
            "probe_c": probe.c,
            "input": training_statistics(dataset, rows, seed=seed),
        },
    )
    return card, probe
