"""The AUCs of a sweep, from its `results.json` files and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.experiments.experiment import Experiment, Row, Size
from monai_cxrpair.experiments.plan import evaluation_folder

# Evaluations of two pre-training seeds are of one table only where these agree.
SAME = ("split_hash", "label_fraction", "draws", "seed", "subset", "aggregate", "test_fraction", "split_seed")


@dataclass(frozen=True, kw_only=True)
class Block:
    """The evaluations of one finding, size of the draws and protocol, by pre-training seed.

    Attributes:
        finding, size, protocol: what was evaluated.
        results: seed -> what `results.json` holds.
    """

    finding: str
    size: Size
    protocol: str
    results: dict[int, dict[str, Any]]

    def aucs(self, row: Row) -> dict[int, list[float]]:
        """Pre-training seed -> AUC of each label draw; a baseline, which no such seed changes, has the key -1."""
        found = {seed: entry["auc_draws"] for seed, entry in self._entries(row).items()}
        return {-1: next(iter(found.values()))} if row.baseline and found else found

    def test_variance(self, row: Row) -> float | None:
        """Of the mean AUC over other test patients, mean over the seeds; None where it was not measured."""
        parts = [(entry.get("variance") or {}).get("test") for entry in self._entries(row).values()]
        return _mean(parts)

    def test_variance_of_difference(self, row: Row, other: Row) -> float | None:
        """The same of the difference between two rows."""
        parts = []
        for results in self.results.values():
            names = {_name(row, results), _name(other, results)}
            for pair in results.get("comparisons", ()):
                if {pair["a"], pair["b"]} == names and pair.get("protocol") == self.protocol:
                    error = pair.get("se_test")
                    parts.append(None if error is None else error**2)
        return _mean(parts)

    def counts(self) -> dict[str, Any]:
        """What the test side and the draws hold, for the caption."""
        first = next(iter(self.results.values()))
        return {"test": first.get("cohort", {}).get("test", {}), "protocol": first.get("protocol", {})}

    def not_run(self, row: Row) -> str:
        """Why evaluating left a baseline out; empty where it says nothing."""
        for results in self.results.values():
            for name, reason in results.get("not_run", {}).items():
                if row.baseline and name.startswith(row.baseline):
                    return str(reason)
        return ""

    def _entries(self, row: Row) -> dict[int, dict[str, Any]]:
        found = {}
        for seed, results in self.results.items():
            entry = results["encoders"].get(_name(row, results), {}).get(self.protocol)
            if entry is not None:
                found[seed] = entry
        return found


def collect(experiment: Experiment, out: Path, seeds: Sequence[int]) -> list[Block]:
    """Read what has been evaluated so far.

    Returns:
        One block for each finding, size of the draws and protocol; none where nothing has been evaluated.

    Raises:
        CxrPairError: a file is damaged, or two seeds were evaluated with other draws or another split.
    """
    blocks = []
    for finding in experiment.findings:
        for size in experiment.sizes:
            results: dict[int, dict[str, Any]] = {}
            first: tuple[Path, dict[str, Any]] | None = None
            for seed in seeds:
                path = evaluation_folder(experiment, out, finding, size, seed) / "results.json"
                if not path.is_file():
                    continue
                results[seed] = _read(path)
                told = {key: results[seed].get("protocol", {}).get(key) for key in SAME}
                first = first or (path, told)
                for key in SAME:
                    if told[key] != first[1][key]:
                        raise CxrPairError(
                            f"{path}: {key} is {told[key]}, in {first[0]} it is {first[1][key]}: they cannot stand in "
                            "one table; delete the older evaluation and run the sweep again"
                        )
            protocols = list(dict.fromkeys(name for each in results.values() for name in _protocols(each)))
            blocks += [Block(finding=finding, size=size, protocol=protocol, results=results) for protocol in protocols]
    return blocks


def table_of(aucs: dict[int, list[float]], seeds: Sequence[int]) -> NDArray[np.float64]:
    """(S, D) AUCs of these seeds; a baseline's one row where it has no seeds."""
    rows = [aucs[-1]] if -1 in aucs else [aucs[seed] for seed in seeds]
    return np.asarray(rows, dtype=np.float64)


def _protocols(results: dict[str, Any]) -> Iterator[str]:
    for entry in results["encoders"].values():
        for name, figures in entry.items():
            if isinstance(figures, dict) and "auc_draws" in figures:
                yield name


def _name(row: Row, results: dict[str, Any]) -> str:
    """Of a row in `results.json`; where several kinds of networks are compared a baseline has the kind behind it."""
    if row.baseline is None:
        return row.name
    return next((name for name in results["encoders"] if name.startswith(row.baseline)), row.baseline)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CxrPairError(f"{path}: damaged ({error}): delete it and run the sweep again") from error
    if not isinstance(content, dict) or not isinstance(content.get("encoders"), dict):
        raise CxrPairError(f"{path}: no `encoders` in it: delete it and run the sweep again")
    return content


def _mean(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return float(np.mean(known)) if known and len(known) == len(parts) else None
