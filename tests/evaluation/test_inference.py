"""Inference through the bundle's config, with a classifier of random weights on phantoms and what surrounds them."""

import csv
import json
import logging
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ConfigWorkflow

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.index import index_source
from monai_cxrpair.contrast import build_encoder
from monai_cxrpair.evaluation import classifier_network, load_classifier
from monai_cxrpair.evaluation.calibrate import calibrated
from monai_cxrpair.evaluation.classifier import Classifier, save_classifier
from monai_cxrpair.evaluation.inference import COLUMNS
from monai_cxrpair.evaluation.input_check import input_statistics
from monai_cxrpair.imaging import read_radiograph
from monai_cxrpair.phantom import write_phantom

SIZE = 48
PIXELS = {"image_size": SIZE, "mean": 0.5, "std": 0.25}
CARD = {
    "finding": "pleural_effusion",
    "network": "resnet18",
    "preprocessing": PIXELS,
    "encoder_card": {"encoder": "resnet18", "preprocessing": PIXELS},
    "operating_point": {"threshold": 0.5},
    "calibration": {"slope": 2.0, "intercept": -1.0},
}


def _view(path):
    pixels = read_radiograph(path)[0]
    scale = SIZE / min(pixels.shape)
    shape = max(SIZE, round(pixels.shape[1] * scale)), max(SIZE, round(pixels.shape[0] * scale))
    small = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)
    top, left = (length // 2 - SIZE // 2 for length in small.shape)
    return small[top : top + SIZE, left : left + SIZE]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A phantom export and a classifier that knows what its frontal radiographs look like."""
    place = tmp_path_factory.mktemp("inference")
    write_phantom(place / "pacs", patients=16, file_format="dicom", seed=5)
    torch.manual_seed(0)
    network = Classifier(build_encoder("resnet18"), features=512)
    files = sorted((place / "pacs").rglob("*.dcm"))
    pictures = [read_radiograph(file)[0] for file in files]
    statistics = input_statistics(
        [np.rint(_view(file) * 255).astype(np.uint8) for file in files],
        [p.shape[0] / p.shape[1] for p in pictures],
        [min(p.shape) for p in pictures],
    )
    save_classifier(network, place / "model", {**CARD, "input": statistics})
    return place


@pytest.fixture(autouse=True)
def _keep_the_exception_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def infer(bundle, model, **override):
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.yaml"), run_id="inference", logging_file=False,
        bundle_root=str(bundle), workflow_type="infer", model_file=str(model / "model.pt"), **override,
    )  # fmt: skip
    workflow.initialize()
    workflow.run()
    with (Path(override["output_dir"]) / "predictions.csv").open() as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
        assert tuple(reader.fieldnames) == COLUMNS
    return rows


def test_a_folder_of_everything_gets_a_line_for_each_file(place, bundle, tmp_path):
    folder = tmp_path / "in"
    (folder / "png").mkdir(parents=True)
    files = sorted((place / "pacs").rglob("*.dcm"))
    headers = [pydicom.dcmread(file) for file in files]
    studies = [str(header.StudyInstanceUID) for header in headers]
    several = next(study for study in studies if studies.count(study) > 1)
    same = [i for i, study in enumerate(studies) if study == several]
    other = next(i for i, study in enumerate(studies) if study != several)
    shutil.copy(files[same[0]], folder / "a.dcm")
    shutil.copy(files[same[1]], folder / "b.dcm")
    changes = {
        "ct": {"Modality": "CT"}, "dr": {"Modality": "DR"},
        "hip": {"BodyPartExamined": "HIP", "AnatomicRegionSequence": []},
        "nobody": {"PatientID": ""},
        "blind": {"ViewPosition": "", "ViewCodeSequence": [], "PatientOrientation": "", "SeriesDescription": "",
                  "ProtocolName": ""},
    }  # fmt: skip
    for name, values in changes.items():
        dataset = pydicom.dcmread(files[other])
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / f"{name}.dcm")
    grey = np.rint(read_radiograph(files[0])[0] * 255).astype(np.uint8)
    for name, picture in {"chest.png": grey, "chest.jpg": grey, "inverted.png": 255 - grey}.items():
        assert cv2.imwrite(str(folder / "png" / name), picture)
    noise = np.random.default_rng(0).integers(0, 256, (256, 256)).astype(np.uint8)
    assert cv2.imwrite(str(folder / "noise.png"), noise)
    (folder / "notes.txt").write_text("not a radiograph")

    out, maps = tmp_path / "out", tmp_path / "maps"
    found = infer(bundle, place / "model", dataset_dir=str(folder), output_dir=str(out), overlay_dir=str(maps))
    rows = {row["image_id"]: row for row in found}
    assert len(rows) == 12

    not_scored = {"ct.dcm": "other modality CT", "hip.dcm": "other body part", "notes.txt": "not a DICOM"}
    for name, reason in not_scored.items():
        assert reason in rows[name]["error"]
        assert rows[name]["probability"] == rows[name]["calibrated_probability"] == rows[name]["positive"] == ""
    network = load_classifier(classifier_network(place / "model" / "model.pt"), place / "model" / "model.pt")
    for name in rows.keys() - not_scored:
        assert rows[name]["error"] == ""
        with torch.no_grad():
            logit = float(network(torch.from_numpy((_view(folder / name) - 0.5) / 0.25)[None, None]))
        assert float(rows[name]["probability"]) == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-4)
        assert float(rows[name]["calibrated_probability"]) == pytest.approx(1 / (1 + np.exp(1 - 2 * logit)), abs=1e-4)
        assert rows[name]["positive"] == str(int(logit >= 0))

    assert "unknown view" in rows["blind.dcm"]["warning"]
    assert "arranged otherwise" in rows["png/inverted.png"]["warning"]
    assert "less contrast" in rows["noise.png"]["warning"]  # averaged over, noise is an even grey
    for name in ("a.dcm", "b.dcm", "dr.dcm", "nobody.dcm", "png/chest.png", "png/chest.jpg"):
        assert rows[name]["warning"] == "", name

    assert rows["a.dcm"]["study_id"] == rows["b.dcm"]["study_id"] != rows["ct.dcm"]["study_id"]
    assert rows["ct.dcm"]["study_id"] == rows["dr.dcm"]["study_id"] == rows["nobody.dcm"]["study_id"]
    assert rows["png/chest.png"]["study_id"] == "png"
    assert rows["noise.png"]["study_id"] == ""
    text = (out / "predictions.csv").read_text()
    for dataset in headers:
        assert str(dataset.StudyInstanceUID) not in text
        assert str(dataset.PatientID) not in text
    for file in (out / "predictions.csv", out / "predictions.key", *maps.iterdir()):
        assert file.stat().st_mode & 0o077 == 0

    # The n-th line has the n-th heat map; the radiograph shines through where the classifier does not look.
    scored = [number for number, row in enumerate(found, 1) if not row["error"]]
    assert sorted(p.name for p in maps.iterdir()) == [f"{number:06d}.png" for number in scored]
    assert cv2.imread(str(maps / f"{scored[0]:06d}.png")).shape == (SIZE, SIZE, 3)

    again = infer(bundle, place / "model", dataset_dir=str(folder), output_dir=str(out))
    assert again == found


def test_a_cohort_keeps_its_studies_and_says_which_views_are_unknown(place, bundle, tmp_path):
    index_source(place / "pacs", out=tmp_path / "c.parquet")
    cohort = Cohort.read(tmp_path / "c.parquet")
    table = cohort.table.copy()
    table.loc[0, "laterality"] = "unknown"
    Cohort(table, root=cohort.root, findings=[], source="table").write(tmp_path / "changed.parquet")
    rows = infer(bundle, place / "model", cohort_file=str(tmp_path / "changed.parquet"), output_dir=str(tmp_path))
    assert [row["study_id"] for row in rows] == table["study_id"].tolist()
    assert [("unknown view" in row["warning"]) for row in rows] == [True] + [False] * (len(rows) - 1)
    assert not (tmp_path / "predictions.key").exists()


def test_a_card_of_an_older_version_works_and_says_once_what_it_lacks(place, bundle, tmp_path, caplog):
    old = tmp_path / "old"
    shutil.copytree(place / "model", old)
    card = json.loads((old / "model.json").read_text())
    for key in ("input", "calibration", "operating_point"):
        del card[key]
    (old / "model.json").write_text(json.dumps(card))
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (256, 256)).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), noise)
    with caplog.at_level(logging.WARNING):
        rows = infer(bundle, old, dataset_dir=str(folder), output_dir=str(tmp_path))
    assert [row["warning"] + row["calibrated_probability"] + row["positive"] for row in rows] == [""] * 3
    assert sum("does not say what the training radiographs were like" in r.getMessage() for r in caplog.records) == 1


@pytest.mark.parametrize("probability", [0.0, 0.2, 1.0])
def test_calibration_keeps_probabilities_within_bounds_and_a_card_without_one_gives_none(probability):
    assert calibrated(probability, None) is None
    assert calibrated(probability, {"slope": 1.0, "intercept": 0.0}) == pytest.approx(probability, abs=1e-6)
    assert 0 <= calibrated(probability, {"slope": 5.0, "intercept": 3.0}) <= 1
    halved = calibrated(probability, {"slope": 0.5, "intercept": 0.0})
    assert calibrated(probability, {"temperature": 2.0}) == halved  # as some cards of before have it
