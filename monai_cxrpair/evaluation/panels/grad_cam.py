"""Where the classifier looks, and whether that picture can be believed.

A map that stays the same when the weights are thrown away shows the radiograph and the network's structure, not what
was learned (Adebayo et al. 2018, "Sanity checks for saliency maps"). So the maps of a sample are compared with those of
the same classifier with random weights, and the page says what came of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import SSIMMetric
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn

from monai_cxrpair.evaluation.class_maps import ClassMapError, ClassMaps, enlarged, raised, randomise, scaled
from monai_cxrpair.evaluation.classifier import build_classifier
from monai_cxrpair.evaluation.panels.map_pictures import side_by_side, write_scale
from monai_cxrpair.evaluation.panels.panel import Evaluated, Panel, PanelError
from monai_cxrpair.evaluation.panels.thumbnails import write_picture
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, patient_weights, weighted_sums

SHOWN = 3  # of each kind
SAMPLE = 64  # radiographs of the check, one a patient
BATCH = 16
PER_DRAW = 4  # radiographs that share a draw of random weights: no single draw decides, and the draws are counted
# Cohen's (1988) large correlation: from here on, with either sign, a map of random weights is called like the trained.
ALIKE = 0.5
FEWEST = 10  # maps that can be compared; below it nothing is said
BORDER = 0.1  # of each side: letters, collimation, shoulders and the background lie there
FIELDS = 5  # of a side, at least: with fewer, one field is border and chest at once
REPLICATES = 2000

Maps = NDArray[np.float32]


def make(evaluated: Evaluated, out_dir: Path) -> Panel | None:
    """The panel: maps of a few radiographs, the check on random weights, the share of the maps at the border.

    Args:
        evaluated: the evaluation; its networks are copied, not touched.
        out_dir: gets `grad_cam_<kind>_<n>.jpg` and `grad_cam_scale.png`, unless radiographs are not to be shown.

    Raises:
        PanelError: the encoder has no layer that Grad-CAM can be made at.
    """
    try:
        return _panel(evaluated, out_dir)
    except ClassMapError as error:
        raise PanelError(str(error)) from error


def _panel(evaluated: Evaluated, out_dir: Path) -> Panel:
    rows = np.unique(evaluated.linear.test_rows)
    present = evaluated.labels[rows] == 1
    patients = evaluated.linear.cases.patients[rows]
    scores = evaluated.probe.predict_proba(evaluated.embeddings[evaluated.chosen][rows])
    trained = _classifier(evaluated)
    look = ClassMaps(trained, _views(evaluated, rows[:1]))

    sample = rows[_sample(present, patients, seed=evaluated.seed)]
    maps = _maps(evaluated, look, sample)
    size = evaluated.dataset.image_size
    shares = _border_shares(enlarged(raised(maps), size))
    even = np.ones((1, size, size), dtype=np.float32)
    figures = {
        "encoder": evaluated.chosen,
        "layer": look.layer,
        "map_size": list(look.size),
        "image_size": size,
        "radiographs": len(sample),
        "present": int((evaluated.labels[sample] == 1).sum()),
        "empty": int(np.isnan(shares).sum()),
        "check": _check(evaluated, maps, sample),
        "coarse": min(look.size) < FIELDS,
        "border": {
            "width": BORDER,
            "even": float(_border_shares(even)[0]),
            **_mean(shares, np.arange(len(shares)), seed=evaluated.seed),
        },
    }
    order = np.argsort(scores, kind="stable")
    kinds = {"present": order[present[order]][::-1], "absent": order[~present[order]]}
    pictures = {"grad_cam_scale": write_scale(out_dir / "grad_cam_scale.png")} if evaluated.show_radiographs else {}
    shown: dict[str, list[dict[str, Any]]] = {}
    for kind, candidates in kinds.items():
        chosen = candidates[_first_of_each(patients[candidates])][:SHOWN]
        large = enlarged(raised(_maps(evaluated, look, rows[chosen])), size)
        shown[kind] = [
            {
                "image_id": evaluated.cohort.table["image_id"].iloc[rows[k]],
                "score": float(scores[k]),
                "border": _or_none(share),
            }
            for k, share in zip(chosen, _border_shares(large), strict=True)
        ]
        for number, (row, field) in enumerate(zip(rows[chosen], large, strict=True)):
            if evaluated.show_radiographs:
                key = f"grad_cam_{kind}_{number}"
                pictures[key] = write_picture(side_by_side(evaluated.pixels([row])[0], field), out_dir / f"{key}.jpg")
    return Panel(figures={**figures, "shown": shown}, pictures=pictures)


def _classifier(evaluated: Evaluated, change: Callable[[nn.Module], None] | None = None) -> nn.Module:
    """A classifier of its own, changed on the CPU so that the same weights come out on every device."""
    # The memory order of the embeddings, channels last, is one that MONAI's Grad-CAM cannot take.
    with torch.random.fork_rng(devices=[]):  # the head's first weights are drawn, then overwritten
        network = build_classifier(evaluated.encoders[evaluated.chosen], evaluated.probe).cpu()
    if change is not None:
        change(network)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # not in the stubs
    return network.to(evaluated.device).eval()


def _views(evaluated: Evaluated, rows: NDArray[np.int64]) -> Tensor:
    encoder = evaluated.encoders[evaluated.chosen]
    return ((torch.from_numpy(evaluated.pixels(rows)) - encoder.mean) / encoder.std).to(evaluated.device)


def _maps(evaluated: Evaluated, look: ClassMaps, rows: NDArray[np.int64]) -> Maps:
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    return np.concatenate([look(_views(evaluated, batch)) for batch in batches])


def _first_of_each(patients: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first place of each patient, in order."""
    return np.sort(np.unique(patients, return_index=True)[1])


def _sample(present: NDArray[np.bool_], patients: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Places of at most `SAMPLE` radiographs, one a patient, half of them with the finding where there are so many."""
    order = np.random.default_rng(seed).permutation(len(present))
    order = order[_first_of_each(patients[order])]
    sick, well = order[present[order]], order[~present[order]]
    many = min(len(sick), max(SAMPLE // 2, SAMPLE - len(well)))
    return np.sort(np.concatenate([sick[:many], well[: SAMPLE - many]]))


def _check(evaluated: Evaluated, maps: Maps, sample: NDArray[np.int64]) -> dict[str, Any]:
    """How like the maps of random weights are to those of the trained ones; of another patient for comparison."""
    seed, size = evaluated.seed, evaluated.dataset.image_size
    batches = [(seed + start, sample[start : start + PER_DRAW]) for start in range(0, len(sample), PER_DRAW)]
    draws = np.arange(len(sample)) // PER_DRAW
    found: dict[str, Any] = {
        "source": "Adebayo et al. 2018",
        "alike": ALIKE,
        "draws": len(batches),
        "per_draw": PER_DRAW,
        # Mean size of Spearman's correlation of unrelated fields, by its normal approximation.
        "by_chance": float(np.sqrt(2 / (np.pi * (maps[0].size - 1)))),
    }
    for part in ("encoder", "head"):
        random = [
            ClassMaps(_classifier(evaluated, _randomised(part, seed=draw)), _views(evaluated, rows[:1]))(
                _views(evaluated, rows)
            )
            for draw, rows in batches
        ]
        found[part] = _alike(maps, np.concatenate(random), draws, size=size, seed=seed)
    found["other_patient"] = _alike(maps, np.roll(maps, 1, axis=0), np.arange(len(sample)), size=size, seed=seed)
    found["verdict"] = _verdict(found["encoder"]["size"], found["head"]["size"])
    return found


def _randomised(part: str, *, seed: int) -> Callable[[nn.Module], None]:
    return lambda network: randomise(network.get_submodule("fc" if part == "head" else part), seed=seed)


def _alike(first: Maps, second: Maps, draws: NDArray[np.int64], *, size: int, seed: int) -> dict[str, Any]:
    """Spearman's correlation over the fields of two maps, its size, and SSIM of their pictures from lowest to highest.

    Places that lower the score count too: with random weights there is often no other. NaN where a map is even. It is
    the size that tells: a random head that gives the map or its negative has learned nothing, and a mean of 0.
    """
    flat = [maps.reshape(len(maps), -1) for maps in (first, second)]
    there = (np.ptp(flat[0], axis=1) > 0) & (np.ptp(flat[1], axis=1) > 0)
    ranks, ssim = np.full(len(there), np.nan), np.full(len(there), np.nan)
    ranks[there] = [spearmanr(a, b).statistic for a, b in zip(flat[0][there], flat[1][there], strict=True)]
    if there.any():
        from_zero = [maps[there] - maps[there].min(axis=(1, 2), keepdims=True) for maps in (first, second)]
        pair = [torch.from_numpy(scaled(enlarged(maps, size)))[:, None] for maps in from_zero]
        window = min(11, size - 1 + size % 2)  # odd, and no larger than the picture
        metric = SSIMMetric(spatial_dims=2, data_range=1.0, win_size=window, reduction="none")
        ssim[there] = metric(pair[0], pair[1])[:, 0].numpy()
    values = {"spearman": ranks, "size": np.abs(ranks), "ssim": ssim}
    return {name: _mean(found, draws, seed=seed) for name, found in values.items()}


def _verdict(*sizes: dict[str, Any]) -> str:
    """Of the sizes: `unchanged`: not to be believed; `unclear`; `changed`: passed the check; `too_few`: not checked."""
    enough = [found for found in sizes if found["n"] >= FEWEST]
    if any(found["value"] >= ALIKE for found in enough):  # one failure is enough, whatever the other would say
        return "unchanged"
    if len(enough) < len(sizes):
        return "too_few"
    return "unclear" if max(found["ci95"][1] for found in sizes) >= ALIKE else "changed"


def _mean(values: NDArray[np.floating], draws: NDArray[np.int64], *, seed: int) -> dict[str, Any]:
    """Mean over the radiographs with its bootstrap interval.

    Args:
        values: (n,) NaN is left out.
        draws: (n,) what is resampled: radiographs that share random weights are not independent of each other.
        seed: of the bootstrap.

    Returns:
        `value`, `ci95`, `n`; the interval None where there is only one draw.
    """
    there = ~np.isnan(values)
    known = np.asarray(values, dtype=np.float64)[there]
    if not len(known):
        return {"value": None, "ci95": None, "n": 0}
    found: dict[str, Any] = {"value": float(known.mean()), "ci95": None, "n": len(known)}
    if len(np.unique(draws[there])) > 1:
        weights = patient_weights(draws[there], replicates=REPLICATES, seed=seed)
        sums = weighted_sums(np.column_stack([known, np.ones(len(known))]), weights)  # (R, 2)
        found["ci95"] = list(ci95(sums[:, 0] / sums[:, 1]))
    return found


def _or_none(share: float) -> float | None:
    return None if np.isnan(share) else float(share)


def _border_shares(large: Maps) -> NDArray[np.float64]:
    """Share of each map in the border of the picture; NaN for an empty one."""
    width = round(BORDER * large.shape[-1])
    totals = large.sum(axis=(1, 2), dtype=np.float64)
    inside = large[:, width:-width, width:-width] if width else large
    shares = np.full(len(large), np.nan)
    return np.asarray(
        np.divide(totals - inside.sum(axis=(1, 2), dtype=np.float64), totals, out=shares, where=totals > 0)
    )
