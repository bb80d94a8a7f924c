"""Learning rates that follow from the number of the epoch alone, so that a run can be resumed with more epochs."""

from __future__ import annotations

import math
from collections.abc import Callable

from monai_cxrpair.errors import CxrPairError


def cosine(max_epochs: int, *, warmup_epochs: int = 0) -> Callable[[int], float]:
    """`lr_lambda` of a LambdaLR: rises in a straight line, then falls to 0 along a half cosine.

    Args:
        max_epochs: of the run.
        warmup_epochs: W; epoch e, from 0, of these has (e + 1) / (W + 1) of the learning rate.

    Raises:
        CxrPairError: the warm-up is not shorter than the run.
    """
    if not 0 <= warmup_epochs < max_epochs:
        raise CxrPairError(f"warmup_epochs is {warmup_epochs}: use at least 0 and fewer than the {max_epochs} epochs")

    def factor(epoch: int) -> float:
        if epoch < warmup_epochs:
            return (epoch + 1) / (warmup_epochs + 1)
        done = min((epoch - warmup_epochs) / (max_epochs - warmup_epochs), 1.0)
        return 0.5 * (1.0 + math.cos(math.pi * done))

    return factor
