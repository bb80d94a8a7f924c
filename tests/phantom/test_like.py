from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.phantom import PhantomSettings, write_phantom
from monai_cxrpair.phantom.like import plans_like
from monai_cxrpair.phantom.settings import STRUCTURES


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    records = []
    for patient in range(60):
        for study in range(int(rng.integers(1, 4))):
            label = rng.choice([1.0, 0.0, -1.0, np.nan])
            for image, (laterality, view) in enumerate([("frontal", "PA"), ("lateral", "LL")][: rng.integers(1, 3)]):
                records.append(
                    {
                        "image_id": f"i{patient}.{study}.{image}", "patient_id": f"p{patient}",
                        "study_id": f"s{patient}.{study}", "study_order": study, "laterality": laterality,
                        "view_position": view, "age": 40.0 + study, "sex": "F" if patient % 2 else "M",
                        "pleural_effusion": label,
                    }
                )  # fmt: skip
    frame = pd.DataFrame(records)
    frame.loc[3, ["laterality", "view_position", "age", "sex"]] = ["unknown", None, np.nan, None]
    return frame


def test_patients_studies_views_ages_and_labels_are_copied() -> None:
    source = table()
    plans = list(plans_like(PhantomSettings(), source, patients=1000, seed=1))
    assert len(plans) == source.patient_id.nunique(), "no more patients than the cohort has"
    known = source.set_index("image_id")
    seen = 0
    for plan in plans:
        for study in plan.studies:
            for view in study.radiographs:
                row = known.loc[view.source_image_id]
                seen += 1
                if row.laterality != "unknown":
                    assert (view.laterality, view.view_position) == (row.laterality, row.view_position)
                    assert plan.age_at(study.day) == row.age
                    assert plan.sex == row.sex
                else:
                    assert view.laterality == "frontal"
                if row.pleural_effusion in (0.0, 1.0):
                    assert (max(study.effusion) > 0) == (row.pleural_effusion == 1.0)
                elif np.isnan(row.pleural_effusion):
                    assert max(study.effusion) == 0
    assert seen == len(source)


def test_a_table_with_pandas_own_types_gives_the_same_plans() -> None:
    source = table()
    typed = source.astype(
        {"patient_id": "category", "study_id": "category", "laterality": "category", "view_position": "string",
         "sex": "category", "pleural_effusion": "Int8"}
    )  # fmt: skip
    settings = PhantomSettings()
    expected = list(plans_like(settings, source, patients=60, seed=1))
    assert list(plans_like(settings, typed, patients=60, seed=1)) == expected


def test_half_of_the_uncertain_studies_have_an_effusion() -> None:
    source = table()
    source["pleural_effusion"] = -1.0
    plans = plans_like(PhantomSettings(), source, patients=60, seed=1)
    present = [max(study.effusion) > 0 for plan in plans for study in plan.studies]
    assert 0.35 < np.mean(present) < 0.65


def test_the_first_patients_are_a_seeded_choice() -> None:
    source = table()

    def chosen(patients: int, seed: int) -> list[str]:
        plans = plans_like(PhantomSettings(), source, patients=patients, seed=seed)
        return [plan.studies[0].radiographs[0].source_image_id for plan in plans]

    assert chosen(5, 1) == chosen(20, 1)[:5]
    assert chosen(5, 1) != chosen(5, 2)


def test_which_radiograph_each_stands_for_is_written_for_the_owner_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = table()
    monkeypatch.setattr("monai_cxrpair.phantom.write.read_like", lambda path: source)
    write_phantom(tmp_path / "out", patients=4, file_format="png", seed=1, like=tmp_path / "cohort.parquet")
    with (tmp_path / "out" / "truth.csv").open(newline="", encoding="utf-8") as file:
        truth = list(csv.DictReader(file))
    with (tmp_path / "out" / "sources.csv").open(newline="", encoding="utf-8") as file:
        sources = {row["image_id"]: row["source_image_id"] for row in csv.DictReader(file)}
    assert set(sources) == {row["image_id"] for row in truth}
    assert set(sources.values()) <= set(source.image_id)
    assert (tmp_path / "out" / "sources.csv").stat().st_mode & 0o777 == 0o600
    shared = "".join(
        path.read_text() for path in (tmp_path / "out").glob("*") if path.name in ("truth.csv", "index.csv")
    )
    assert not any(name in shared for name in source.image_id)
    assert len({row["patient_id"] for row in truth}) == 4


def test_more_patients_than_there_are_to_copy_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = table()
    monkeypatch.setattr("monai_cxrpair.phantom.write.read_like", lambda path: source)
    with pytest.raises(CxrPairError, match=f"patients=61, but c.parquet has {source.patient_id.nunique()} to copy"):
        write_phantom(tmp_path / "out", patients=61, file_format="png", seed=1, like=Path("c.parquet"))
    assert not (tmp_path / "out").exists()


def test_a_cohort_file_that_is_not_there_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(CxrPairError, match=r"missing\.parquet"):
        write_phantom(tmp_path / "out", patients=1, file_format="png", seed=1, like=tmp_path / "missing.parquet")
    assert not (tmp_path / "out").exists()


def test_with_the_structure_of_mimic_only_the_radiographs_of_the_studies_differ() -> None:
    source = table()
    copied = list(plans_like(PhantomSettings(), source, patients=1000, seed=1))
    drawn = list(plans_like(STRUCTURES["mimic"], source, patients=1000, seed=1, draw_radiographs=True))
    for one, other in zip(copied, drawn, strict=True):
        assert [(visit.day, visit.effusion) for visit in one.studies] == [
            (visit.day, visit.effusion) for visit in other.studies
        ]
        assert (one.age, one.sex) == (other.age, other.sex)
    counts = [len(visit.radiographs) for plan in drawn for visit in plan.studies]
    # 377,110 / 227,835; the standard error of some 120 studies is 0.06.
    assert np.mean(counts) == pytest.approx(1.66, abs=0.2)


def test_an_unknown_structure_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CxrPairError, match="structure 'padchest' is unknown; use chexpert or mimic"):
        write_phantom(tmp_path / "out", patients=1, file_format="png", seed=0, structure="padchest")
