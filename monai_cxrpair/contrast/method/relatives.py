"""What becomes of the keys that are of the query's own patient: attracted, ignored, or repelled like any other."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from monai_cxrpair.contrast.method.loss import Found
from monai_cxrpair.pairing.affinity import Affinity
from monai_cxrpair.pairing.codes import CODES

Ignore = Literal["none", "study", "patient"]


class Attracted(NamedTuple):
    """Key `columns[p]` is attracted by query `rows[p]` with `affinity[p]`, all (P,)."""

    rows: Tensor
    columns: Tensor
    affinity: Tensor


class Relatives(NamedTuple):
    """`ignored`: keys neither attracted nor repelled, absent ones among them, bool (B, Q).

    `set_aside`: those and the attracted ones, (B, Q); all others are repelled. `attracted` is None where no positives
    are sought among these keys.
    """

    ignored: Tensor
    set_aside: Tensor
    attracted: Attracted | None = None

    def found(self, q: Tensor, keys: Tensor) -> Found | None:
        """The positives among the keys; their similarities anew, which is cheaper than a gradient through (B, Q)."""
        if self.attracted is None:
            return None
        rows, columns, affinity = self.attracted
        return Found(rows, (q[rows] * keys[columns]).sum(dim=1), affinity)  # (P, D) x (P, D) -> (P,)


def find_relatives(
    codes: Tensor, key_codes: Tensor, absent: Tensor, *, ignore: Ignore, affinity: Affinity | None
) -> Relatives:
    """Compare the queries' codes with those of the keys.

    Args:
        codes: int64 (B, C) of the queries.
        key_codes: int64 (Q, C) of the queue, or of the batch's views.
        absent: which keys count as not there, bool (1, Q) or (B, Q): empty places, a query's own views.
        ignore: whose keys are ignored where no positives are sought among the keys.
        affinity: where it says `in_queue`, keys of the query's patient are attracted, or ignored where it is 0.
    """
    if ignore == "none":
        ignored = absent.expand(len(codes), -1)
        return Relatives(ignored, ignored)
    column = CODES.index(ignore)
    # One value after another in memory is faster, since it is compared with every query; -1 is nobody's.
    own = codes[:, column, None] == key_codes[:, column].contiguous()[None]  # (B, 1) == (1, Q) -> (B, Q)
    set_aside = absent | own
    if affinity is None or not affinity.in_queue:
        return Relatives(set_aside, set_aside)
    rows, columns = (own & ~absent).nonzero(as_tuple=True)  # few: a patient has some keys among thousands
    value = affinity(codes[rows], key_codes[columns])
    ignored = set_aside.index_put((rows, columns), value == 0)
    near = value > 0
    return Relatives(ignored, set_aside, Attracted(rows[near], columns[near], value[near]))
