"""Which radiographs may be the partner of x: the rule c of S_c(x) (paper section 3.1, equation 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from monai_cxrpair.errors import CxrPairError

Relation = Literal["any", "same", "distinct"]


@dataclass(frozen=True, kw_only=True)
class PairCriterion:
    """A pairing rule; the patient is always the same.

    Args:
        study: whether a candidate comes from `any`, the `same` or a `distinct` study (paper section 4.1).
        laterality: the same three for frontal/lateral; an `unknown` laterality is neither the same as nor
            distinct from any, so it has no partner under `same` and `distinct`.
        include_self: whether x is one of its own candidates, as in the paper's released code. Without effect
            where a property is `distinct`, since x is never distinct from itself.

    Raises:
        CxrPairError: a value that is none of the above.
    """

    study: Relation = "any"
    laterality: Relation = "any"
    include_self: bool = False

    def __post_init__(self) -> None:
        for name in ("study", "laterality"):
            value = getattr(self, name)
            if value not in get_args(Relation):
                raise CxrPairError(f"pairing#{name} is {value!r}: use any, same or distinct")
        if not isinstance(self.include_self, bool):
            raise CxrPairError(f"pairing#include_self is {self.include_self!r}: use true or false")

    @classmethod
    def from_config(cls, settings: Mapping[str, Any] | None) -> PairCriterion | None:
        """The rule of a config's `pairing` section; None (no metadata: plain MoCo) stays None.

        Raises:
            CxrPairError: an unknown setting or value, by name.
        """
        if settings is None:
            return None
        known = [f.name for f in fields(cls)]
        for name in settings:
            if name not in known:
                raise CxrPairError(f"pairing#{name} is not a setting of a pairing rule: there are {', '.join(known)}")
        return cls(**settings)

    def as_dict(self) -> dict[str, Any]:
        """The settings, for a card or a report."""
        return asdict(self)
