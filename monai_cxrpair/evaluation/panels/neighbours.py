"""Which radiographs an encoder takes for alike: the nearest neighbours among those of other patients."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from monai_cxrpair.cohort.files import atomic_path
from monai_cxrpair.evaluation.attributes import attributes, view_names
from monai_cxrpair.evaluation.give_away import NO_PATIENTS
from monai_cxrpair.evaluation.panels.panel import Evaluated, Panel, PanelError
from monai_cxrpair.evaluation.panels.thumbnails import thumbnail
from monai_cxrpair.evaluation.patient_pairs import bounded_rows
from monai_cxrpair.evaluation.report.drawing import COLOURS, picture
from monai_cxrpair.evaluation.report.results import reference_encoder
from monai_cxrpair.evaluation.statistics.bootstrap import ci95, patient_weights, weighted_sums

NEIGHBOURS, EXAMPLES, SIZE = 5, 6, 96
# Similarities of all with all: 3,000 take half a second and 72 MB.
MAX_RADIOGRAPHS = 3_000
REPLICATES = 1_000
ROUNDED = 12  # decimals: what differs by a rounding error is a tie, which the row number settles


def make(evaluated: Evaluated, out_dir: Path) -> Panel:
    """Find the neighbours of the labelled radiographs of the test side, for the reference and the chosen encoder.

    Args:
        evaluated: what there is to look at.
        out_dir: gets `neighbours_<n>.jpg`, one for each encoder, unless no radiograph may be shown.

    Returns:
        Figures: `neighbours`, `radiographs` and `patients` that were compared, `of` how many labelled ones, `examples`
        in the picture, and `encoders`: name -> the shares of `measure`.

    Raises:
        PanelError: nobody has enough radiographs of other patients beside them.
    """
    cohort, test = evaluated.cohort, evaluated.split.test_rows
    labelled = test[np.isin(evaluated.labels[test], (0, 1))]
    codes = cohort.codes("patient_id")
    rows = labelled[bounded_rows(codes[labelled], seed=evaluated.seed, at_most=MAX_RADIOGRAPHS)]
    patients = codes[rows]
    _, sizes = np.unique(patients, return_counts=True)
    if not len(rows) or len(rows) - sizes.max() < NEIGHBOURS:
        raise PanelError(
            f"the test side has {len(rows)} labelled radiographs of {len(sizes)} patients: "
            f"each needs {NEIGHBOURS} of other patients beside it"
        )
    known = attributes(cohort.table.iloc[rows], evaluated.labels[rows])
    asked = examples(evaluated.labels[rows] == 1, patients, seed=evaluated.seed)
    views = view_names(known)
    figures: dict[str, Any] = {}
    pictures: dict[str, Path] = {}
    for name in dict.fromkeys([reference_encoder(evaluated.encoders), evaluated.chosen]):
        nearest, of_all = nearest_of_others(evaluated.embeddings[name][rows], patients)
        figures[name] = measure(nearest, of_all, patients, known, seed=evaluated.seed)
        if not cohort.patients_known:
            figures[name]["same_patient"] = {"not_measured": NO_PATIENTS}
        if evaluated.show_radiographs:
            shown = np.column_stack([asked, nearest[asked]])  # (examples, 1 + neighbours)
            squares = evaluated.pixels(rows[shown.ravel()])
            tiles = [thumbnail(square, min(SIZE, square.shape[-1])) for square in squares]
            key = f"neighbours_{len(pictures) + 1}"
            pictures[key] = _draw(tiles, known["finding"][shown], views[shown], out_dir / f"{key}.jpg")
    return Panel(
        figures={
            "neighbours": NEIGHBOURS,
            "radiographs": len(rows),
            "patients": len(sizes),
            "of": len(labelled),
            "examples": len(asked) if pictures else 0,
            "encoders": figures,
        },
        pictures=pictures,
    )


def nearest_of_others(
    embeddings: NDArray[np.floating[Any]], patients: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The nearest radiographs by cosine.

    Args:
        embeddings: (n, F).
        patients: (n,) codes; each has at least `NEIGHBOURS` rows of others beside it.

    Returns:
        (n, NEIGHBOURS) rows of other patients, the nearest first, and (n,) the nearest of all others,
        their own patient's too.
    """
    unit = normalize(embeddings.astype(np.float64))
    similarity = np.round(unit @ unit.T, ROUNDED)  # (n, F) x (F, n) -> (n, n)
    np.fill_diagonal(similarity, -np.inf)
    of_all = similarity.argmax(axis=1)
    similarity[patients[:, None] == patients] = -np.inf
    return np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS], of_all


def measure(
    nearest: NDArray[np.int64],
    of_all: NDArray[np.int64],
    patients: NDArray[np.int64],
    known: dict[str, NDArray[Any]],
    *,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """How often neighbours agree.

    Args:
        nearest: (n, k) rows of other patients.
        of_all: (n,) the nearest of all.
        patients: (n,) codes.
        known: of `attributes`.
        seed: of the bootstrap.

    Returns:
        `finding`, `present` and `absent` (the same of the radiographs with and without it only), `laterality`,
        `view_position`: the share of the neighbours with the same value, both known; `same_patient`: the share whose
        nearest of all is of the same patient, of those who have another radiograph. Each with `value`, `ci95`
        (bootstrap of the asking patients, all others staying), `chance` (neighbours drawn blindly) and `radiographs`
        that asked; or `not_measured`, why not.
    """
    weights = patient_weights(patients, replicates=REPLICATES, seed=seed)
    own = patients[:, None] == patients
    found = {}
    for name, values in known.items():
        there = values != ""
        if len(np.unique(values[there])) < 2:
            found[name] = {"not_measured": "the same for all radiographs" if there.any() else "not recorded"}
            continue
        same = (values[:, None] == values) & there  # (n, n)
        counted = there[nearest]
        agree = (np.take_along_axis(same, nearest, axis=1) & counted).sum(axis=1)
        others = ~own & there
        chance = _ratio((same & others).sum(axis=1), others.sum(axis=1))
        found[name] = _share(agree, counted.sum(axis=1), chance, there, weights)
        if name == "finding":
            for kind in ("present", "absent"):
                found[kind] = _share(agree, counted.sum(axis=1), chance, values == kind, weights)
    mates = own.sum(axis=1) - 1
    if not mates.any():
        return found | {"same_patient": {"not_measured": "no test patient has two labelled radiographs"}}
    hits = (patients[of_all] == patients).astype(np.int64)
    found["same_patient"] = _share(hits, np.ones_like(hits), mates / (len(patients) - 1), mates > 0, weights)
    return found


def _share(
    hits: NDArray[np.int64],
    tries: NDArray[np.int64],
    chance: NDArray[np.float64],
    asks: NDArray[np.bool_],
    weights: NDArray[np.int16],
) -> dict[str, Any]:
    asks = asks & (tries > 0)
    if not asks.any():
        return {"not_measured": "no radiograph of the test side can be asked"}
    sums = weighted_sums(np.column_stack([hits[asks], tries[asks]]), weights[:, asks])  # (R, 2)
    return {
        "value": float(hits[asks].sum() / tries[asks].sum()),
        "ci95": list(ci95(_ratio(sums[:, 0], sums[:, 1]))),
        "chance": float(np.average(chance[asks], weights=tries[asks])),
        "radiographs": int(asks.sum()),
    }


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return ratio


def examples(present: NDArray[np.bool_], patients: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Rows to show: half of them with the finding, the rest without, of different patients, drawn blindly."""
    order = np.random.default_rng([seed, 7]).permutation(len(present))
    chosen: list[int] = []
    for kind, room in ((True, EXAMPLES // 2), (False, EXAMPLES)):
        for row in order[present[order] == kind]:
            if len(chosen) < room and patients[row] not in patients[chosen]:
                chosen.append(int(row))
    return np.array(chosen, dtype=np.int64)


def _draw(tiles: list[NDArray[np.uint8]], findings: NDArray[Any], views: NDArray[Any], path: Path) -> Path:
    """A line for each radiograph: itself, then its neighbours, framed and marked by whether the finding agrees."""
    lines, columns = findings.shape
    with picture((6.4, 0.3 + 1.42 * lines)) as figure:
        figure.set_layout_engine("constrained", w_pad=0.04, h_pad=0.04, wspace=0.03)
        grid = figure.subplots(lines, columns, squeeze=False)
        for number, axes in enumerate(grid.ravel()):
            line, column = divmod(number, columns)
            agrees = findings[line, column] == findings[line, 0]
            axes.imshow(tiles[number], cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"{findings[line, column]}\n{views[line, column]}", fontsize=9, labelpad=3)
            colour, style = ("#000000", "-") if column == 0 else (COLOURS[0], "-") if agrees else (COLOURS[1], "--")
            for spine in axes.spines.values():
                spine.set(color=colour, linewidth=1 if column == 0 else 2.5, linestyle=style)
            if column:
                axes.text(
                    *(0.93, 0.93, "=" if agrees else "≠"),
                    transform=axes.transAxes,
                    ha="right",
                    va="top",
                    color="white",
                    fontsize=11,
                    fontweight="bold",
                    bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5},
                )
        for axes, title in zip(grid[0], ("asked", "nearest", "2nd", "3rd", "4th", "5th"), strict=True):
            axes.set_title(title, fontsize=9)
        with atomic_path(path, mode=None) as temporary:
            figure.savefig(temporary, dpi=130, format="jpeg", pil_kwargs={"quality": 88})
    return path
