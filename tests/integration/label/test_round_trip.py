"""From the modality to the PACS, to the reader, to a better classifier, and the answer back into the PACS."""

import csv
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pydicom
import pytest
import torch
from sklearn.metrics import roc_auc_score

from monai_cxrpair.contrast import build_encoder, feature_dim
from monai_cxrpair.evaluation.classifier import Classifier, save_classifier
from monai_cxrpair.label.studies import Studies
from monai_cxrpair.phantom import PhantomSettings, draw_patient, draw_radiographs, write_phantom

FINDING, SIZE, ANSWERS = "pleural_effusion", 64, 40
PREPROCESSING = {"image_size": SIZE, "mean": 0.5, "std": 0.25}


def _other_patients(count, *, seed):
    """(n, 1, SIZE, SIZE) normalised, and (n,) effusions, of patients that no server sees."""
    settings, images, present = PhantomSettings(), [], []
    for patient in range(count):
        plan = draw_patient(settings, seed=seed, patient=patient)
        for item in draw_radiographs(plan, seed=seed, settings=settings):
            images.append(cv2.resize(np.clip(item.render(), 0, 1), (SIZE, SIZE), interpolation=cv2.INTER_AREA))
            present.append(item.present)
    pixels = (np.stack(images)[:, None] - PREPROCESSING["mean"]) / PREPROCESSING["std"]
    return torch.from_numpy(pixels.astype(np.float32)), torch.tensor(present, dtype=torch.float32)


def _write_classifier(folder):
    """An encoder that has learned elsewhere what an effusion looks like, under a head that knows nothing: AUC 0.5."""
    pixels, present = _other_patients(160, seed=5)
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", in_channels=1, image_size=SIZE)
    network = Classifier(encoder, features=feature_dim(encoder, image_size=SIZE))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(8):
        for rows in torch.randperm(len(pixels)).split(32):
            optimiser.zero_grad()
            logits = network(pixels[rows])[:, 0]
            torch.nn.functional.binary_cross_entropy_with_logits(logits, present[rows]).backward()
            optimiser.step()
    torch.nn.init.zeros_(network.fc.weight)  # random ones may be good by luck
    folder.mkdir()
    card = {"finding": FINDING, "operating_point": None, "preprocessing": PREPROCESSING}
    encoder_card = {"encoder": "resnet18", "in_channels": 1, "preprocessing": PREPROCESSING}
    save_classifier(network.eval(), folder, {**card, "encoder_card": encoder_card})
    return folder / "model.pt"


def _truth(phantom, app):
    """Study -> effusion; the server's ids are pseudonyms, so the objects' UIDs tell which is which."""
    with (phantom / "truth.csv").open() as file:
        by_uid = {
            str(pydicom.dcmread(phantom / row["path"], stop_before_pixels=True).SOPInstanceUID): int(row[FINDING])
            for row in csv.DictReader(file)
        }
    state = next((app / "state").iterdir())
    studies = Studies.read(state / "pacs", key_folder=state)
    files = {name: study.radiographs[0].path for name, study in studies.items()}
    return {
        name: by_uid[str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)] for name, path in files.items()
    }


def _auc(server, truth, without):
    scores = server.ask("POST", "/scoring/probability?run_sync=true").json()["scores"]
    rest = [study for study in truth if study not in without]
    return roc_auc_score([truth[study] for study in rest], [scores[study] for study in rest])


def _run(*command, **settings):
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, timeout=240, **settings)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


@pytest.mark.slow
def test_forty_answers_make_a_better_classifier_and_its_report_is_in_the_pacs(
    label_environment, orthanc, start_server, bundle, tmp_path
):
    write_phantom(tmp_path / "phantom", patients=60, file_format="dicom", seed=11)
    orthanc.send(tmp_path / "phantom")
    model = _write_classifier(tmp_path / "model")
    with start_server(tmp_path, orthanc.web, model) as server:
        truth = _truth(tmp_path / "phantom", server.app)
        assert len(truth) > ANSWERS + 20

        answered = []
        for _ in range(ANSWERS):
            study = server.ask("POST", "/activelearning/mixed", json={"reader": "kim"}).json()["id"]
            assert server.ask("POST", f"/infer/{FINDING}", params={"image": study, "output": "json"}).ok
            said = json.dumps({FINDING: "present" if truth[study] else "absent", "reader": "kim"})
            files = {"label": ("label.json", said)}
            assert server.ask("PUT", "/datastore/label", params={"image": study, "tag": "final"}, files=files).ok
            answered.append(study)
        assert len(set(answered)) == ANSWERS

        before = _auc(server, truth, answered)
        stats = server.train(FINDING)
        after = _auc(server, truth, answered)
    figures = stats["figures"]
    assert stats["swapped"]
    assert stats["counts"]["studies"] == ANSWERS
    assert figures["new"]["auc"] > figures["present"]["auc"]
    assert before == 0.5
    assert after > 0.6  # of more than 100 studies that nobody has answered

    # The answer goes back: one study, through the inference bundle.
    radiograph = next((tmp_path / "phantom").rglob("*.dcm"))
    shutil.copytree(radiograph.parent, tmp_path / "new")
    options = ["--dataset_dir", tmp_path / "new", "--output_dir", tmp_path / "out", "--dicom_dir", tmp_path / "dicom"]
    config = ["--config_file", "configs/inference.yaml", "--model_file", server.app / "model" / "model.pt"]
    _run("-m", "monai.bundle", "run", "inference", *config, *options, cwd=bundle)
    (report,) = (tmp_path / "dicom").glob("sr-*.dcm")
    _run("-m", "monai_cxrpair.cli", "send", tmp_path / "dicom", "--to", orthanc.web)
    study = str(pydicom.dcmread(radiograph, stop_before_pixels=True).StudyInstanceUID)
    found = orthanc.find_reports(study)
    assert found == [str(pydicom.dcmread(report).SOPInstanceUID)]
