"""`results.json`: every number of the evaluation in one file, and the same as text for the terminal."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.evaluation.protocols.runner import ProtocolResult

LEVEL = 0.05  # of p corrected for the whole table; intervals are 95 %


def results_dict(
    result: ProtocolResult,
    *,
    finding: str,
    cohort: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any] | None = None,
    cards: Mapping[str, Mapping[str, Any]] | None = None,
    not_run: Mapping[str, str] | None = None,
    classifier: Mapping[str, Any] | None = None,
    versions: Mapping[str, Any] | None = None,
    reference: str | None = None,
) -> dict[str, Any]:
    """Put the linear protocol's figures into the layout of `results.json` (DESIGN.md section 4).

    Args:
        result: what `linear_protocol` returned.
        finding: column of the cohort, e.g. `pleural_effusion`.
        cohort: further facts about the cohort; `train` and `test` are counted here.
        protocol: further settings, e.g. test_fraction, subset, image_size; they win over those counted here.
        cards: encoder -> its card.
        not_run: encoder -> why it was not evaluated.
        classifier: the classifier's card, with `test_auc` and `operating_point`.
        versions: software versions and hashes.
        reference: the encoder that the report compares all others with; by default the first whose name starts with
            `random`, else the first.

    Returns:
        A dict that `write_results` accepts.
    """
    return {
        "finding": finding,
        "protocol": {**result.protocol, **(protocol or {})},
        "cohort": {**(cohort or {}), **result.counts},
        "reference": reference or reference_encoder(result.encoders),
        "encoders": {
            name: {"linear": figures, "card": dict((cards or {}).get(name, {}))}
            for name, figures in result.encoders.items()
        },
        "not_run": dict(not_run or {}),
        "comparisons": result.comparisons,
        "classifier": dict(classifier) if classifier is not None else None,
        "versions": dict(versions or {}),
    }


def reference_encoder(encoders: Mapping[str, Any]) -> str:
    """The encoder that others are compared with in words: random weights where they are there."""
    return next((name for name in encoders if name.lower().startswith("random")), next(iter(encoders)))


def write_results(results: Mapping[str, Any], path: Path) -> None:
    """Write as JSON, all or nothing: a run killed here leaves the file before or the file after.

    Args:
        results: numbers, text, lists, dicts; numpy and paths are converted, NaN and infinity become null.
        path: of the file; its folder is created.
    """
    text = json.dumps(plain(results), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(text, path)


def write_text(text: str, path: Path, *, mode: int | None = None) -> None:
    """Write UTF-8 text, all or nothing; `mode` as for `atomic_path`."""
    with atomic_path(path, mode=mode) as temporary:
        temporary.write_text(text, encoding="utf-8")


def plain(value: Any) -> Any:
    """The same in types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple | set):
        return [plain(item) for item in (sorted(value) if isinstance(value, set) else value)]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def text_table(results: Mapping[str, Any], *, report: str | Path | None = None) -> str:
    """The AUC table and the comparisons for the terminal.

    Args:
        results: the layout of `results.json`.
        report: path of the report, named in the last line.

    Returns:
        Several lines without colour.
    """
    figures = {name: entry["linear"] for name, entry in results["encoders"].items()}
    width = max(len(name) for name in ("encoder", *figures, *results.get("not_run", {})))
    lines = [f"{'encoder':<{width}}  AUC    SD     95 % CI"]
    for name, linear in figures.items():
        lines.append(f"{name:<{width}}  {number(linear['auc_mean'])}  {number(linear['auc_sd'])}  {interval(linear)}")
    lines += [f"{name:<{width}}  not run: {reason}" for name, reason in results.get("not_run", {}).items()]
    if results.get("comparisons"):
        lines += ["", "difference (paired)"]
    for pair in results.get("comparisons", ()):
        verdict = "" if established(pair) else f"   not established: {why_not(pair)}"
        protocol = pair.get("protocol", "linear")
        about = "" if protocol == "linear" else f" ({protocol})"
        lines.append(
            f"{pair['a']} - {pair['b']}{about}: {number(pair['difference'], sign=True)} "
            f"({interval(pair, sign=True)}), p {equals(pair['p'])}{verdict}"
        )
    if report is not None:
        lines += ["", f"report: {report}"]
    return "\n".join(lines)


def established(comparison: Mapping[str, Any]) -> bool:
    """Whether the CI of a difference leaves out 0, and p corrected for the whole table, where there, is below 0.05."""
    low, high = comparison["ci95"]
    corrected = comparison.get("p_holm")
    return bool(low > 0 or high < 0) and (corrected is None or corrected < LEVEL)


def why_not(comparison: Mapping[str, Any]) -> str:
    """Why a difference is not established."""
    low, high = comparison["ci95"]
    if low <= 0 <= high:
        return "the CI includes 0"
    return f"p corrected for the table (Holm) {equals(comparison['p_holm'])}"


def number(value: float | None, *, sign: bool = False) -> str:
    """An AUC or a difference with three decimals; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:+.3f}" if sign else f"{value:.3f}"


def percent(share: float | None, *, digits: int = 1) -> str:
    """A share as a number of per cent, without the sign; a dash where there is none."""
    return "–" if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f}"


def interval(entry: Mapping[str, Any], *, sign: bool = False) -> str:
    """`0.712 to 0.801`: a dash between two signed numbers would be misread."""
    if entry["ci95"] is None:
        return "–"
    low, high = entry["ci95"]
    return f"{number(low, sign=sign)} to {number(high, sign=sign)}"


def equals(p: float) -> str:
    """`= 0.031` or `< 0.001`."""
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def p_value(value: float | None) -> str:
    """Three decimals, `< 0.001` below; a dash where there is none."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
