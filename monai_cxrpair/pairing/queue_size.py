"""How long the queue of keys is, and how much of it belongs to the query's own patient."""

import numpy as np
import numpy.typing as npt

from monai_cxrpair.errors import CxrPairError

# Beyond this, more negatives bought MoCo almost nothing on ImageNet (EqCo), and same-patient keys pile up.
LARGEST_AUTO_QUEUE = 16_384


def queue_size(setting: int | str, *, radiographs: int, batch_size: int) -> int:
    """K: a number as it is, or `auto`, a quarter of the radiographs in whole batches.

    A longer queue would hold the same radiograph from an earlier epoch as its own negative too often.

    Raises:
        CxrPairError: neither a positive number nor `auto`.
    """
    if setting == "auto":
        batches = min(radiographs // 4, LARGEST_AUTO_QUEUE) // batch_size
        return max(1, batches) * batch_size
    if isinstance(setting, bool) or not isinstance(setting, int) or setting < 1:
        raise CxrPairError(f"queue_size is {setting!r}: use a number of keys, or auto")
    return setting


def expected_relatives(group: npt.NDArray[np.int64], size: int) -> tuple[float, float]:
    """How many keys of a queue share the query's group (its patient, or its study).

    The query is drawn uniformly, and the queue holds `size` of the other radiographs, drawn without replacement: a
    hypergeometric distribution, as an epoch is shuffled and meets each radiograph once.

    Args:
        group: The group of each radiograph, codes 0, 1, ..., shape (N,).
        size: K, below N.

    Returns:
        The expected number, and the share of queries that meet at least one.
    """
    sizes, queries = np.unique(np.bincount(group), return_counts=True)
    kept = sizes > 0
    others, weight = sizes[kept] - 1, sizes[kept] * queries[kept] / len(group)  # share of the queries per group size
    population = len(group) - 1
    # P(none) = C(population - others, size) / C(population, size), a product of `others` factors.
    steps = np.arange(int(others.max()))
    with np.errstate(divide="ignore"):
        factors = np.log(np.maximum(population - size - steps, 0) / (population - steps))
    log_none = np.concatenate([[0.0], np.cumsum(factors)])[others]
    return float(size * (weight @ others) / population), float(weight @ -np.expm1(log_none))
