"""The subgroups that every report shows: sex, age band, view, support devices."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

# Patients with and without the finding that an AUC with an interval needs: with fewer than ten of either, replicates
# without both are no longer rare and the percentile interval covers far less than it says.
MIN_PATIENTS = 10
# Half-open; decades would leave the youngest and the oldest empty in most cohorts.
AGE_BANDS = ((0, 40), (40, 60), (60, 80), (80, np.inf))
SEXES = {"F": "female", "M": "male"}
DEVICES = "support_devices"


def standard_subgroups(table: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Masks for the subgroups that the table has columns for.

    Args:
        table: of a cohort: `sex`, `age`, `view_position`, `laterality`, and the finding `support_devices` where there.

    Returns:
        Name -> (N,) mask, such as `sex: female` or `view: AP`. A kind with one group only, which would be everybody
        with a known value, is left out; so are unknown values and uncertain devices.
    """
    groups: dict[str, NDArray[np.bool_]] = {}
    for kind in (_sex, _age, _view, _devices):
        found = {name: mask for name, mask in kind(table) if mask.any()}
        if len(found) > 1:
            groups.update(found)
    return groups


def too_few(present: NDArray[np.bool_], patients: NDArray[np.int64], *, what: str = "radiographs") -> str | None:
    """Why a subgroup has no AUC, or None where it has one: see `MIN_PATIENTS`.

    Args:
        present: (n,) labels of the subgroup's test radiographs or studies.
        patients: (n,).
        what: is tested, in the plural.

    Returns:
        A sentence for the reader.
    """
    if not len(present):
        return f"no labelled test {what} in this subgroup"
    if present.all() or not present.any():
        return f"all {len(present)} labelled test {what} are {'with' if present.all() else 'without'} the finding"
    sick, well = (len(np.unique(patients[rows])) for rows in (present, ~present))
    if min(sick, well) < MIN_PATIENTS:
        return f"too few: {sick} patients with and {well} without the finding, at least {MIN_PATIENTS} of each needed"
    return None


def _sex(table: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    values = table["sex"].to_numpy(dtype=object)
    for code, name in SEXES.items():
        yield f"sex: {name}", np.asarray(values == code)


def _age(table: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    ages = pd.to_numeric(table["age"]).to_numpy(dtype=np.float64)
    for low, high in AGE_BANDS:
        name = f"{low} and older" if np.isinf(high) else f"under {high:.0f}" if low == 0 else f"{low} to {high - 1:.0f}"
        yield f"age: {name}", (ages >= low) & (ages < high)


def _view(table: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    position, laterality = (table[name].to_numpy(dtype=object) for name in ("view_position", "laterality"))
    for name in ("AP", "PA"):
        yield f"view: {name}", np.asarray(position == name) & np.asarray(laterality != "lateral")
    yield "view: lateral", np.asarray(laterality == "lateral")


def _devices(table: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    if DEVICES in table:
        values = pd.to_numeric(table[DEVICES]).to_numpy(dtype=np.float64)
        yield "devices: seen", values == 1
        # CheXpert leaves blank what the report does not mention.
        yield "devices: none mentioned", (values == 0) | np.isnan(values)
