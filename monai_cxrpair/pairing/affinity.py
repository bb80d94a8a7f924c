"""How near two radiographs of a patient are: the affinity of a (query, key) pair, 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.pairing.affinity_table import AffinityTable
from monai_cxrpair.pairing.codes import CODES, UNKNOWN

Kernel = Literal["step", "exponential", "table"]

# Which settings belong to which kernel.
KERNELS: dict[str, tuple[str, ...]] = {
    "step": ("cutoff_days", "cutoff_studies"),
    "exponential": ("half_life_days", "half_life_studies"),
    "table": ("table",),
}


@dataclass(frozen=True, kw_only=True)
class Affinity:
    """1 for the same study, 0 for other patients, and for other studies of the same patient a kernel of time.

        kernel(time) * other_laterality   where the two lateralities are known and differ
        kernel(time) * other_view         else, where the two view positions are known and differ (AP and PA)
        kernel(time)                      else

    Time is counted in days where both studies have a date, else in studies apart. A pair whose affinity is below
    `threshold` is neither attracted nor repelled.

    Args:
        kernel: `step` (1 up to a cut-off, then 0), `exponential` (halves with each half-life), or `table`
            (measured: see `affinity_measure`).
        cutoff_days, cutoff_studies: of `step`, included.
        half_life_days, half_life_studies: of `exponential`. One study: two neighbouring studies of a CheXpert
            patient agree on effusion in 0.44 of the cases, corrected for chance (measured on its table).
        table: of `table`: a file that `AffinityTable.write` wrote, or what is in it.
        other_laterality, other_view: factors in [0, 1].
        threshold: above 0, at most 1.
        in_queue: whether the queue's keys of the query's own patient are attracted too, each by its affinity, or
            ignored where that is below the threshold; false: only drawn keys have an affinity.

    Raises:
        CxrPairError: a setting outside its range or of another kernel, by name.
    """

    kernel: Kernel
    cutoff_days: float = 30.0
    cutoff_studies: float = 1.0
    half_life_days: float = 30.0
    half_life_studies: float = 1.0
    table: AffinityTable | None = None
    other_laterality: float = 1.0
    other_view: float = 1.0
    threshold: float = 0.1
    in_queue: bool = True

    def __post_init__(self) -> None:
        if self.kernel not in get_args(Kernel):
            raise CxrPairError(f"affinity#kernel is {self.kernel!r}: use step, exponential or table")
        for name in ("cutoff_days", "cutoff_studies"):
            _check(name, getattr(self, name), "at least 0", lambda value: value >= 0)
        for name in ("half_life_days", "half_life_studies"):
            _check(name, getattr(self, name), "above 0", lambda value: value > 0)
        for name in ("other_laterality", "other_view"):
            _check(name, getattr(self, name), "in [0, 1]", lambda value: 0 <= value <= 1)
        _check("threshold", self.threshold, "above 0, at most 1", lambda value: 0 < value <= 1)
        if not isinstance(self.in_queue, bool):
            raise CxrPairError(f"affinity#in_queue is {self.in_queue!r}: use true or false")
        if self.kernel == "table" and self.table is None:
            raise CxrPairError("affinity#table is not set: kernel table needs a file that AffinityTable.write wrote")

    @classmethod
    def from_config(cls, settings: Mapping[str, Any] | None) -> Affinity | None:
        """The `affinity` section of a config; None (every drawn key counts 1, no other is sought) stays None.

        Raises:
            CxrPairError: an unknown or missing setting, or a wrong value, by name.
        """
        if settings is None:
            return None
        if not isinstance(settings, Mapping):
            raise CxrPairError(f"affinity is {settings!r}: use null, or a section with a kernel")
        if "kernel" not in settings:
            raise CxrPairError("affinity#kernel is not set: use step, exponential or table")
        others = {name: kernel for kernel, names in KERNELS.items() if kernel != settings["kernel"] for name in names}
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                allowed = ", ".join(name for name in known if name not in others)
                raise CxrPairError(f"affinity#{name} is not a setting of affinities: there are {allowed}")
            if name in others and settings["kernel"] in KERNELS:
                raise CxrPairError(f"affinity#{name} belongs to kernel {others[name]}, not {settings['kernel']}")
        table = settings.get("table")
        return cls(**{**settings, **({"table": AffinityTable.of(table)} if table is not None else {})})

    def as_dict(self) -> dict[str, Any]:
        """The settings that matter to this kernel, for a card; `from_config` takes them back."""
        others = [name for kernel, names in KERNELS.items() if kernel != self.kernel for name in names]
        out = {name: value for name, value in asdict(self).items() if name not in others}
        return out | ({"table": self.table.as_dict()} if self.table is not None else {})

    def __call__(self, one: Any, other: Any) -> Any:
        """The affinity of pairs, from their codes; one function for numpy (drawn keys) and torch (queue, on device).

        Args:
            one: int64 (..., C), numpy or torch, columns as in `codes.CODES`.
            other: the same; they broadcast.

        Returns:
            float64 (...), in [0, 1]; 0 where it is below the threshold.
        """
        xp = namespace(one)
        a = {name: one[..., column] for column, name in enumerate(CODES)}
        b = {name: other[..., column] for column, name in enumerate(CODES)}
        differ = {
            name: (a[name] != b[name]) & (a[name] != UNKNOWN) & (b[name] != UNKNOWN)
            for name in ("laterality", "view_position")
        }
        dated = (a["day"] != UNKNOWN) & (b["day"] != UNKNOWN)
        days, studies = abs(a["day"] - b["day"]), abs(a["order"] - b["order"])
        value = xp.where(dated, self._kernel(xp, days, "days"), self._kernel(xp, studies, "studies"))
        value = xp.where(differ["view_position"] & ~differ["laterality"], value * self.other_view, value)
        value = xp.where(differ["laterality"], value * self.other_laterality, value)
        value = xp.where(a["study"] == b["study"], 1.0, value)
        return xp.where((a["patient"] == b["patient"]) & (value >= self.threshold), value, 0.0)

    def _kernel(self, xp: Any, distance: Any, unit: Literal["days", "studies"]) -> Any:
        if self.kernel == "table":
            assert self.table is not None  # checked in __post_init__
            return self.table.look_up(xp, distance, unit)
        if self.kernel == "step":
            cutoff = self.cutoff_days if unit == "days" else self.cutoff_studies
            return xp.where(distance <= cutoff, xp.ones_like(distance, dtype=xp.float64), 0.0)
        half_life = self.half_life_days if unit == "days" else self.half_life_studies
        return xp.exp2(-xp.asarray(distance, dtype=xp.float64) / half_life)


def namespace(array: Any) -> Any:
    """Numpy or torch, whichever the array is of; torch is imported only where it is used already."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def _check(name: str, value: Any, rule: str, holds: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not holds(value):
        raise CxrPairError(f"affinity#{name} is {value!r}: use a number {rule}")
