"""A hospital in small: pictures of 48 pixels in which an effusion is a bright corner, and a classifier of them."""

import cv2
import numpy as np
import pandas as pd
import torch
from real_run import SmallEncoder

from monai_cxrpair.cohort import Cohort
from monai_cxrpair.evaluation.classifier import Classifier, save_classifier
from monai_cxrpair.label.studies import Studies

FINDING = "pleural_effusion"
SIZE, WIDTH = 48, 32
OWN = {"_target_": "real_run.SmallEncoder", "width": WIDTH}


def make_studies(folder, *, patients=40, signal=120, seed=0):
    """Two studies a patient, of one and of two radiographs; gives them and the truth of each study."""
    rng, rows, truth = np.random.default_rng(seed), [], {}
    (folder / "images").mkdir(parents=True)
    for patient in range(patients):
        for visit in range(2):
            study = f"s{patient}_{visit}"
            truth[study] = float(rng.random() < 0.5)
            for image, laterality in enumerate(["lateral", "frontal"][: visit + 1]):
                pixels = rng.integers(60, 120, (SIZE, SIZE + 4 * visit)) + rng.integers(-5, 5)
                pixels[24:, :24] += int(signal * truth[study])
                path = f"images/{study}_{image}.png"
                cv2.imwrite(str(folder / path), np.clip(pixels, 0, 255).astype(np.uint8))
                name = {"image_id": f"{study}_{image}", "patient_id": f"p{patient}", "study_id": study, "path": path}
                rows.append({**name, "laterality": laterality})
    return Studies(Cohort(pd.DataFrame(rows), root=folder, findings=[], source="table")), truth


def write_model(folder, *, seed=0, weight=None):
    """A classifier whose head is noise, or given."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    network = Classifier(SmallEncoder(width=WIDTH), features=WIDTH).eval()
    if weight is not None:
        network.fc.load_state_dict(
            {"weight": torch.as_tensor(weight, dtype=torch.float32)[None], "bias": torch.zeros(1)}
        )
    pixels = {"image_size": SIZE, "mean": 0.4, "std": 0.2}
    point = {"threshold": 0.4, "rule": "youden"}
    card = {"finding": FINDING, "operating_point": point, "test_auc": 0.9, "preprocessing": pixels}
    save_classifier(network, folder, {**card, "encoder_card": {"encoder": OWN, "preprocessing": pixels}})
    return folder / "model.pt"


def say(answers, truth, studies):
    """A reader who is always right."""
    for study in studies:
        answers.add(study, FINDING, "present" if truth[study] else "absent", reader="Ada")
