"""How long a sweep takes and how large it becomes, as far as that can be known beforehand."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.experiments.checks import load_yaml
from monai_cxrpair.experiments.plan import DONE, RECORD, Job

# Bytes of each encoder's weights and statistics, 32 bits, one input channel.
ENCODER_BYTES = {"resnet18": 44.7e6, "resnet34": 85.1e6, "resnet50": 94.1e6, "densenet121": 28.1e6}
# A checkpoint holds the encoder, the momentum encoder and Adam's two moments; two are kept, and encoder.pt.
COPIES, KEPT = 4, 2
# What decides how long an epoch takes, more than anything else.
PACE = ("cohort", "image_size", "batch_size", "encoder", "processes")
# The shorter side is image_size; a chest radiograph is about a fifth longer than wide.
LONGER_SIDE = 1.2


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of what is left to do. None: not known.

    Attributes:
        seconds: of computing, and how that is known.
        bytes: on disk, and how that is known.
    """

    seconds: float | None
    seconds_from: str
    bytes: float | None
    bytes_from: str


def estimate(
    trainings: Sequence[Job], *, radiographs: int, out: Path, bundle: Path, at_once: int = 1, tidy: bool = False
) -> Estimate:
    """Estimate the time and the disk that the trainings of a sweep still need.

    Evaluations are not in it; they take a small part of the time.

    Args:
        trainings: all of the sweep.
        radiographs: of the cohort.
        out: folder of the sweep.
        bundle: the bundle's folder.
        at_once: so many side by side.
        tidy: checkpoints of finished runs are removed.
    """
    left = [job for job in trainings if job.state() != DONE]
    if not left:
        return Estimate(seconds=0, seconds_from="nothing is left", bytes=0, bytes_from="nothing is left")
    paces = [pace for job in trainings if (pace := _seconds_per_epoch(job)) is not None]
    paces = paces or _paces_of_other_tables(left[0], out)
    epochs = sum(max(0, job.epochs - job.epochs_done()) for job in left)
    seconds = epochs * sum(paces) / len(paces) / at_once if paces else None
    done = [job for job in trainings if job.state() == DONE]
    settings = [_settings(job, bundle) for job in left]
    if done:
        size = len(left) * sum(_size(job.folder) for job in done) / len(done)
        how = f"the size of {len(done)} finished runs"
    elif all(isinstance(each["encoder"], str) and each["encoder"] in ENCODER_BYTES for each in settings):
        copies = [1 + COPIES * KEPT] if not tidy else [1]
        size = sum(ENCODER_BYTES[each["encoder"]] for each in settings) * copies[0]
        size += ENCODER_BYTES[settings[0]["encoder"]] * COPIES * KEPT * at_once if tidy else 0
        how = "the number of the encoder's weights" + ("" if tidy else "; --tidy needs about a ninth")
    else:
        return Estimate(seconds=seconds, seconds_from=_how(paces), bytes=None, bytes_from="an encoder of another kind")
    size += 0 if (out / "pixels").exists() else radiographs * settings[0]["image_size"] ** 2 * LONGER_SIDE
    return Estimate(seconds=seconds, seconds_from=_how(paces), bytes=size, bytes_from=how)


def check_disk(found: Estimate, out: Path) -> None:
    """Refuse before hours of work what the disk cannot hold.

    Raises:
        CxrPairError: it needs more than is free.
    """
    folder = next(each for each in (out.resolve(), *out.resolve().parents) if each.exists())
    free = shutil.disk_usage(folder).free
    if found.bytes is not None and found.bytes > free:
        raise CxrPairError(
            f"{out}: the runs need about {size_text(found.bytes)}, {size_text(free)} are free: make room, use --tidy, "
            "or name another folder with --out"
        )


def size_text(size: float) -> str:
    """`350 MB`, `4.2 GB`."""
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def _how(paces: Sequence[float]) -> str:
    return f"the pace of {len(paces)} runs here" if paces else "no run here has done an epoch yet"


def _seconds_per_epoch(job: Job) -> float | None:
    """Of a run that is finished: all of it, with its start. Else None."""
    record = job.record()
    return record["seconds"] / job.epochs_done() if record.get("seconds") and job.epochs_done() else None


def _paces_of_other_tables(job: Job, out: Path) -> list[float]:
    """Seconds an epoch of runs of other tables in this folder with the same cohort, image size, batch and encoder."""
    paces = []
    for record in sorted(out.glob(f"*/*/seed*/{RECORD}")):
        other = replace(job, folder=record.parent)
        asked = other.record().get("asked", {})
        if all(asked.get(key) == job.asked.get(key) for key in PACE) and (pace := _seconds_per_epoch(other)):
            paces.append(pace)
    return paces


def _settings(job: Job, bundle: Path) -> dict[str, Any]:
    return {**load_yaml(bundle / "configs" / "train.yaml"), **job.asked}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
