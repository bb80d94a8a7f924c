"""The linear protocol as one call, for those who have embeddings and need no config."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_cxrpair.cohort.split.draws import LabelDraws, label_draws
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.protocols.data import make_cases
from monai_cxrpair.evaluation.protocols.linear import LinearLearner
from monai_cxrpair.evaluation.protocols.runner import REPLICATES, ProtocolResult, run_protocol


def linear_protocol(
    embeddings: Mapping[str, NDArray[np.float32]],
    labels: ArrayLike,
    patients: ArrayLike,
    studies: ArrayLike,
    train_rows: ArrayLike,
    test_rows: ArrayLike,
    *,
    fraction: float,
    draws: int,
    seed: int,
    replicates: int = REPLICATES,
    subgroups: Mapping[str, NDArray[np.bool_]] | None = None,
    drawn: LabelDraws | None = None,
    aggregate: str = "image",
) -> ProtocolResult:
    """Compare encoders by a linear probe on random label fractions; see `run_protocol`.

    Args:
        embeddings: name -> (N, F); F may differ.
        labels: (N,) 1, 0, -1 uncertain, NaN missing; only 1 and 0 are used.
        patients: (N,) integer codes.
        studies: (N,) integer codes.
        train_rows: rows the draws are taken from.
        test_rows: rows to test on, of other patients.
        fraction: share of the labelled training studies in a draw, in (0, 1].
        draws: number of draws.
        seed: of draws, folds and replicates.
        replicates: bootstrap replicates.
        subgroups: name -> (N,) mask; the AUC is also given within each.
        drawn: the draws, as positions in `train_rows`, where they were made beforehand.
        aggregate: `image`, or `study_max` or `study_mean` to test studies.

    Returns:
        The figures, and the scores behind them.

    Raises:
        CxrPairError: where a patient is on both sides, a class is missing, or shapes do not match.
    """
    cases = make_cases(labels, patients, studies, train_rows, test_rows, aggregate=aggregate, subgroups=subgroups)
    check_embeddings(embeddings, len(cases.labels))
    train = cases.train
    if drawn is None:
        y, who, which = cases.labels[train], cases.patients[train], cases.studies[train]
        drawn = label_draws(y, who, which, fraction=fraction, draws=draws, seed=seed)
    learner = LinearLearner(embeddings, cases.labels, cases.patients, seed=seed)
    return run_protocol(
        "linear", learner, list(embeddings), cases, drawn, seed=seed, replicates=replicates, label_fraction=fraction
    )


def check_embeddings(embeddings: Mapping[str, NDArray[np.float32]], length: int) -> None:
    """Every encoder has a row for every radiograph.

    Raises:
        CxrPairError: one has not.
    """
    for name, table in embeddings.items():
        if table.ndim != 2 or len(table) != length:
            raise CxrPairError(f"embeddings of '{name}' must be ({length}, F), got {table.shape}")
