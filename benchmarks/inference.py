"""What the inference config costs beside the work: one warm DICOM study, against decoding it and running the network.

    python benchmarks/inference.py [--rounds 21] [--side 2048] [--threads 2]

A study of two radiographs (16 bits stored, 12 used, uncompressed; PA and lateral) and a ResNet-18 at 224 pixels. Ours:
the evaluator of `bundle/configs/inference.yaml`, everything that one run does: headers, decoding, resizing, comparing
with the training radiographs, the network, `predictions.csv` written to disk. Against: `read_radiograph`, resizing to
the view and the same network, nothing written. In turn in one process; the first of each is not counted.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pydicom
import torch
from monai.bundle import ConfigWorkflow

from monai_cxrpair.contrast import build_encoder
from monai_cxrpair.evaluation.classifier import Classifier, save_classifier
from monai_cxrpair.evaluation.input_check import input_statistics
from monai_cxrpair.imaging import read_radiograph
from monai_cxrpair.phantom import write_phantom

SIZE, CLAIM = 224, 1.3
MEAN, STD = 0.5, 0.25


def view(path: Path) -> np.ndarray:
    """The square that the network sees."""
    pixels = read_radiograph(path)[0]
    scale = SIZE / min(pixels.shape)
    shape = max(SIZE, round(pixels.shape[1] * scale)), max(SIZE, round(pixels.shape[0] * scale))
    small = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)
    top, left = (length // 2 - SIZE // 2 for length in small.shape)
    return small[top : top + SIZE, left : left + SIZE]


def write_study(folder: Path, *, side: int) -> list[Path]:
    """One study of a phantom, enlarged to what a detector gives."""
    write_phantom(folder / "phantom", patients=8, file_format="dicom", seed=1)
    files = sorted((folder / "phantom").rglob("*.dcm"))
    (folder / "study").mkdir()
    study = []
    for number, file in enumerate(files[:2]):
        dataset = pydicom.dcmread(file)
        grey = cv2.resize(read_radiograph(file)[0], (side, round(side * 1.2)), interpolation=cv2.INTER_LINEAR)
        stored = np.rint(grey * 4095).astype(np.uint16)
        for name in ("VOILUTSequence", "PresentationLUTShape", "PixelPaddingValue", "ModalityLUTSequence"):
            if name in dataset:
                del dataset[name]
        dataset.set_pixel_data(stored, "MONOCHROME2", 12)
        dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.StudyInstanceUID = "1.2.3"
        study.append(folder / "study" / f"{number}.dcm")
        dataset.save_as(study[-1], enforce_file_format=True)
    return study


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    logging.disable(logging.WARNING)
    bundle = Path(__file__).resolve().parents[1] / "bundle"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        study = write_study(folder, side=asked.side)
        network = Classifier(build_encoder("resnet18"), features=512).eval()
        training = [np.rint(view(path) * 255).astype(np.uint8) for path in study] * 200  # 8 components, as in use
        card = {
            "finding": "pleural_effusion",
            "preprocessing": {"image_size": SIZE, "mean": MEAN, "std": STD},
            "encoder_card": {"encoder": "resnet18", "preprocessing": {"image_size": SIZE, "mean": MEAN, "std": STD}},
            "operating_point": {"threshold": 0.5},
            "calibration": {"slope": 1.0, "intercept": 0.0},
            "input": input_statistics(training, [1.2] * len(training), [asked.side] * len(training)),
        }
        model = save_classifier(network, folder / "model", card)
        workflow = ConfigWorkflow(
            config_file=str(bundle / "configs/inference.yaml"), run_id="inference", logging_file=False,
            bundle_root=str(bundle), workflow_type="infer", model_file=str(model), dataset_dir=str(folder / "study"),
            output_dir=str(folder / "out"), device="cpu",
        )  # fmt: skip
        workflow.initialize()
        config = workflow.parser.get_parsed_content("evaluator").run  # the expression itself is evaluated only once

        def bare() -> None:
            views = torch.from_numpy(np.stack([(view(path) - MEAN) / STD for path in study])[:, None])
            with torch.inference_mode():
                network(views).sigmoid()

        times: dict[str, list[float]] = {"ours": [], "bare": []}
        for number in range(asked.rounds + 1):
            for name, work in (("ours", config), ("bare", bare)) if number % 2 else (("bare", bare), ("ours", config)):
                began = time.perf_counter()
                work()
                if number:
                    times[name].append(time.perf_counter() - began)
    ratios = sorted(ours / base for ours, base in zip(times["ours"], times["bare"], strict=True))
    ours, base = (1000 * statistics.median(times[name]) for name in ("ours", "bare"))
    quarter, ratio = len(ratios) // 4, statistics.median(ratios)
    print(
        f"one study of 2 radiographs of {asked.side} x {round(1.2 * asked.side)} pixels, {asked.threads} threads: "
        f"inference config {ours:.0f} ms, decode + forward {base:.0f} ms, ratio {ratio:.2f} (half of "
        f"the {len(ratios)} rounds within {ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f}); claim: at most {CLAIM}"
    )


if __name__ == "__main__":
    main()
