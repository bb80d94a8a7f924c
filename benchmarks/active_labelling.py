"""Forty answers chosen by the active strategy against forty random ones, on a phantom with known truth.

    OMP_NUM_THREADS=1 python benchmarks/active_labelling.py [--patients 500] [--answers 40] [--repeats 10]

A small ResNet-18 is trained briefly on other patients of the phantom (their effusion labels, `--epochs`), so that its
embeddings are worth something but not everything; with `--epochs 0` it has random weights. Each repeat splits the
remaining patients anew into a pool and a test side, and begins without any head, as a hospital without a classifier of
its own does. The head is refitted after every five answers. What is printed is found, whichever way it turns out: the
mean test AUC of each strategy over the repeats with a 95 % interval (Student's t over repeats, which share radiographs
and encoder: it says how much the choice and the split vary, not how much another phantom would), and the paired
difference to `random`.
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np
import torch
from scipy.stats import t

from monai_cxrpair.contrast import build_encoder, feature_dim
from monai_cxrpair.evaluation.classifier import Classifier
from monai_cxrpair.label.simulate import Reading, simulate
from monai_cxrpair.label.strategies import STRATEGIES
from monai_cxrpair.phantom import PhantomSettings, draw_patient, draw_radiographs


def render(patients: range, *, seed: int, size: int) -> tuple[np.ndarray, Reading]:
    """uint8 (n, 1, size, size), and what is known of them; embeddings are not there yet."""
    settings, images, rows = PhantomSettings(), [], []
    for patient in patients:
        items = list(draw_radiographs(draw_patient(settings, seed=seed, patient=patient), seed=seed, settings=settings))
        items.sort(key=lambda item: (item.study, item.shot.laterality != "frontal"))
        for item in items:
            shown = np.round(np.clip(item.render(), 0, 1) * 255).astype(np.uint8)
            images.append(cv2.resize(shown, (size, size), interpolation=cv2.INTER_AREA))
            rows.append((float(item.present), patient, patient * 1000 + item.study))
    labels, who, studies = (np.array(column) for column in zip(*rows, strict=True))
    empty = np.empty((len(rows), 0), np.float32)
    return np.stack(images)[:, None], Reading(embeddings=empty, labels=labels, patients=who, studies=studies)


def views(images: np.ndarray) -> torch.Tensor:
    """Normalised."""
    return torch.from_numpy(images.astype(np.float32) / 255 - 0.5) * 4


def train(images: np.ndarray, labels: np.ndarray, *, size: int, epochs: int, seed: int) -> torch.nn.Module:
    """The encoder."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder = build_encoder("resnet18", in_channels=1, image_size=size)
    network = Classifier(encoder, features=feature_dim(encoder, image_size=size))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    for _ in range(epochs):
        network.train()
        order = rng.permutation(len(images))
        for start in range(0, len(order) - 31, 32):
            part = order[start : start + 32]
            truth = torch.from_numpy(labels[part].astype(np.float32))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(views(images[part]))[:, 0], truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return encoder.eval()


@torch.inference_mode()
def embed(encoder: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """(n, F)."""
    return np.concatenate([encoder(views(images[i : i + 128])).numpy() for i in range(0, len(images), 128)])


def interval(values: np.ndarray) -> str:
    """Mean and 95 % interval of the mean over repeats."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.3f} (95 % CI {values.mean() - half:.3f} to {values.mean() + half:.3f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    settings = {"patients": 500, "others": 300, "answers": 40, "repeats": 10, "size": 64, "epochs": 2, "seed": 0}
    for name, default in settings.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    began = time.perf_counter()
    others, truth = render(range(given.others), seed=given.seed, size=given.size)
    images, reading = render(range(given.others, given.others + given.patients), seed=given.seed, size=given.size)
    rendered = time.perf_counter()
    encoder = train(others, truth.labels, size=given.size, epochs=given.epochs, seed=given.seed)
    reading = Reading(**{**vars(reading), "embeddings": embed(encoder, images)})
    studies, first = np.unique(reading.studies, return_index=True)
    who = reading.patients[first]
    trained = time.perf_counter()
    print(
        f"phantom {PhantomSettings().hash}, seed {given.seed}: {given.patients} patients, {len(studies)} studies, "
        f"{len(images)} radiographs of {given.size} px, {reading.labels[first].mean():.2f} with an effusion; encoder: "
        f"ResNet-18, {given.epochs} epochs on {len(others)} radiographs of {given.others} other patients"
    )
    found: dict[str, list[float]] = {name: [] for name in STRATEGIES}
    positive: dict[str, list[int]] = {name: [] for name in STRATEGIES}
    ceiling, failed = [], dict.fromkeys(STRATEGIES, 0)
    for repeat in range(given.repeats):
        rng = np.random.default_rng([given.seed, repeat])
        tested = rng.permutation(np.unique(who))[: given.patients // 2]
        pool, test = studies[~np.isin(who, tested)], studies[np.isin(who, tested)]
        for name in STRATEGIES:
            done = simulate(
                reading, pool, test, strategy=name, answers=given.answers, rng=np.random.default_rng(repeat)
            )
            failed[name] += done.auc is None
            found[name].append(0.5 if done.auc is None else done.auc)
            positive[name].append(done.present)
        whole = simulate(reading, pool, test, strategy="random", answers=len(pool), every=len(pool), rng=rng)
        ceiling.append(0.5 if whole.auc is None else whole.auc)
    random = np.array(found["random"])
    print(f"{given.answers} answers, {given.repeats} repeats; all {len(pool)} or so studies of the pool: ", end="")
    print(f"{np.mean(ceiling):.3f}")
    for name in STRATEGIES:
        values = np.array(found[name])
        line = f"{name:9s} AUC {interval(values)}, {np.mean(positive[name]):.1f} of {given.answers} present"
        line += "" if name == "random" else f"; against random {interval(values - random)}"
        print(line + (f"; {failed[name]} repeats found one class only and count as 0.5" if failed[name] else ""))
    print(
        f"{rendered - began:.0f} s rendering, {trained - rendered:.0f} s training and embedding, "
        f"{time.perf_counter() - trained:.0f} s reading"
    )


if __name__ == "__main__":
    main()
