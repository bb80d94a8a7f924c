"""How long a reader waits for a new head: `refit` on 1,000 answered studies, against a claim of 5 s.

    python benchmarks/refit.py [--patients 400] [--rounds 5]
    python benchmarks/refit.py --patients 60 --studies 100 --image-size 224 --fine-tune 10 --rounds 1

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
from monai_cxrpair.label.fine_tuning import FineTuning
from monai_cxrpair.label.reader_model import ReaderModel
from monai_cxrpair.label.refit import refit
from monai_cxrpair.label.studies import Studies
from monai_cxrpair.phantom import write_phantom

FINDING, CLAIM = "pleural_effusion", 5.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--studies", type=int, default=1000, help="that are answered")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--fine-tune", type=int, default=0, help="epochs; 0: a new head only")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_phantom(folder / "studies", patients=given.patients, file_format="dicom", seed=2)
        truth = pd.read_csv(folder / "studies" / "truth.csv").set_index("path")[FINDING]
        studies = Studies.read(folder / "studies", key_folder=folder)
        torch.manual_seed(0)
        pixels = {"image_size": given.image_size, "mean": 0.5, "std": 0.25}
        card = {"finding": FINDING, "preprocessing": pixels, "operating_point": None}
        encoder_card = {"encoder": "resnet18", "preprocessing": pixels}
        network = Classifier(build_encoder("resnet18"), features=512).eval()
        (folder / "model").mkdir()
        file = save_classifier(network, folder / "model", {**card, "encoder_card": encoder_card})
        model = ReaderModel(file, studies, cache_folder=folder / "cache", num_workers=2)
        model.scores()

        answers = Answers(folder / "answers.jsonl")
        for study in list(studies)[: given.studies]:
            path = studies[study].radiographs[0].path.relative_to(folder / "studies")
            answers.add(study, FINDING, "present" if truth[str(path)] else "absent", reader="kim")
        times, counts = [], {}
        for _ in range(given.rounds):
            began = time.perf_counter()
            learning = FineTuning(model, max_epochs=given.fine_tune) if given.fine_tune else None
            counts = refit(model, answers, learning=learning).counts
            times.append(time.perf_counter() - began)
    what = f"fine-tuning, {given.fine_tune} epochs, six times," if given.fine_tune else "refit"
    print(
        f"{what} on {counts['studies']} studies, {counts['radiographs']} radiographs of {counts['patients']} patients: "
        f"{statistics.median(times):.2f} s (median of {len(times)}, {min(times):.2f} to {max(times):.2f})"
        + ("" if given.fine_tune else f"; claim: under {CLAIM:.0f} s")
    )


if __name__ == "__main__":
    main()
