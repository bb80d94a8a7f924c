"""The figures of a table: mean AUCs over seeds and draws, differences, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtri, stdtrit

from monai_cxrpair.evaluation.report.results import established, why_not
from monai_cxrpair.evaluation.statistics.compare import holm
from monai_cxrpair.evaluation.statistics.variance import split_variance
from monai_cxrpair.experiments.collect import Block, table_of
from monai_cxrpair.experiments.experiment import Experiment, Row

SMALLEST = 1e-12  # no smaller p is looked for


def table_figures(experiment: Experiment, blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """All lines of the table: each row of each block.

    Holm's correction is over all comparisons of the table, whatever the block.

    Returns:
        For each block `finding`, `size`, `protocol`, `rows`, `comparisons`.
    """
    found = [_block(experiment, block) for block in blocks]
    pairs = [pair for block in found for pair in block["comparisons"] if pair["p"] is not None]
    if pairs:
        for pair, corrected in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
            pair["p_holm"] = float(corrected)
    for block in found:
        for pair in block["comparisons"]:
            pair["not_established"] = _why_not(pair)
    return found


def mean_with_error(aucs: NDArray[np.float64], *, test_variance: float) -> dict[str, Any]:
    """A mean over pre-training seeds and label draws, with a CI that holds for other seeds, draws and test patients.

    The variance of the mean has three parts: that of the seeds' means over their number (which holds what seed and draw
    do together), the draws' own over theirs, and the test patients'. Each is taken at its own quantile, Student's t of
    its degrees of freedom, and the squares are added. Welch and Satterthwaite's one t for all is too narrow for few
    seeds: where three happen to be alike it takes the seeds for unimportant (in simulations 95 % CIs covered 91 to 95 %
    then; these cover 96 to 98 %, and err to the safe side).

    Args:
        aucs: (S, D) AUCs or differences of AUCs, the same draws for every seed.
        test_variance: of the mean, over test patients.

    Returns:
        `mean`, `se`, `ci95`, `p` of "it is 0", `variance`.
    """
    seeds, draws = aucs.shape
    split = split_variance(aucs, test_variance=test_variance)
    parts = [(test_variance, np.inf)]
    if seeds > 1:
        parts.append((float(np.var(aucs.mean(axis=1), ddof=1)) / seeds, seeds - 1))
    if split.draw:
        parts.append((split.draw / draws, draws - 1))

    def half_width(p: float) -> float:
        return float(np.sqrt(sum(variance * _quantile(p / 2, freedom) ** 2 for variance, freedom in parts)))

    mean, half = float(aucs.mean()), half_width(0.05)
    return {
        "mean": mean,
        "se": float(np.sqrt(sum(variance for variance, _ in parts))),
        "ci95": [mean - half, mean + half],
        "p": _p_value(abs(mean), half_width),
        "variance": {**asdict(split), "shares": split.shares()},
    }


def _quantile(tail: float, freedom: float) -> float:
    return float(ndtri(tail) if np.isinf(freedom) else stdtrit(freedom, tail))


def _p_value(distance: float, half_width: Callable[[float], float]) -> float:
    """The p whose interval just reaches 0, so that p and CI never disagree."""
    if distance == 0:
        return 1.0
    if half_width(SMALLEST) <= distance:
        return SMALLEST
    return float(brentq(lambda p: half_width(p) - distance, SMALLEST, 1.0, xtol=1e-14))


def _block(experiment: Experiment, block: Block) -> dict[str, Any]:
    aucs = {row.name: block.aucs(row) for row in experiment.rows}
    rows = [_row(block, row, aucs[row.name]) for row in experiment.rows]
    by_name = {row.name: row for row in experiment.rows}
    comparisons, done = [], set()
    for name in experiment.compare_with:
        for row in experiment.rows:
            if row.name == name or frozenset((row.name, name)) in done:
                continue
            done.add(frozenset((row.name, name)))
            pair = _compare(block, row, by_name[name], aucs)
            comparisons += [pair] if pair is not None else []
    return {
        "finding": block.finding,
        "size": str(block.size),
        block.size.setting: block.size.value,
        "protocol": block.protocol,
        "counts": block.counts(),
        "rows": rows,
        "comparisons": comparisons,
    }


def _row(block: Block, row: Row, aucs: dict[int, list[float]]) -> dict[str, Any]:
    line: dict[str, Any] = {
        "row": row.name,
        "baseline": row.baseline is not None,
        "paper": paper_figures(row, protocol=block.protocol, finding=block.finding),
        "seeds": [seed for seed in aucs if seed >= 0],
        "auc_draws": [list(draws) for draws in aucs.values()],  # seed by draw
    }
    if not aucs:
        return {**line, "not_measured": block.not_run(row) or "not evaluated"}
    table = table_of(aucs, list(aucs))
    by_seed, by_draw = table.mean(axis=1), table.mean(axis=0)
    line |= {
        "auc_mean": float(table.mean()),
        "sd": _sd(table.ravel()),
        "sd_seeds": _sd(by_seed),
        "sd_draws": _sd(by_draw),
        "ci95": None,
    }
    test_variance = block.test_variance(row)
    if test_variance is not None:
        found = mean_with_error(table, test_variance=test_variance)
        line |= {"ci95": [max(0.0, found["ci95"][0]), min(1.0, found["ci95"][1])], "variance": found["variance"]}
    return line


def _compare(block: Block, row: Row, other: Row, aucs: dict[str, dict[int, list[float]]]) -> dict[str, Any] | None:
    """`row` minus `other` on the seeds both have; None where one was not measured."""
    first, second = aucs[row.name], aucs[other.name]
    if -1 in first or -1 in second:  # a baseline is the same for every seed
        seeds = list(first if -1 in second else second)
    else:
        seeds = [seed for seed in first if seed in second]
    if not first or not second or not seeds:
        return None
    differences = table_of(first, seeds) - table_of(second, seeds)
    pair: dict[str, Any] = {
        "a": row.name,
        "b": other.name,
        "difference": float(differences.mean()),
        "seeds": len([seed for seed in seeds if seed >= 0]),
        "draws": differences.shape[1],
        "baselines": row.baseline is not None and other.baseline is not None,
        "paper": _paper_difference(row, other, block),
        "ci95": None,
        "p": None,
    }
    test_variance = block.test_variance_of_difference(row, other)
    if test_variance is not None:
        found = mean_with_error(differences, test_variance=test_variance)
        pair |= {key: found[key] for key in ("se", "ci95", "p", "variance")}
    return pair


def _why_not(pair: dict[str, Any]) -> str | None:
    """Why a difference is not established; None where it is."""
    if pair["p"] is None:
        return "too few test patients"
    if pair["seeds"] < 2 and not pair["baselines"]:
        return "one pre-training seed: another may differ"
    return None if established(pair) else why_not(pair)


def paper_figures(row: Row, *, protocol: str, finding: str) -> dict[str, float | None] | None:
    """`mean` and `sd` that the paper reports of this row; None where it reports none."""
    key = "linear" if protocol.startswith("linear") else "end_to_end" if protocol.startswith("fine") else None
    found = row.paper.get(key) if key else None
    if isinstance(found, dict):
        found = found.get(finding)
    if not found:
        return None
    return {"mean": float(found[0]), "sd": float(found[1]) if len(found) > 1 else None}


def _paper_difference(row: Row, other: Row, block: Block) -> float | None:
    first, second = (paper_figures(each, protocol=block.protocol, finding=block.finding) for each in (row, other))
    return None if first is None or second is None else round((first["mean"] or 0) - (second["mean"] or 0), 6)


def _sd(values: NDArray[np.float64]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
