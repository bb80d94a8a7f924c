"""From an experiment to commands, and which of them are done."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.experiments.checks import load_yaml
from monai_cxrpair.experiments.experiment import Experiment, Row, Size

RECORD, LOG = "sweep.json", "log.txt"
# Where a run lies and how fast it goes changes nothing of what comes out.
PLACES = {"cache_dir", "dataset_dir", "num_workers", "checkpoint_minutes"}
DONE, STOPPED, TO_DO, CHANGED = "done", "stopped", "to do", "other settings"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A bundle run.

    Attributes:
        title: for people.
        folder: its output.
        command: run inside the bundle.
        asked: what it was asked for, whose change makes it another run.
        products: files in the folder without which it is not done.
        epochs: of a pre-training; 0 for an evaluation.
        row: of a pre-training; "" for an evaluation.
        seed: of the pre-training.
    """

    title: str
    folder: Path
    command: tuple[str, ...]
    asked: dict[str, Any]
    products: tuple[str, ...]
    seed: int
    epochs: int = 0
    row: str = ""

    def record(self) -> dict[str, Any]:
        """What `sweep.json` says of it; empty where it never began, or the file is damaged: then it is run again."""
        try:
            found = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_record(self, *, finished: bool, seconds: float) -> None:
        """Say in `sweep.json` that it began, or is finished, and how long it has taken altogether."""
        with atomic_path(self.folder / RECORD, mode=None) as temporary:
            record = {"finished": finished, "seconds": round(seconds, 1), "asked": self.asked}
            temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def state(self) -> str:
        """`done`, `stopped`, `to do`, or `other settings`: the folder holds another run."""
        record = self.record()
        if not record:
            return TO_DO
        if self.different():
            # An evaluation is made anew in no time; a training is not thrown away.
            return CHANGED if self.epochs else TO_DO
        longer = record["asked"].get("max_epochs") != self.asked.get("max_epochs")
        there = all((self.folder / name).is_file() for name in self.products)
        return DONE if record.get("finished") and there and not longer else STOPPED

    def different(self) -> str:
        """What was asked of the run in the folder that is not asked now; empty where nothing differs.

        A training with more epochs than before is the same one, gone on with.
        """
        before = self.record().get("asked")
        if before is None:
            return ""
        now = json.loads(json.dumps(self.asked))  # tuples become lists, as in the file
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        if self.epochs and before.get("max_epochs", 0) <= now["max_epochs"]:
            keys = [key for key in keys if key != "max_epochs"]
        return "; ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in keys[:3])

    def epochs_done(self) -> int:
        """Of a training, finished or not."""
        try:
            last = (self.folder / "history.jsonl").read_text(encoding="utf-8").splitlines()[-1]
            return int(json.loads(last)["epoch"])
        except (OSError, ValueError, KeyError, IndexError):
            return 0


def training_job(
    experiment: Experiment, row: Row, seed: int, *, cohort: Path, cohort_hash: str, out: Path, processes: int = 0
) -> Job:
    """The pre-training of a row with a seed.

    Args:
        experiment: the table.
        row: one without `baseline`.
        seed: of the pre-training.
        cohort: file of the cohort.
        cohort_hash: of its content.
        out: folder of the sweep; the pixel cache of all runs is `out/pixels` unless `cache_dir` is set.
        processes: start so many by torchrun; 0: one, without it.
    """
    files = (*experiment.base, *row.overlays)
    settings = {**experiment.settings, **row.overrides, **experiment.asked}
    asked: dict[str, Any] = {}
    for file in files:
        asked |= load_yaml(file)
    asked |= settings
    asked = {key: value for key, value in asked.items() if key not in PLACES}
    default = load_yaml(experiment.bundle / "configs" / "train.yaml")["max_epochs"]
    asked |= {"max_epochs": asked.get("max_epochs", default), "seed": seed, "cohort": cohort_hash}
    if not isinstance(asked["max_epochs"], int) or asked["max_epochs"] < 1:
        raise CxrPairError(f"max_epochs is {asked['max_epochs']!r}: use a whole number of at least 1")
    asked |= {"processes": processes} if processes else {}
    folder = out / experiment.name / row.slug / f"seed{seed}"
    configs = ["configs/train.yaml", *(["configs/multi_gpu_train.yaml"] if processes else []), *map(str, files)]
    own = {"cohort_file": str(cohort), "output_dir": str(folder), "cache_dir": str(out / "pixels"), "seed": seed}
    own |= {"trust_config": True} if experiment.trusted else {}
    starter = ["torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "-m"] if processes else []
    return Job(
        title=f"{row.name}, seed {seed}",
        folder=folder,
        command=(
            sys.executable, "-m", *starter, "monai.bundle", "run", "training", "--config_file", json.dumps(configs),
            *words({**own, **settings}),
        ),
        asked=asked,
        products=("encoder.pt", "encoder.json"),
        seed=seed,
        epochs=asked["max_epochs"],
        row=row.name,
    )  # fmt: skip


def evaluation_jobs(
    experiment: Experiment, encoders: Mapping[str, Path], seed: int, *, cohort: Path, cohort_hash: str, out: Path
) -> list[Job]:
    """One for each finding and size of the draws, of all encoders of one pre-training seed: row -> `encoder.pt`.

    The seed of evaluating is not that of the pre-training, so that all pre-training seeds meet the same label draws.
    """
    own = {
        "cohort_file": str(cohort),
        "encoder_file": {name: str(path) for name, path in encoders.items()},
        "cache_dir": str(out / "pixels"),
        **({"trust_config": True} if experiment.trusted else {}),
    }
    # A file that was made again has another time; a copy of the folder is evaluated again, which does no harm.
    stamps = {name: [path.stat().st_size, path.stat().st_mtime_ns] for name, path in encoders.items() if path.exists()}
    files = ["configs/evaluate.yaml", *map(str, experiment.evaluate_overlays)]
    overlaid: dict[str, Any] = {}
    for file in experiment.evaluate_overlays:
        overlaid |= load_yaml(file)
    jobs = []
    for finding in experiment.findings:
        for size in experiment.sizes:
            folder = evaluation_folder(experiment, out, finding, size, seed)
            settings = {"finding": finding, size.setting: size.value, **experiment.evaluate}
            asked = {key: value for key, value in (overlaid | settings).items() if key not in PLACES}
            jobs.append(
                Job(
                    title=f"evaluation of {finding}, {size}, seed {seed}",
                    folder=folder,
                    command=(
                        *(sys.executable, "-m", "monai.bundle", "run", "evaluating"),
                        *("--config_file", json.dumps(files)),
                        *words({**own, "output_dir": str(folder), **settings}),
                    ),
                    asked={**asked, "encoders": stamps, "cohort": cohort_hash},
                    products=("results.json",),
                    seed=seed,
                )
            )
    return jobs


def evaluation_folder(experiment: Experiment, out: Path, finding: str, size: Size, seed: int) -> Path:
    """Where `results.json` of a finding, a number of labels and a pre-training seed lies."""
    return out / experiment.name / "evaluation" / f"{finding}_{size.setting}_{size.value:g}" / f"seed{seed}"


def words(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of the bundle's command line, which reads each as a Python literal where it can."""
    found: list[str] = []
    for key, value in settings.items():
        found += [f"--{key}", value if isinstance(value, str) and not _is_literal(value) else repr(value)]
    return found


def _is_literal(text: str) -> bool:
    """Whether text would be read as something else: `1e3`, `[a]`, `None`."""
    if text[:1] in ("[", "{", "(", "-"):
        return True
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return True


def hash_of(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        CxrPairError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CxrPairError(
            f"cannot read the cohort {path} ({error.strerror}): make one with `cxrpair index SOURCE --out {path.name}`"
        ) from error
