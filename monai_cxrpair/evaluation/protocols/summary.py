"""All protocols and label sizes in the layout of `results.json`, and the learning curves."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from monai_cxrpair.evaluation.protocols.runner import ProtocolResult
from monai_cxrpair.evaluation.protocols.sizes import studies_in
from monai_cxrpair.evaluation.statistics.learning_curve import fit_learning_curve

_SIZES_FOR_A_CURVE = 3  # a power law has three parameters
_POINTS = 60
_AHEAD = 4.0  # how far the curve is drawn beyond the largest size: a forecast, not a promise


def add_protocols(
    results: dict[str, Any], outcomes: Mapping[str, Mapping[str, ProtocolResult]], *, target_auc: float | None = None
) -> None:
    """Extend the results of the linear protocol at its first size by all others.

    Adds `encoders.NAME.PROTOCOL`, the figures at the first size; `encoders.NAME.by_fraction.PROTOCOL.SIZE`, those at
    every size; the comparisons of the other protocols, each table corrected by itself; with several sizes
    `comparisons_by_fraction.PROTOCOL.SIZE` and `learning_curve.PROTOCOL`; and `protocols.PROTOCOL.SIZE`, the settings.

    Args:
        results: what `results_dict` made of the linear protocol; changed in place.
        outcomes: protocol -> size -> what was measured.
        target_auc: see `learning_curve`.
    """
    several = max(map(len, outcomes.values())) > 1
    results["protocols"], tables = {}, {}
    for protocol, sizes in outcomes.items():
        first = next(iter(sizes.values()))
        for name, entry in results["encoders"].items():
            entry[protocol] = first.encoders[name]
            found = {key: result.encoders[name] | {"labels": _labels(result)} for key, result in sizes.items()}
            entry.setdefault("by_fraction", {})[protocol] = found
        if protocol != "linear":
            results["comparisons"] = [*results["comparisons"], *first.comparisons]
        results["protocols"][protocol] = {key: result.protocol for key, result in sizes.items()}
        tables[protocol] = {key: result.comparisons for key, result in sizes.items()}
    if several:
        results["comparisons_by_fraction"] = tables
        results["learning_curve"] = {
            protocol: learning_curve(sizes, target_auc=target_auc) for protocol, sizes in outcomes.items()
        }


def learning_curve(sizes: Mapping[str, ProtocolResult], *, target_auc: float | None = None) -> dict[str, Any]:
    """AUC against the number of labelled studies in a draw.

    Args:
        sizes: at least two, of one protocol.
        target_auc: "how many labels until this AUC?"; None: the highest mean AUC measured, rounded down to 0.01, so
            that the answer for the other encoders says how many more labels they need.

    Returns:
        `target_auc` and `encoders`: name -> `points` (`size`, `studies`, `auc`, `ci95`), and with three different
        numbers of studies or more `fit` (`a`, `b`, `c` of a - b n^-c), `line` (`studies`, `auc`, `low`, `high`),
        `forecast` (see `LearningCurve.labels_for`), else `no_fit`, why there is none.
    """
    counts = {
        key: studies_in(result.draws, result.cases.patients, result.cases.studies) for key, result in sizes.items()
    }
    names = list(next(iter(sizes.values())).encoders)
    highest = max(result.encoders[name]["auc_mean"] for result in sizes.values() for name in names)
    target = float(np.floor(100 * highest + 1e-9) / 100) if target_auc is None else float(target_auc)
    encoders: dict[str, Any] = {}
    for name in names:
        figures = {key: result.encoders[name] for key, result in sizes.items()}
        points = [
            {"size": key, "studies": counts[key], "auc": f["auc_mean"], "ci95": f["ci95"]} for key, f in figures.items()
        ]
        encoders[name] = {"points": sorted(points, key=lambda point: point["studies"])}
        aucs: dict[int, list[float]] = {}
        for key, f in figures.items():
            aucs.setdefault(counts[key], []).extend(f["auc_draws"])
        if len(aucs) < _SIZES_FOR_A_CURVE:
            encoders[name]["no_fit"] = f"{len(aucs)} numbers of labels: a forecast needs {_SIZES_FOR_A_CURVE}"
            continue
        curve = fit_learning_curve(aucs)
        grid = np.geomspace(min(aucs), _AHEAD * curve.largest, _POINTS)
        line, bounds = curve.auc(grid)
        encoders[name] |= {
            "fit": {"a": curve.a, "b": curve.b, "c": curve.c},
            "line": {"studies": grid, "auc": line, "low": bounds[:, 0], "high": bounds[:, 1]},
            "forecast": curve.labels_for(target),
        }
    return {"target_auc": target, "encoders": encoders}


def _labels(result: ProtocolResult) -> dict[str, Any]:
    """How many labels the draws of a size hold."""
    cases = result.cases
    return {
        "label_fraction": result.protocol["label_fraction"],
        "studies": studies_in(result.draws, cases.patients, cases.studies),
        "radiographs": float(np.mean([len(rows) for rows in result.draws])),
        "draws": len(result.draws),
    }
