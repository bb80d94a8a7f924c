"""How long a reader waits for a new head: `refit` on 1,000 answered studies, against a claim of 5 s.

    python benchmarks/refit.py [--patients 400] [--rounds 5]

Phantom studies and a ResNet-18 with random weights (512 features), embedded before the clock starts, as the app does
when it starts. Everything that a refit does is timed: the search for the regularisation, the patient-grouped folds, the
comparison with the present head by bootstrap, and writing the new classifier.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from monai_cxrpair.contrast import build_encoder
from monai_cxrpair.evaluation.classifier import Classifier, save_classifier
from monai_cxrpair.label.answers import Answers
from monai_cxrpair.label.reader_model import ReaderModel
from monai_cxrpair.label.refit import refit
from monai_cxrpair.label.studies import Studies
from monai_cxrpair.phantom import write_phantom

FINDING, STUDIES, CLAIM = "pleural_effusion", 1000, 5.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_phantom(folder / "studies", patients=given.patients, file_format="dicom", seed=2)
        truth = pd.read_csv(folder / "studies" / "truth.csv").set_index("path")[FINDING]
        studies = Studies.read(folder / "studies", key_folder=folder)
        torch.manual_seed(0)
        pixels = {"image_size": 64, "mean": 0.5, "std": 0.25}
        card = {"finding": FINDING, "preprocessing": pixels, "operating_point": None}
        encoder_card = {"encoder": "resnet18", "preprocessing": pixels}
        network = Classifier(build_encoder("resnet18"), features=512).eval()
        (folder / "model").mkdir()
        file = save_classifier(network, folder / "model", {**card, "encoder_card": encoder_card})
        model = ReaderModel(file, studies, cache_folder=folder / "cache", num_workers=2)
        model.scores()

        answers = Answers(folder / "answers.jsonl")
        for study in list(studies)[:STUDIES]:
            path = studies[study].radiographs[0].path.relative_to(folder / "studies")
            answers.add(study, FINDING, "present" if truth[str(path)] else "absent", reader="kim")
        times, counts = [], {}
        for _ in range(given.rounds):
            began = time.perf_counter()
            counts = refit(model, answers).counts
            times.append(time.perf_counter() - began)
    print(
        f"refit on {counts['studies']} studies, {counts['radiographs']} radiographs of {counts['patients']} patients: "
        f"{statistics.median(times):.2f} s (median of {len(times)}, {min(times):.2f} to {max(times):.2f}); "
        f"claim: under {CLAIM:.0f} s"
    )


if __name__ == "__main__":
    main()
