"""`table.md` to read, `table.csv` to go on with, `table.json` with everything."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_cxrpair.evaluation.report.results import interval, number, p_value, plain, write_results, write_text
from monai_cxrpair.experiments.experiment import Experiment

COLUMNS = ("finding", "size", "protocol", "row", "seeds", "draws", "auc_mean", "sd", "sd_seeds", "ci_low",
           "ci_high", "compared_with", "difference", "difference_low", "difference_high", "p", "p_holm",
           "not_established", "paper_mean", "paper_sd", "paper_difference")  # fmt: skip


def write_table(experiment: Experiment, blocks: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Path]:
    """Write the table three times.

    Args:
        experiment: the table.
        blocks: what `table_figures` found.
        folder: gets the files.

    Returns:
        Ending -> path.
    """
    paths = {ending: folder / f"table.{ending}" for ending in ("md", "csv", "json")}
    write_text(markdown(experiment, blocks), paths["md"])
    write_text(_csv(blocks), paths["csv"])
    head = {"name": experiment.name, "source": experiment.source, "compare_with": list(experiment.compare_with)}
    write_results({**head, "blocks": plain(list(blocks))}, paths["json"])
    return paths


def markdown(experiment: Experiment, blocks: Sequence[Mapping[str, Any]]) -> str:
    """The table with the paper's own figures beside it, and every comparison."""
    lines = [f"# {experiment.name}", ""]
    if not blocks:
        lines.append("Nothing has been evaluated yet.")
    for block in blocks:
        lines += [*_block(block), ""]
    lines += [
        "AUC: mean over pre-training seeds and label draws. SD: over all of these runs; SD of seeds: of their means "
        "over the draws. CIs and p hold for other seeds, draws and test patients: the variances of the seeds, of the "
        "draws and (clustered DeLong) of the test patients, each with its own t. p (Holm) is corrected for all "
        "comparisons of this table. A baseline is one network: what another random initialisation would change is not "
        "measured.",
        "",
        f"Paper: {experiment.source or 'not named'}; CheXpert, mean ± SD over five draws of 1 % of the labels, one "
        "pre-training run each. That is another dataset: compare the differences, not the AUCs.",
        "",
    ]
    return "\n".join(lines)


def _block(block: Mapping[str, Any]) -> list[str]:
    lines = [
        f"## {block['finding'].replace('_', ' ')}, {block['protocol'].replace('_', ' ')}, {block['size']}",
        "",
        "| | seeds x draws | AUC | 95 % CI | SD | SD of seeds | paper (other dataset) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in block["rows"]:
        paper = _paper(row["paper"])
        if "not_measured" in row:
            lines.append(f"| {row['row']} | {row['not_measured']} | – | – | – | – | {paper} |")
            continue
        lines.append(
            f"| {row['row']} | {_runs(row)} | {number(row['auc_mean'])} | {interval(row)} | {number(row['sd'])} "
            f"| {number(row['sd_seeds'])} | {paper} |"
        )
    if block["comparisons"]:
        lines += ["", "| difference | AUC | 95 % CI | p | p (Holm) | seed / draw / rest / test | established | paper |"]
        lines += ["|---|---|---|---|---|---|---|---|"]
    for pair in block["comparisons"]:
        why = pair["not_established"]
        shares = pair.get("variance", {}).get("shares", {})
        parts = " / ".join(
            f"{shares[part]:.0%}" if part in shares else "–" for part in ("seed", "draw", "rest", "test")
        )
        lines.append(
            f"| {pair['a']} − {pair['b']} | {number(pair['difference'], sign=True)} | {interval(pair, sign=True)} "
            f"| {p_value(pair['p'])} | {p_value(pair.get('p_holm'))} | {parts} "
            f"| {'yes' if why is None else f'not established: {why}'} | {number(pair['paper'], sign=True)} |"
        )
    return lines


def _csv(blocks: Sequence[Mapping[str, Any]]) -> str:
    """One line for each row and comparison; of a row that is compared with nothing those cells are empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for block in blocks:
        for row in block["rows"]:
            paper = row["paper"] or {}
            low, high = row.get("ci95") or (None, None)
            line = {
                **{key: block[key] for key in ("finding", "size", "protocol")},
                **{key: row.get(key) for key in ("row", "auc_mean", "sd", "sd_seeds")},
                "seeds": len(row["seeds"]) or None,
                "draws": len(row["auc_draws"][0]) if row["auc_draws"] else None,
                "ci_low": low,
                "ci_high": high,
                "not_established": row.get("not_measured"),
                "paper_mean": paper.get("mean"),
                "paper_sd": paper.get("sd"),
            }
            pairs = [pair for pair in block["comparisons"] if pair["a"] == row["row"]]
            for pair in pairs or [None]:
                writer.writerow(line | (_pair(pair) if pair else {}))
    return out.getvalue()


def _pair(pair: Mapping[str, Any]) -> dict[str, Any]:
    low, high = pair["ci95"] or (None, None)
    return {
        "compared_with": pair["b"],
        "difference": pair["difference"],
        "difference_low": low,
        "difference_high": high,
        "p": pair["p"],
        "p_holm": pair.get("p_holm"),
        "not_established": pair["not_established"] or "established",
        "paper_difference": pair["paper"],
    }


def _runs(row: Mapping[str, Any]) -> str:
    return f"{len(row['seeds']) or 'no'} x {len(row['auc_draws'][0])}"


def _paper(figures: Mapping[str, float | None] | None) -> str:
    if figures is None:
        return "–"
    return number(figures["mean"]) + (f" ± {number(figures['sd'])}" if figures["sd"] is not None else "")
