"""The kNN classifier on frozen embeddings (Wu et al. 2018): what an encoder is worth without training anything."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from monai_cxrpair.errors import CxrPairError

_BLOCK = 4_000_000  # similarities at a time (32 MB): memory does not grow with the queries


def knn_scores(
    references: npt.NDArray[np.floating],
    labels: npt.NDArray[np.float64],
    queries: npt.NDArray[np.floating],
    *,
    neighbours: int = 20,
    temperature: float | None = 0.07,
    reference_patients: npt.NDArray[np.int64] | None = None,
    query_patients: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float64]:
    """The weighted share of a query's nearest references that have the finding.

    Nearness is the cosine similarity s; a neighbour counts exp(s / temperature) (Wu et al. 2018: 200 neighbours and
    0.07 on ImageNet; Caron et al. 2021 found 20 best). Nobody is a neighbour of their own patient.

    Args:
        references: embeddings (N, F), of any length above 0.
        labels: (N,) 1 present, 0 absent.
        queries: embeddings (M, F).
        neighbours: k, or as many as there are references of other patients.
        temperature: of the weights; None: every neighbour counts 1.
        reference_patients: (N,) patient codes; None: the patients of references and queries differ anyway.
        query_patients: (M,) patient codes of the same numbering.

    Returns:
        (M,) in [0, 1].

    Raises:
        CxrPairError: a setting out of range, shapes that do not fit, embeddings that are not finite or of length 0, or
            a query without any reference of another patient.
    """
    check_settings(neighbours, temperature)
    if references.ndim != 2 or labels.shape != references.shape[:1] or queries.shape[1:] != references.shape[1:]:
        raise CxrPairError(
            f"references {references.shape}, labels {labels.shape} and queries {queries.shape} must be (N, F), (N,) "
            "and (M, F)"
        )
    if (reference_patients is None) != (query_patients is None):
        raise CxrPairError("reference_patients and query_patients go together: give both or neither")
    points, asked = _unit(references, "references"), _unit(queries, "queries")
    k = min(neighbours, len(points))
    scores = np.empty(len(asked))
    step = max(1, _BLOCK // max(1, len(points)))
    for start in range(0, len(asked), step):
        part = slice(start, start + step)
        similarity = asked[part] @ points.T  # (m, F) x (F, N) -> (m, N)
        if reference_patients is not None and query_patients is not None:
            similarity[query_patients[part, None] == reference_patients] = -np.inf
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]  # (m, k)
        s = np.take_along_axis(similarity, nearest, axis=1)
        best = s.max(axis=1, keepdims=True)
        if not np.isfinite(best).all():
            raise CxrPairError("a query has no reference of another patient: the references need more patients")
        # Weights relative to the nearest neighbour's: exp(1 / 0.07) squared would not fit into float32.
        weight = np.exp((s - best) / temperature) if temperature is not None else np.isfinite(s).astype(np.float64)
        scores[part] = (weight * labels[nearest]).sum(axis=1) / weight.sum(axis=1)
    return scores


def check_settings(neighbours: int, temperature: float | None, *, prefix: str = "") -> None:
    """Find out before anything is computed whether the settings of `knn_scores` make sense.

    Args:
        neighbours: see `knn_scores`.
        temperature: see `knn_scores`.
        prefix: of their names in the config.

    Raises:
        CxrPairError: they do not.
    """
    if isinstance(neighbours, bool) or not isinstance(neighbours, int) or neighbours < 1:
        raise CxrPairError(f"{prefix}neighbours is {neighbours!r}: use a whole number of at least 1")
    if temperature is None:
        return
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 < temperature < np.inf:
        raise CxrPairError(f"{prefix}temperature is {temperature!r}: use a finite number above 0, or null")


def _unit(embeddings: npt.NDArray[np.floating], what: str) -> npt.NDArray[np.float64]:
    values = np.asarray(embeddings, dtype=np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    if not np.isfinite(length).all() or not (length > 0).all():
        bad = int((~np.isfinite(length) | ~(length > 0)).sum())
        raise CxrPairError(f"{bad} of {len(values)} {what} are not finite embeddings of a length above 0")
    return np.asarray(values / length)
