"""Which study is the most useful to answer next? Functions on arrays: a position among the candidates, or None.

Every strategy gets the candidates (positions of studies that nobody has answered or is reading) in any order, and a
numpy generator that decides between equals.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from monai_cxrpair.errors import CxrPairError

STRATEGIES = ("uncertain", "diverse", "mixed", "random")
# Neither is known to be better on a new hospital's radiographs, so each has half a say.
WEIGHT = 0.5
_CLIP = 1e-9  # a probability of exactly 0 or 1 has no finite logit
_CHUNK = 4096  # rows of the matrix of distances


def choose(
    strategy: str,
    *,
    candidates: NDArray[np.int64],
    taken: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    embeddings: NDArray[np.float32],
    threshold: float,
    rng: np.random.Generator,
) -> int | None:
    """The study that a strategy takes.

    Args:
        strategy: one of `STRATEGIES`.
        candidates: positions of the studies to choose from.
        taken: positions of those that were answered or are being read.
        probabilities: (N,) of all studies.
        embeddings: (N, F) of all studies.
        threshold: the probability from which on a study is called positive.
        rng: decides between equals.

    Returns:
        One of the candidates; None where there are none.

    Raises:
        CxrPairError: another word.
    """
    if strategy not in STRATEGIES:
        raise CxrPairError(f"strategy is {str(strategy)[:40]!r}: use {', '.join(STRATEGIES)}")
    if not len(candidates):
        return None
    if strategy == "random":
        return int(rng.choice(candidates))
    uncertainty = closeness(probabilities[candidates], threshold) if strategy != "diverse" else None
    distance = distances(embeddings, candidates, taken) if strategy != "uncertain" else None
    if uncertainty is not None and distance is not None:
        return _first(WEIGHT * _ranks(uncertainty) + (1 - WEIGHT) * _ranks(distance), candidates, rng)
    scores = uncertainty if uncertainty is not None else distance
    assert scores is not None
    return _first(scores, candidates, rng)


def closeness(probabilities: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """How near to the decision each study is: minus the distance of the logits, 0 at the threshold itself.

    Nearest to the threshold, not highest entropy: a reader's answer says most where it decides on which side a study
    falls (Lewis and Gale 1994). With a threshold of 0.5 both are the same order; a rare finding's is far below. Logits
    make it the distance to the hyperplane of the linear head (Tong and Koller 2001): 0.02 and 0.18 are not equally
    near to 0.1.

    Args:
        probabilities: (n,) in [0, 1].
        threshold: in [0, 1].
    """
    return np.asarray(-np.abs(_logit(probabilities) - _logit(np.float64(threshold))))


def distances(
    embeddings: NDArray[np.float32], candidates: NDArray[np.int64], taken: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How far each candidate is from the nearest study that was taken, squared.

    The furthest one is the next centre of k-center greedy (Gonzalez 1985; as a core set of labels Sener and Savarese
    2018).

    Args:
        embeddings: (N, F).
        candidates: (n,) positions.
        taken: (k,) positions; where there are none all candidates are equally far.

    Returns:
        (n,).
    """
    if not len(taken):
        return np.full(len(candidates), np.inf)
    # In double precision and around the mean: the difference of large squares would lose what is small.
    middle = embeddings.mean(axis=0, dtype=np.float64)
    centres = embeddings[taken] - middle  # (k, F)
    squares = np.einsum("kf,kf->k", centres, centres)
    nearest = np.empty(len(candidates))
    for start in range(0, len(candidates), _CHUNK):
        rows = embeddings[candidates[start : start + _CHUNK]] - middle  # (b, F)
        apart = np.einsum("bf,bf->b", rows, rows)[:, None] - 2 * rows @ centres.T + squares  # (b, k)
        nearest[start : start + _CHUNK] = np.maximum(apart.min(axis=1), 0.0)
    return nearest


def standardised(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each feature with mean 0 and standard deviation 1, as the head sees it: else a few large ones decide distances.

    Args:
        embeddings: (N, F); a feature that does not vary becomes 0.
    """
    spread = embeddings.std(axis=0, dtype=np.float64)
    scaled = (embeddings - embeddings.mean(axis=0, dtype=np.float64)) / np.where(spread > 0, spread, 1.0)
    return np.asarray(scaled, dtype=np.float32)


def _logit(probabilities: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), _CLIP, 1 - _CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """In (0, 1], equal ones in the middle of their ranks: what is measured in logits and in distances can be added."""
    ranks: NDArray[np.float64] = rankdata(scores) / len(scores)
    return ranks


def _first(scores: NDArray[np.float64], candidates: NDArray[np.int64], rng: np.random.Generator) -> int:
    return int(candidates[rng.choice(np.flatnonzero(scores == scores.max()))])
