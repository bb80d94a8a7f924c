"""Which keys of the queue are repelled, and how hard: the strategies of the paper (section 4.3, Table 6).

S(x) are the keys that share a property with x: its laterality in the paper, here also view position, age group or sex.
Keys that are ignored or attracted count in none of the following, neither in Q nor in S(x).

    none         all keys of Q, each once.
    same         the keys of S(x) only.
    reweighted   those of S(x) count t / r, the others (1 - t) / (1 - r), with r = |S(x)| / |Q|: the share t of the
                 whole weight lies on S(x). The paper's text sets t = 0.1 "to allocate 90 % of the weight to hard
                 negatives"; by its own formula, which is used here, that needs t = 0.9.
    appended     Q, and m = share * |Q| random keys of S(x) once more; one sample per property value and batch.
    synthetic    appended, and m mixes u a + (1 - u) b of two of these keys, u uniform in (0, 1), of unit length.

Where x has no known value, or nothing in the queue shares it (or, reweighted, everything does), x has the keys of
`none`. The queue counts as long as it is filled: a rule holds from the second batch on. The paper's release waits for
a full queue instead, and with `same` repels nothing until then, so that its loss is 0 at first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from monai_cxrpair.contrast.method.relatives import Ignore, Relatives
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.codes import CODES, UNKNOWN
from monai_cxrpair.pairing.properties import PROPERTIES

Strategy = Literal["none", "same", "reweighted", "appended", "synthetic"]

# Which strategies a setting belongs to.
USED_BY = {
    "property": ("same", "reweighted", "appended", "synthetic"),
    "target": ("reweighted",),
    "share": ("appended", "synthetic"),
}


class Terms(NamedTuple):
    """The terms of the denominator beside the drawn keys: similarities (B, M), which are left out, log of weights."""

    similarity: Tensor
    ignored: Tensor
    log_weight: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Negatives:
    """The `negatives` section of a config (module docstring).

    Args:
        ignore: keys of the query's own `patient` or `study` are neither attracted nor repelled; `none` repels them
            too, as the paper's code does.
        strategy: one of those above.
        property: `laterality`, `view_position`, `age_group` or `sex` (paper: laterality).
        target: t of `reweighted` (the paper's code: "typically 0.9").
        share: of `appended` and `synthetic` (the paper's code: 0.1).

    Raises:
        CxrPairError: a value outside its range, by name.
    """

    ignore: Ignore = "patient"
    strategy: Strategy = "none"
    property: str = "laterality"
    target: float = 0.9
    share: float = 0.1

    def __post_init__(self) -> None:
        for name, allowed in (("ignore", get_args(Ignore)), ("strategy", get_args(Strategy)), ("property", PROPERTIES)):
            if getattr(self, name) not in allowed:
                raise CxrPairError(f"negatives#{name} is {getattr(self, name)!r}: use {', '.join(allowed)}")
        for name, rule in (("target", "above 0 and below 1"), ("share", "above 0, at most 1")):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 < value <= 1 or (name == "target" and value == 1):
                raise CxrPairError(f"negatives#{name} is {value!r}: use a number {rule}")

    @classmethod
    def from_config(cls, settings: Mapping[str, Any] | None) -> Negatives:
        """The section of a config; None is the default.

        Raises:
            CxrPairError: an unknown setting, one that another strategy would need, or a wrong value, by name.
        """
        settings = {} if settings is None else settings
        if not isinstance(settings, Mapping):
            raise CxrPairError(f"negatives is {settings!r}: use settings such as {{ignore: patient}}")
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                raise CxrPairError(f"negatives#{name} is unknown: there are {', '.join(known)}")
        rule = cls(**settings)
        for name in settings:
            if rule.strategy not in USED_BY.get(name, (rule.strategy,)):
                needs = " or ".join(USED_BY[name])
                raise CxrPairError(f"negatives#{name} needs negatives#strategy {needs}; it is {rule.strategy}")
        return rule

    def as_dict(self) -> dict[str, Any]:
        """The settings that matter to this strategy, for a card; `from_config` takes them back."""
        out = {"ignore": self.ignore, "strategy": self.strategy} if self.strategy != "none" else {"ignore": self.ignore}
        return out | {name: getattr(self, name) for name, users in USED_BY.items() if self.strategy in users}

    def terms(self, similarity: Tensor, own: Relatives, keys: Tensor, codes: Tensor, key_codes: Tensor) -> Terms:
        """The terms of the denominator under this strategy.

        Args:
            similarity: of queries and queue, (B, Q).
            own: which keys of the queue are not repelled.
            keys: the queue, (Q, D), for the length of mixes.
            codes: int64 (B, C) of the queries.
            key_codes: int64 (Q, C).
        """
        if self.strategy == "none":
            return Terms(similarity, own.ignored)
        column, repelled = CODES.index(self.property), ~own.set_aside
        value, values = codes[:, column], key_codes[:, column].contiguous()  # (B,), (Q,)
        if self.strategy in ("same", "reweighted"):
            hard = (value[:, None] == values) & (value != UNKNOWN)[:, None] & repelled  # (B, Q)
            return Terms(similarity, own.ignored, self._log_weight(hard, repelled, similarity.dtype))
        kinds, kind = value.unique(return_inverse=True)  # (V,), (B,)
        filled = key_codes[:, 0] != UNKNOWN
        chosen, usable = draw_like(kinds, values, filled, share=self.share)  # (V, m)
        columns = chosen[kind]  # (B, m)
        similarities, left_out = [similarity, similarity.gather(1, columns)], [own.ignored]
        left_out.append(~(usable[kind] & repelled.gather(1, columns)))
        if self.strategy == "synthetic":
            one, other, u = draw_mixes(chosen, usable, keys.dtype)  # (V, m)
            mixes = u[..., None] * keys[one] + (1 - u)[..., None] * keys[other]  # (V, m, D)
            length = mixes.norm(dim=2).clamp_min(1e-12)  # (V, m)
            # The similarity to a mix is the mix of the similarities: no (B, m, D) is needed.
            one, other, u = one[kind], other[kind], u[kind]  # (B, m)
            mixed = u * similarity.gather(1, one) + (1 - u) * similarity.gather(1, other)
            similarities.append(mixed / length[kind])
            left_out.append(~(usable[kind] & repelled.gather(1, one) & repelled.gather(1, other)))
        return Terms(torch.cat(similarities, dim=1), torch.cat(left_out, dim=1))  # (B, Q + m) or (B, Q + 2 m)

    def _log_weight(self, hard: Tensor, repelled: Tensor, dtype: torch.dtype) -> Tensor:
        """Of each key, (B, Q); 0 for a key that is not repelled."""
        n_hard, n = hard.sum(dim=1).to(dtype), repelled.sum(dim=1).to(dtype)  # (B,)
        if self.strategy == "same":
            on_hard, on_rest, applies = torch.ones_like(n), torch.zeros_like(n), n_hard > 0
        else:
            applies = (n_hard > 0) & (n_hard < n)
            r = torch.where(applies, n_hard / n.clamp_min(1), 0.5)
            on_hard, on_rest = self.target / r, (1 - self.target) / (1 - r)
        log_weight = torch.where(hard, on_hard.log()[:, None], on_rest.log()[:, None])  # (B, Q)
        return log_weight.masked_fill_(~(repelled & applies[:, None]), 0.0)


def draw_like(kinds: Tensor, values: Tensor, filled: Tensor, *, share: float) -> tuple[Tensor, Tensor]:
    """Draw m = share * |Q| keys of each kind without replacement, all of them where there are fewer.

    Args:
        kinds: int64 (V,), property values; -1 has no keys.
        values: int64 (Q,), of the keys.
        filled: bool (Q,), which places hold a key: |Q| of them.
        share: above 0.

    Returns:
        Numbers of keys, int64 (V, m of a full queue), and which of them are meant, bool: the first ones of each row.
    """
    like = (kinds[:, None] == values) & (kinds != UNKNOWN)[:, None] & filled  # (V, Q)
    order = torch.rand(like.shape, device=values.device).masked_fill_(~like, -1.0)
    best = order.topk(int(share * len(values)), dim=1)  # (V, m)
    now = (share * filled.sum()).floor()
    return best.indices, (best.values >= 0) & (torch.arange(best.values.shape[1], device=values.device) < now)


def draw_mixes(chosen: Tensor, usable: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """As many pairs of two different keys as are usable of each kind, and the share u of the first; all (V, m)."""
    n = usable.sum(dim=1, keepdim=True)  # (V, 1)
    first = (torch.rand(chosen.shape, device=chosen.device) * n).long()
    step = 1 + (torch.rand(chosen.shape, device=chosen.device) * (n - 1)).long()
    second = (first + step) % n.clamp_min(1)
    u = torch.rand(chosen.shape, device=chosen.device, dtype=dtype)
    return chosen.gather(1, first), chosen.gather(1, second), u
