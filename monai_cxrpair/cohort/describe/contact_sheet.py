"""Which radiographs stand on a contact sheet, and what is written beneath them."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from monai_cxrpair.cohort import views
from monai_cxrpair.cohort.cohort import Cohort
from monai_cxrpair.cohort.deidentify import OLDEST_SHOWN
from monai_cxrpair.cohort.describe.table_one import DEFAULT_FINDING, SEX_WORDS

_FEW = 2  # studies of a patient and radiographs of a study, as long as other patients fill the sheet
_STATE_WORDS = {1.0: "present", 0.0: "absent", -1.0: "uncertain"}
_LATERALITY_RANKS = {"frontal": 0, "lateral": 1, "unknown": 2}


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One radiograph of the sheet.

    Attributes:
        row: Its row number in the cohort.
        patient: Number of the patient on the sheet, from 1; no identifier.
        study: Number of the study among those of the patient on the sheet, from 1.
        days: Calendar days since the study before on the sheet; None for the first, and where a date is missing.
        caption: Laterality, view, age, sex, finding.
    """

    row: int
    patient: int
    study: int
    days: int | None
    caption: str


def choose(cohort: Cohort, pictures: int, *, seed: int, finding: str | None = None) -> list[Tile]:
    """Draw radiographs that show what a pairing rule meets: frontals beside laterals, studies beside later ones.

    Patients are drawn in turn from strata: with or without a study of a frontal and a lateral, one or several studies,
    finding present or not or uncertain. So rare constellations are on the sheet, and it is no random sample.

    Args:
        cohort: The radiographs.
        pictures: How many are wanted.
        seed: Another seed draws other patients.
        finding: The finding of the captions; where the cohort has none of this name, pleural effusion or its first.

    Returns:
        Radiographs, those of a patient and of a study beside each other; fewer where the cohort has fewer.
    """
    if not pictures:
        return []
    finding = next((name for name in (finding, DEFAULT_FINDING, *cohort.findings) if name in cohort.findings), None)
    table = cohort.table
    table["row"] = np.arange(len(table))
    table["side"] = table["laterality"].map(_LATERALITY_RANKS)
    table["value"] = table[finding] if finding is not None else np.nan
    table = table.sort_values(["study_order", "side", "row"], kind="stable")
    few = _fewer(table)
    drawn = _draw(few, seed).head(pictures)
    if len(drawn) < pictures:  # few patients: then all that they have
        drawn = _draw(table, seed).head(pictures)
    return _tiles(drawn, finding)


def _fewer(table: pd.DataFrame) -> pd.DataFrame:
    """Keep of each study one radiograph of each laterality, and of each patient the studies with most lateralities."""
    table = table.drop_duplicates(["study_id", "side"])
    table = table[table.groupby("study_id", sort=False).cumcount() < _FEW]
    studies = table.groupby(["patient_id", "study_id"], sort=False)["side"].count().reset_index()
    studies = studies.sort_values("side", ascending=False, kind="stable")
    kept = studies.loc[studies.groupby("patient_id", sort=False).cumcount() < _FEW, "study_id"]
    return table[table["study_id"].isin(kept)]


def _draw(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Put the patients into the order in which they come onto the sheet."""
    pairs = table.groupby("study_id", sort=False)["side"].nunique()
    patients = table.groupby("patient_id", sort=True).agg(
        several=("study_id", "nunique"), present=("value", "max"), uncertain=("value", "min")
    )
    patients["several"] = patients["several"] > 1
    paired = table.loc[table["study_id"].isin(pairs.index[pairs > 1]), "patient_id"]
    patients["paired"] = patients.index.isin(paired.unique())
    patients["state"] = np.select([patients["present"] == 1, patients["uncertain"] == -1], [0, 2], 1)
    patients = patients.iloc[np.random.default_rng(seed).permutation(len(patients))]
    stratum = ["paired", "several", "state"]
    patients["turn"] = patients.groupby(stratum).cumcount()
    patients = patients.sort_values(
        ["turn", "paired", "several", "state"], ascending=[True, False, False, True], kind="stable"
    )
    place = pd.Series(np.arange(1, len(patients) + 1), index=patients.index)
    return table.assign(place=table["patient_id"].map(place)).sort_values(
        ["place", "study_order", "side", "row"], kind="stable"
    )


def _tiles(drawn: pd.DataFrame, finding: str | None) -> list[Tile]:
    tiles: list[Tile] = []
    patient, study, day = None, None, pd.NaT
    number, days = 0, None
    for radiograph in drawn.to_dict("records"):
        if radiograph["patient_id"] != patient:
            patient, study, day, number, days = radiograph["patient_id"], None, pd.NaT, 0, None
        if radiograph["study_id"] != study:
            taken = radiograph["study_datetime"]
            taken = taken.normalize() if taken is not pd.NaT else pd.NaT
            days = None if pd.isna(taken) or pd.isna(day) else (taken - day).days
            study, day, number = radiograph["study_id"], taken, number + 1
        tiles.append(
            Tile(
                row=int(radiograph["row"]),
                patient=int(radiograph["place"]),
                study=number,
                days=days,
                caption=_caption(radiograph, finding),
            )
        )
    return tiles


def _caption(radiograph: Mapping[Hashable, Any], finding: str | None) -> str:
    parts = [radiograph["laterality"], views.normal_position(radiograph["view_position"])]
    age = float(radiograph["age"])
    if age == age:
        years = "under 2 y" if age < 2 else f"{int(age)} y"  # months would tell an infant from others
        parts.append(f"{OLDEST_SHOWN} y or older" if age >= OLDEST_SHOWN else years)
    parts.append(SEX_WORDS[radiograph["sex"]] if radiograph["sex"] else "")
    if finding is not None:
        state = _STATE_WORDS.get(float(radiograph["value"]), "not mentioned")
        parts.append(f"{finding.replace('_', ' ')} {state}")
    return " · ".join(part for part in parts if part)
