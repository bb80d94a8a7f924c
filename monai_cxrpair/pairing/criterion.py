"""Which radiographs may be the partner of x: the rule c of S_c(x) (paper section 3.1, equation 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.properties import DECADE, PROPERTIES

Relation = Literal["any", "same", "distinct"]


@dataclass(frozen=True, kw_only=True)
class PairCriterion:
    """A pairing rule; the patient is always the same, and every setting must be fulfilled.

    Args:
        study: whether a candidate comes from `any`, the `same` or a `distinct` study (paper section 4.1).
        laterality: the same three for frontal/lateral. As for the next three, an unknown value is neither the same
            as nor distinct from any: under `same` and `distinct` such a radiograph has no candidate and is none.
        view_position: the same three for PA, AP, LL, ...
        age_group: the same three for the age at the study.
        sex: the same three; O (other) is a known value.
        age_bins: the width of an age group in years, or the ages at which groups begin (`[18, 65]`: three groups).
        min_days, max_days: time between the studies of x and the candidate, in days of 24 hours (0.5: 12 hours), ends
            included. A study's time is its earliest `study_datetime`. A study is 0 days from itself whether or not it
            has a date; from any other study one without date is at no known distance, so it is no candidate there.
        max_studies_apart: |difference of `study_order`|, where there are no dates (1: neighbouring studies).
        oracle_same_finding: a finding that the candidate must share with x: present and uncertain (1, -1) against
            absent and missing (paper Table 2). It chooses pairs by LABELS: an upper bound, no self-supervision.
        include_self: whether x is one of its own candidates, as in the paper's released code. Without effect
            where a property is `distinct` or `min_days` above 0, since x is never distinct from itself.
        require_partner: whether x with an empty S_c(x) is no query at all (paper Table 3), instead of being paired
            with itself. With `include_self` x itself counts, so that S_c(x) is empty only where a value is unknown or
            `size_like` leaves nothing.
        size_like: the settings of another rule. S_c(x) becomes a random subset of itself with as many members as the
            other rule finds for x, or all where it has fewer (paper Tables 3 to 5).
        size_seed: of that subset, which is drawn once and then stays.

    Raises:
        CxrPairError: a value that is none of the above, or settings that contradict each other; it names them.
    """

    study: Relation = "any"
    laterality: Relation = "any"
    view_position: Relation = "any"
    age_group: Relation = "any"
    sex: Relation = "any"
    age_bins: float | tuple[float, ...] = DECADE
    min_days: float = 0
    max_days: float | None = None
    max_studies_apart: int | None = None
    oracle_same_finding: str | None = None
    include_self: bool = False
    require_partner: bool = False
    size_like: PairCriterion | None = None
    size_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("study", *PROPERTIES):
            _check(name, getattr(self, name) in get_args(Relation), getattr(self, name), "any, same or distinct")
        for name in ("include_self", "require_partner"):
            _check(name, isinstance(getattr(self, name), bool), getattr(self, name), "true or false")
        object.__setattr__(self, "age_bins", _age_bins(self.age_bins))
        _check("min_days", _is_days(self.min_days), self.min_days, "a number of days of at least 0")
        _check("max_days", self.max_days is None or _is_days(self.max_days), self.max_days, "a number of days, or null")
        apart, finding = self.max_studies_apart, self.oracle_same_finding
        _check("max_studies_apart", apart is None or _is_count(apart), apart, "a whole number of studies, or null")
        _check(
            "oracle_same_finding",
            finding is None or (isinstance(finding, str) and bool(finding)),
            finding, "the name of a finding, or null",
        )  # fmt: skip
        _check("size_seed", _is_count(self.size_seed), self.size_seed, "a whole number of at least 0")
        object.__setattr__(self, "size_like", _other_rule(self.size_like))
        _refuse_contradictions(self)

    @classmethod
    def from_config(cls, settings: Mapping[str, Any] | None) -> PairCriterion | None:
        """The rule of a config's `pairing` section; None (no metadata: plain MoCo) stays None.

        Raises:
            CxrPairError: an unknown setting or value, by name.
        """
        if settings is None:
            return None
        if not isinstance(settings, Mapping):
            raise CxrPairError(f"pairing is {settings!r}: use settings such as {{study: same}}, or null for plain MoCo")
        known = [f.name for f in fields(cls)]
        for name in settings:
            if name not in known:
                raise CxrPairError(f"pairing#{name} is not a setting of a pairing rule: there are {', '.join(known)}")
        return cls(**settings)

    @property
    def relations(self) -> dict[str, Relation]:
        """The relation asked of each property that must be known: those that are not `any`."""
        return {name: getattr(self, name) for name in PROPERTIES if getattr(self, name) != "any"}

    @property
    def by_time(self) -> bool:
        """Whether the time between studies matters."""
        return self.min_days > 0 or self.max_days is not None

    @property
    def excludes_self(self) -> bool:
        """Whether x could not be its own candidate under any `include_self`."""
        return "distinct" in (self.study, *self.relations.values()) or self.min_days > 0

    def as_dict(self) -> dict[str, Any]:
        """The settings, for a card or a report; `from_config` reads them back."""
        return asdict(self)

    def __str__(self) -> str:
        """The settings that differ from their defaults, as in a config."""
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        shown = {"study": self.study, "laterality": self.laterality} | changed
        return "{" + ", ".join(f"{name}: {_text(value)}" for name, value in shown.items()) + "}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _check(name: str, good: bool, value: Any, allowed: str) -> None:
    if not good:
        raise CxrPairError(f"pairing#{name} is {value!r}: use {allowed}")


def _is_days(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _age_bins(value: Any) -> float | tuple[float, ...]:
    single = not isinstance(value, Sequence) or isinstance(value, str)
    bins = (value,) if single else tuple(value)
    rising = all(_is_days(age) and age > 0 for age in bins) and list(bins) == sorted(set(bins))
    _check("age_bins", bool(bins) and rising, value, "a width in years, or rising ages such as [18, 65]")
    return bins[0] if single else bins


def _other_rule(value: Any) -> PairCriterion | None:
    if value is None or isinstance(value, PairCriterion):
        rule = value
    else:
        try:
            rule = PairCriterion.from_config(value)
        except CxrPairError as error:
            raise CxrPairError(str(error).replace("pairing", "pairing#size_like", 1)) from error
    if rule is not None and rule.require_partner:
        raise CxrPairError("pairing#size_like#require_partner has no effect: set pairing#require_partner instead")
    return rule


def _refuse_contradictions(rule: PairCriterion) -> None:
    """Two settings that no radiograph can fulfil together, or of which one says nothing."""
    if rule.max_days is not None and rule.min_days > rule.max_days:
        raise CxrPairError(f"pairing#min_days is {rule.min_days}, more than pairing#max_days, {rule.max_days}")
    windows = {"min_days": rule.min_days > 0, "max_days": rule.max_days is not None}
    windows["max_studies_apart"] = rule.max_studies_apart is not None
    if rule.study == "same":
        for name in [name for name, used in windows.items() if used]:
            raise CxrPairError(
                f"pairing#{name} contradicts pairing#study same: a study is 0 days and 0 studies from itself; "
                f"leave {name} out, or set study to any or distinct"
            )
    if rule.max_studies_apart == 0 and (rule.study == "distinct" or rule.min_days > 0):
        other = "study distinct" if rule.study == "distinct" else "min_days"
        raise CxrPairError(f"pairing#max_studies_apart is 0, the same study, which contradicts pairing#{other}")
