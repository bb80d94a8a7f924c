"""What the bundle's configs call: checks before anything runs, and errors a person can read."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.bundle import ConfigParser

import monai_cxrpair
from monai_cxrpair.cohort import Cohort
from monai_cxrpair.cohort.files import check_folder
from monai_cxrpair.errors import CxrPairError, disk_error
from monai_cxrpair.settings_check import check_settings, meant
from monai_cxrpair.trust import check_config, is_trusted

# Sections that MONAI itself looks up by name, so nothing in a config refers to them.
MONAI_SECTIONS = {
    "_meta_", "imports", "bundle_root", "dataset_dir", "device", "network_def", "inferer", "evaluator", "dataset",
    "train", "validate", "val_interval", "handlers", "preprocessing", "postprocessing", "key_metric",
    "displayable_configs", "initialize", "finalize", "run", "training", "evaluating", "inference",
    "trust_config",
    # added by `--tracking`
    "tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0",
}  # fmt: skip

# What MONAI looks up by name inside `train` and `validate`.
MONAI_PARTS = {
    "inferer",
    "trainer",
    "evaluator",
    "handlers",
    "dataset",
    "preprocessing",
    "postprocessing",
    "key_metric",
}

# What MONAI says of a component that cannot be made, and of one that is not there. Of the reasons these are what wrong
# arguments lead to.
NOT_MADE = re.compile(r"Failed to instantiate component '([\w.]+)'")
NOT_THERE = re.compile(r"Cannot locate class or function path: '([^']*)'")
BAD_ARGUMENT = (TypeError, ValueError, AttributeError, ImportError)

# A mistake is the same in all processes of a run, and torchrun ends them all once the first has ended: the others wait
# so long before they say theirs, and so say nothing that the first has said.
SAME_ERROR_SECONDS = 10.0

REFERENCE = re.compile(r"(?:[@%]|definition\(')([A-Za-z_]\w*)(?:(?:#|::)(\w+))?")


def begin(output_dir: str) -> None:
    """First step of every run: show a user's mistake as one line, refuse unknown settings, make the output folder.

    Raises:
        CxrPairError: a setting that this config does not have or a value that it cannot have, a folder that
            cannot be written to, or several processes for a config that is for one.
    """
    sys.excepthook = _one_line
    threading.excepthook = _thread_failed
    if _rank():
        logging.disable(logging.WARNING)  # the first process says it
    parser = _running_parser()
    by_command = sys.argv[0].endswith("monai/bundle/__main__.py") or sys.argv[0] == "monai.bundle"  # not by a program
    if by_command and not is_trusted(sys.argv):
        check_config(parser.get(), source="the config", typed=sys.argv[1:])
    for key, value in meant(parser.get()).items():
        parser[key] = value
    check_settings(parser.get())
    refuse_unknown_keys(parser.get())
    for key, expression in mended_tracking(parser.get()).items():
        parser[key] = expression
    tracks = any(h.get("_target_") == "MLFlowHandler" for h in (parser.get("train#handlers", None) or []))
    if tracks and importlib.util.find_spec("mlflow") is None:
        raise CxrPairError("--tracking mlflow needs MLflow: pip install mlflow")
    if "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE") != "1" and "dist_backend" not in parser.get():
        raise CxrPairError(
            "torchrun started several processes: for training add configs/multi_gpu_train.yaml to --config_file; "
            "evaluating and inference run in one process, without torchrun"
        )
    check_folder(Path(output_dir), what=f"to output_dir {output_dir}")


def refuse_unknown_keys(config: dict[str, Any]) -> None:
    """An overridden key that nothing in the config refers to is a typing mistake; MONAI would ignore it.

    Raises:
        CxrPairError: names the key and the nearest known one.
    """
    used = _references(config)
    _refuse(config, known={top for top, _ in used} | MONAI_SECTIONS, prefix="")
    for section in ("train", "validate"):
        parts = {part for top, part in used if top == section}
        _refuse(config.get(section, {}), known=parts | MONAI_PARTS, prefix=f"{section}#")


def _refuse(section: dict[str, Any], *, known: set[str], prefix: str) -> None:
    for key in section:
        if key not in known:
            near = difflib.get_close_matches(key, known & section.keys(), n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else ""
            raise CxrPairError(f"--{prefix}{key} is not a setting of this config{hint}")


def mended_tracking(config: dict[str, Any]) -> dict[str, str]:
    """What to change where `--tracking mlflow` added MLflow's handler to the training.

    It expects the output of a step as a list, as MONAI's own trainers give it; of a dict it makes a tuple, which MLflow
    cannot read. And MLflow tells its makers over the network how it is used, unless it is told not to.
    """
    changes = {}
    for number, handler in enumerate(config.get("train", {}).get("handlers") or []):
        if handler.get("_target_") == "MLFlowHandler":
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            if "from_engine" in str(handler.get("output_transform")):
                changes[f"train#handlers#{number}#output_transform"] = "$lambda output: output['loss']"
    return changes


def check_version(required: str) -> None:
    """The bundle and the installed package must be of one version.

    Raises:
        CxrPairError: they are not.
    """
    if required != monai_cxrpair.__version__:
        raise CxrPairError(
            f"this bundle needs monai-cxrpair {required}, installed is {monai_cxrpair.__version__}: "
            f"pip install monai-cxrpair=={required}"
        )


def as_written(key: str) -> Any:
    """What the running config and the command line say for `key`: of a `_target_` its arguments, not what it makes."""
    return _running_parser().get(key)


def definition(key: str) -> Any:
    """What the running config says for `key`, references and expressions resolved, but a `_target_` not made.

    So an encoder of the user's own is written into the card as it was defined.

    Raises:
        CxrPairError: it holds something else than text, numbers, lists and dicts.
    """
    parser = _running_parser()

    def plain(value: Any, place: str) -> Any:
        if isinstance(value, dict):
            return {name: plain(part, f"{place}::{name}") for name, part in value.items()}
        if isinstance(value, list):
            return [plain(part, f"{place}::{number}") for number, part in enumerate(value)]
        return parser.get_parsed_content(place) if isinstance(value, str) and value[:1] in ("@", "$") else value

    found = plain(parser.get(key), key)
    try:
        json.dumps(found)
    except TypeError as error:
        raise CxrPairError(f"{key}: its settings must be text, numbers, lists and dicts ({error})") from error
    return found


def open_cohort(cohort_file: str, *, root: str | None) -> Cohort:
    """The cohort of a run.

    Args:
        cohort_file: written by `cxrpair index`.
        root: folder of the images, where it is not the one stored in the file.

    Raises:
        CxrPairError: no file was named, or it cannot be read.
    """
    if not cohort_file:
        raise CxrPairError("cohort_file is not set: make one with `cxrpair index SOURCE --out cohort.parquet`")
    return Cohort.read(cohort_file, root=root or None)


def find_radiographs(*, cohort_file: str | None, dataset_dir: str | None, subset: str | None) -> list[dict[str, str]]:
    """What inference reads: the radiographs of a cohort, or every file below a folder.

    Returns:
        MONAI's data list, `{"image": path, "image_id": id}`; the id of a file is its path below the folder. Of a cohort
        also `patient_id`, `study_id` and `laterality`.

    Raises:
        CxrPairError: neither is given, or there is nothing in it.
    """
    if cohort_file:
        cohort = open_cohort(cohort_file, root=dataset_dir)
        cohort = cohort.where(subset) if subset else cohort
        names = ["image_id", "patient_id", "study_id", "laterality"]
        columns = [map(str, cohort.paths()), *(cohort.table[name].astype("str") for name in names)]
        return [dict(zip(("image", *names), row, strict=True)) for row in zip(*columns, strict=True)]
    if not dataset_dir:
        raise CxrPairError("set cohort_file to a cohort, or dataset_dir to a folder of radiographs")
    folder = Path(dataset_dir)
    if folder.is_file():
        return [{"image": str(folder), "image_id": folder.name}]
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    if not paths:
        raise CxrPairError(f"dataset_dir is {folder}: there is no file in it")
    return [{"image": str(p), "image_id": p.relative_to(folder).as_posix()} for p in paths]


def _references(config: Any) -> set[tuple[str, str]]:
    """The keys that any `@key#part` or `%key#part` in a config refers to, the part empty where there is none."""
    if isinstance(config, dict):
        return set().union(*(_references(value) for value in config.values())) if config else set()
    if isinstance(config, (list, tuple)):
        return set().union(*(_references(value) for value in config)) if config else set()
    return set(REFERENCE.findall(config)) if isinstance(config, str) else set()


def _running_parser() -> ConfigParser:
    """The parser that is evaluating the calling expression; MONAI hands expressions no way to see their config."""
    frame = inspect.currentframe()
    while frame is not None:
        candidate = frame.f_locals.get("self")
        if isinstance(candidate, ConfigParser):
            return candidate
        frame = frame.f_back
    raise RuntimeError("begin() is called by the `initialize` section of a bundle config only")


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show a user's mistake as one line; MONAI and fire wrap it in a long traceback otherwise."""
    said = (str(each) if isinstance(each, CxrPairError) else disk_error(each) for each in _causes(error))
    line = next(filter(None, said), None) or _not_made(error)
    stopped = issubclass(kind, KeyboardInterrupt)  # Python itself leaves with 130
    line = "stopped" if stopped else line
    if line is None or os.environ.get("CXRPAIR_DEBUG"):
        sys.__excepthook__(kind, error, trace)
        return
    logging.shutdown()
    if _rank():
        time.sleep(SAME_ERROR_SECONDS)
        line = f"process {_rank()}: {line}"
    sys.stderr.write(f"{line}\n" if stopped else f"error: {line}\n")


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """TensorBoard writes in a thread: where the disk is full, the run itself finds that out and says so."""
    if args.exc_value is None or disk_error(args.exc_value) is None or os.environ.get("CXRPAIR_DEBUG"):
        threading.__excepthook__(args)


def _rank() -> int:
    """Number of this process among those that torchrun started; torch.distributed does not know it yet."""
    return int(os.environ.get("RANK", "0")) if "LOCAL_RANK" in os.environ else 0


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what led to it, what led to that."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _not_made(error: BaseException) -> str | None:
    """Which `_target_` of the config has a wrong argument, or is no class; None where it is something else."""
    for cause in _causes(error):
        if found := NOT_THERE.search(str(cause)):
            return f"_target_ is {found[1]}: there is no such class"
        found = NOT_MADE.search(str(cause))
        if found and isinstance(cause.__cause__, BAD_ARGUMENT):
            return f"{found[1]}: {' '.join(str(cause.__cause__).split())} (CXRPAIR_DEBUG=1 shows where)"
    return None
