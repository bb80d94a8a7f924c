"""What becomes of the queue's keys that are the query's own: attracted, ignored, or repelled like any other."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from monai_cxrpair.contrast.loss import Found
from monai_cxrpair.contrast.queue import KeyQueue
from monai_cxrpair.pairing.affinity import Affinity
from monai_cxrpair.pairing.codes import CODES

Ignore = Literal["none", "study", "patient"]


class Attracted(NamedTuple):
    """Key `columns[p]` of the queue is attracted by query `rows[p]` with `affinity[p]`, all (P,)."""

    rows: Tensor
    columns: Tensor
    affinity: Tensor


class Relatives(NamedTuple):
    """`ignored`: keys neither attracted nor repelled, empty places among them, bool (B, Q).

    `set_aside`: those and the attracted ones, (B, Q); all others are repelled. `attracted` is None where no positives
    are sought in the queue.
    """

    ignored: Tensor
    set_aside: Tensor
    attracted: Attracted | None = None

    def found(self, q: Tensor, keys: Tensor) -> Found | None:
        """The positives in the queue; their similarities anew, which is cheaper than a gradient through (B, Q)."""
        if self.attracted is None:
            return None
        rows, columns, affinity = self.attracted
        return Found(rows, (q[rows] * keys[columns]).sum(dim=1), affinity)  # (P, D) x (P, D) -> (P,)


def find_relatives(codes: Tensor, queue: KeyQueue, *, ignore: Ignore, affinity: Affinity | None) -> Relatives:
    """Compare the queries' codes with the queue's.

    Args:
        codes: int64 (B, C) of the queries.
        queue: of keys.
        ignore: whose keys are ignored where no positives are sought in the queue.
        affinity: where it says `in_queue`, keys of the query's patient are attracted, or ignored where it is 0.
    """
    empty = ~queue.filled[None]  # (1, Q)
    if ignore == "none":
        ignored = empty.expand(len(codes), -1)
        return Relatives(ignored, ignored)
    own = codes[:, CODES.index(ignore), None] == queue.code(ignore)[None]  # (B, Q); an empty place is nobody's
    if affinity is None or not affinity.in_queue:
        ignored = empty | own
        return Relatives(ignored, ignored)
    rows, columns = own.nonzero(as_tuple=True)  # few: a patient has some keys among thousands
    value = affinity(codes[rows], queue.codes[columns])
    set_aside = empty | own
    ignored = set_aside.index_put((rows, columns), value == 0)
    near = value > 0
    return Relatives(ignored, set_aside, Attracted(rows[near], columns[near], value[near]))
