from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.uid import UID

from monai_cxrpair.phantom import PhantomSettings, draw_patient, draw_radiographs, write_phantom


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    out = tmp_path_factory.mktemp("dicom") / "out"
    write_phantom(out, patients=25, file_format="dicom", seed=3)
    with (out / "truth.csv").open(newline="", encoding="utf-8") as file:
        return out, list(csv.DictReader(file))


def test_an_independent_reader_shows_the_picture_in_both_polarities(phantom: tuple[Path, list[dict[str, str]]]) -> None:
    out, truth = phantom
    settings = PhantomSettings()
    items = [
        item
        for patient in range(25)
        for item in draw_radiographs(draw_patient(settings, seed=3, patient=patient), seed=3, settings=settings)
    ]
    polarities = set()
    for row, item in list(zip(truth, items, strict=True))[:40]:
        # highdicom applies modality LUT, VOI LUT where there is one, and the presentation LUT, and scales to [0, 1].
        shown = highdicom.imread(out / row["path"]).get_frame(1, apply_voi_transform=None)
        polarities.add(row["monochrome1"])
        np.testing.assert_allclose(shown, np.clip(item.render(), 0, 1), atol=1 / 2800)
    assert polarities == {"0", "1"}


def test_the_headers_carry_what_a_pacs_export_carries(phantom: tuple[Path, list[dict[str, str]]]) -> None:
    out, truth = phantom
    classes, lateralities = set(), 0
    for row in truth:
        data = pydicom.dcmread(out / row["path"])
        assert data.PatientID == row["patient_id"]
        assert data.StudyInstanceUID == row["study_id"]
        assert data.SOPInstanceUID == row["image_id"] == data.file_meta.MediaStorageSOPInstanceUID
        for uid in (data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID):
            assert UID(uid).is_valid
        classes.add((data.SOPClassUID.name, data.Modality))
        assert data.pixel_array.shape == PhantomSettings().shape
        assert (data.BitsAllocated, data.BitsStored, data.HighBit) == (16, 12, 11)
        assert data.pixel_array.max() <= 4095
        assert data.PhotometricInterpretation == ("MONOCHROME1" if row["monochrome1"] == "1" else "MONOCHROME2")
        assert (data.BodyPartExamined, data.PatientSex) == ("CHEST", row["sex"])
        born, taken = (date.fromisoformat(str(value)) for value in (data.PatientBirthDate, data.StudyDate))
        assert taken.isoformat() == row["study_date"]
        assert data.PatientAge == f"{int(row['age']):03d}Y"
        assert (taken - born).days / 365.25 == pytest.approx(int(row["age"]) + 0.5, abs=0.51)
        assert data.BurnedInAnnotation == "NO", "the letters on it identify nobody"
        for name in ("PatientName", "AccessionNumber", "StudyTime", "SeriesDescription", "ImagerPixelSpacing"):
            assert data[name].value, name
        is_lateral = data.ViewPosition in ("LL", "RL", "LATERAL")
        lateralities += (is_lateral and row["laterality"] == "lateral") or (
            data.ViewPosition in ("AP", "PA") and row["laterality"] == "frontal"
        )
    assert {modality for _, modality in classes} == {"CR", "DX"}
    assert lateralities >= 0.96 * len(truth), "all but a few view positions say the laterality"


def test_a_window_leaves_room_so_that_ignoring_it_shows(phantom: tuple[Path, list[dict[str, str]]]) -> None:
    out, truth = phantom
    for row in truth[:10]:
        data = pydicom.dcmread(out / row["path"])
        assert data.VOILUTFunction == "LINEAR"
        assert data.WindowWidth < 4000


def test_study_level_attributes_are_equal_in_all_objects_of_a_study(
    phantom: tuple[Path, list[dict[str, str]]],
) -> None:
    out, truth = phantom
    names = ("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "PatientID", "PatientName", "PatientBirthDate")
    seen: dict[str, tuple[str, ...]] = {}
    for row in truth:
        data = pydicom.dcmread(out / row["path"], stop_before_pixels=True)
        values = tuple(str(data[name].value) for name in names)
        assert seen.setdefault(row["study_id"], values) == values
    assert len(seen) < len(truth)


def test_uids_are_unique_where_they_must_be(phantom: tuple[Path, list[dict[str, str]]]) -> None:
    _, truth = phantom
    assert len({row["image_id"] for row in truth}) == len(truth)
    assert len({(row["patient_id"], row["study_id"]) for row in truth}) == len({row["study_id"] for row in truth})
