"""An experiment file: the rows of a table, each a pre-training, and how they are evaluated."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.experiments.checks import check_keys, check_settings, load_yaml, mapping, several
from monai_cxrpair.trust import check_config

KEYS = {"name", "source", "base", "settings", "evaluate", "compare_with", "rows"}
ROW_KEYS = {"name", "baseline", "overlays", "overrides", "paper"}
BASELINES = {"imagenet": "ImageNet weights", "random": "random weights"}  # as evaluating names them
# Training and evaluating must agree on these, or may share them: given once, they go to both.
SHARED = ("dataset_dir", "imagenet_weights", "encoder", "test_fraction", "split_seed", "split_file", "num_workers",
          "cache_dir")  # fmt: skip
SIZES = ("label_fraction", "label_studies")
# Runs start inside the bundle, so these are made absolute.
PATHS = ("dataset_dir", "imagenet_weights", "split_file", "cache_dir")


@dataclass(frozen=True)
class Size:
    """How many labels a draw has.

    Attributes:
        setting: `label_fraction` of the labelled studies, or `label_studies`, their number.
        value: of the setting.
    """

    setting: str
    value: float

    def __str__(self) -> str:
        """For people."""
        if self.setting == "label_fraction":
            return f"{100 * self.value:g} % of the labels"
        return f"{self.value:g} labelled studies"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table: a way to pre-train, or a baseline that evaluating brings along.

    Attributes:
        name: in the table.
        slug: the name as a folder.
        baseline: the name evaluating gives it; None for a pre-training.
        overlays: config files, in this order.
        overrides: settings of `train.yaml` of this row alone.
        paper: protocol -> [mean, SD], or -> finding -> the same; what the paper reports.
    """

    name: str
    slug: str
    baseline: str | None
    overlays: tuple[Path, ...]
    overrides: dict[str, Any]
    paper: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A table to be made.

    Attributes:
        name: of the table, and of its folder.
        source: where the paper's figures stand.
        bundle: the bundle's folder.
        base: config files of all rows.
        settings: settings of `train.yaml` of all rows, which win over the overlays and lose against a row's own.
        asked: settings of the command line, which win over everything.
        evaluate: settings of `evaluate.yaml`; without the next three.
        evaluate_overlays: config files of evaluating.
        trusted: the runs are told to trust their configs.
        findings: each is evaluated by itself.
        sizes: of the label draws, each evaluated by itself.
        rows: of the table.
        compare_with: names of the rows that all others are compared with.
    """

    name: str
    source: str
    bundle: Path
    base: tuple[Path, ...]
    settings: dict[str, Any]
    asked: dict[str, Any]
    evaluate: dict[str, Any]
    evaluate_overlays: tuple[Path, ...]
    trusted: bool = False
    findings: tuple[str, ...]
    sizes: tuple[Size, ...]
    rows: tuple[Row, ...]
    compare_with: tuple[str, ...]


def read_experiment(
    path: Path,
    *,
    bundle: Path | None = None,
    overlays: Sequence[Path] = (),
    asked: Mapping[str, Any] | None = None,
    trust: bool = False,
) -> Experiment:
    """Read an experiment file and check it before hours of work.

    Args:
        path: of the file; overlays are named from the folder above its own (`configs/`), or from its own.
        bundle: the bundle's folder; default: the nearest `bundle/` beside a folder above the file.
        overlays: further config files of all rows, after `base`.
        asked: settings of the command line; `evaluate#KEY` is one of `evaluate.yaml`, others are of `train.yaml`.
        trust: the file and its overlays may run what they like, see `trust.py`.

    Raises:
        CxrPairError: one line that names the file, the row and the key.
    """
    content = load_yaml(path)
    check_keys(content, KEYS, str(path))
    if not trust:
        check_config(content, source=str(path))
    bundle = bundle or _find_bundle(path)
    known = {name: set(load_yaml(bundle / "configs" / f"{name}.yaml")) for name in ("train", "evaluate")}
    settings = mapping(content, "settings", path)
    evaluate = mapping(content, "evaluate", path)
    own = {}
    for key, value in (asked or {}).items():
        section, _, rest = key.partition("#")
        if section == "evaluate" and rest:
            evaluate[rest] = value
        else:
            own[key] = value
    for each in (settings, evaluate, own):
        each |= {key: str(Path(each[key]).absolute()) for key in PATHS if isinstance(each.get(key), str)}
    further = tuple(_overlay(name, path, "evaluate") for name in several(evaluate.pop("overlays", [])))
    check_settings(settings, known["train"], f"{path}: settings", "train.yaml")
    check_settings(evaluate, known["evaluate"], f"{path}: evaluate", "evaluate.yaml")
    elsewhere = {key for key in own if key in known["evaluate"] - known["train"]}
    if elsewhere:
        key = min(elsewhere)
        raise CxrPairError(f"--set {key}: a setting of evaluating, write --set evaluate#{key}=...")
    check_settings(own, known["train"], "--set", "train.yaml")
    rows = _rows(content, path, known["train"])
    names = [row.name for row in rows]
    trained = [row.name for row in rows if row.baseline is None]
    if not trained:
        raise CxrPairError(f"{path}: every row is a baseline: at least one needs overlays")
    compare_with = tuple(several(content.get("compare_with", trained[0])))
    for name in compare_with:
        if name not in names:
            raise CxrPairError(f"{path}: compare_with {name!r} is none of the rows: {', '.join(names)}")
    shared = {key: value for key, value in {**settings, **own}.items() if key.partition("#")[0] in SHARED}
    evaluate = {**shared, **evaluate}
    findings = tuple(map(str, several(evaluate.pop("finding", "pleural_effusion"))))
    sizes = [Size(key, each) for key in SIZES for each in several(evaluate.pop(key, None) or [])]
    if not all(isinstance(size.value, (int, float)) and size.value > 0 for size in sizes):
        raise CxrPairError(f"{path}: evaluate: label_fraction and label_studies must be numbers above 0")
    experiment = Experiment(
        name=slug(str(content.get("name", path.stem))),
        source=str(content.get("source", "")),
        bundle=bundle.resolve(),
        base=tuple(_overlay(name, path, "base") for name in several(content.get("base", [])))
        + tuple(_file(overlay) for overlay in overlays),
        settings=settings,
        asked=own,
        evaluate=evaluate,
        evaluate_overlays=further,
        findings=findings,
        sizes=tuple(sizes or [Size("label_fraction", 0.01)]),
        rows=rows,
        compare_with=compare_with,
        trusted=trust,
    )
    for file in {*experiment.base, *further, *(each for row in rows for each in row.overlays)} if not trust else ():
        check_config(load_yaml(file), source=str(file))
    return experiment


def slug(name: str) -> str:
    """A name as a folder: lower case letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _rows(content: Mapping[str, Any], path: Path, known: set[str]) -> tuple[Row, ...]:
    listed = content.get("rows")
    if not isinstance(listed, list) or not listed:
        raise CxrPairError(f"{path}: `rows` must list the rows of the table")
    rows: list[Row] = []
    for number, row in enumerate(listed, start=1):
        if not isinstance(row, dict) or not str(row.get("name") or "").strip():
            raise CxrPairError(f"{path}: row {number} has no `name`")
        name = str(row["name"])
        where = f"{path}: row {name!r}"
        check_keys(row, ROW_KEYS, where)
        if not slug(name) or any(slug(name) == before.slug for before in rows):
            raise CxrPairError(f"{where}: another row has this name, or one that makes the same folder name")
        baseline = row.get("baseline")
        if ("overlays" in row) == ("baseline" in row):
            raise CxrPairError(f"{where}: give either `overlays`, or `baseline` without any pre-training")
        if baseline is not None and (not isinstance(baseline, str) or baseline not in BASELINES):
            raise CxrPairError(f"{where}: baseline is {baseline!r}: use one of {', '.join(BASELINES)}")
        if baseline is None and name.lower().startswith(tuple(each.lower() for each in BASELINES.values())):
            raise CxrPairError(f"{where}: that is the name of a baseline, choose another")
        overrides = mapping(row, "overrides", path)
        check_settings(overrides, known, f"{where}: overrides", "train.yaml")
        rows.append(
            Row(
                name=name,
                slug=slug(name),
                baseline=BASELINES[baseline] if baseline else None,
                overlays=tuple(_overlay(each, path, f"row {name!r}") for each in several(row.get("overlays", []))),
                overrides=overrides,
                paper=mapping(row, "paper", path),
            )
        )
    return tuple(rows)


def _overlay(name: Any, path: Path, where: str) -> Path:
    if not isinstance(name, str):
        raise CxrPairError(f"{path}: {where}: an overlay is named by its file, not by {name!r}")
    folders = (path.resolve().parent.parent, path.resolve().parent)
    for folder in folders:
        if (folder / name).is_file():
            return _file(folder / name)
    there = [found.relative_to(folders[0]).as_posix() for found in folders[0].glob("*/*.yaml")]
    near = difflib.get_close_matches(name, there, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise CxrPairError(f"{path}: {where}: there is no overlay {name} below {folders[0]}{hint}")


def _file(path: Path) -> Path:
    load_yaml(path)
    return path.resolve()


def _find_bundle(path: Path) -> Path:
    for folder in path.resolve().parents:
        if (folder / "bundle" / "configs" / "train.yaml").is_file():
            return folder / "bundle"
    raise CxrPairError(f"{path}: no bundle/configs/train.yaml in any folder above it: name the bundle with --bundle")
