"""Where the radiographs lie in each encoder's embedding, seen from the two directions in which they differ most."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from sklearn.preprocessing import normalize

from monai_cxrpair.evaluation.attributes import attributes, view_names
from monai_cxrpair.evaluation.panels.panel import Evaluated, Panel, PanelError
from monai_cxrpair.evaluation.patient_pairs import bounded_rows
from monai_cxrpair.evaluation.report.drawing import COLOURS, GREY, MARKERS, legend_name, picture, save
from monai_cxrpair.evaluation.report.results import reference_encoder
from monai_cxrpair.evaluation.report.words import human

logger = logging.getLogger(__name__)

# 3,000 dots fill the picture; the silhouette compares all with all (a second an encoder).
MAX_RADIOGRAPHS, MAX_ENCODERS = 3_000, 4
FEWEST, FEWEST_OF_A_CLASS = 20, 10
_NAMES = {
    "finding": ("present", "absent", "uncertain or no label"),
    "view": ("AP", "PA", "lateral", "frontal", "unknown"),
}


def make(evaluated: Evaluated, out_dir: Path) -> Panel:
    """Draw the map of the test side, a row for each encoder, coloured by finding and by view.

    Embeddings are brought to length 1 first, as everything else does that compares them by cosine.

    Args:
        evaluated: what there is to look at.
        out_dir: gets `embedding_map.png` and `.svg`.

    Returns:
        Figures: `method` (`PCA`, or `UMAP` where umap-learn is installed), `radiographs`, `patients` and `of` how many
        radiographs of the test side, `not_drawn` encoders, and `encoders`: name -> `explained` (shares of the
        variance that PCA's first two axes explain) and `silhouette` of `finding`, `laterality` and `view_position`,
        None where a class has fewer than ten radiographs.

    Raises:
        PanelError: the test side has too few radiographs.
    """
    test = evaluated.split.test_rows
    patients = evaluated.cohort.codes("patient_id")[test]
    kept = bounded_rows(patients, seed=evaluated.seed, at_most=MAX_RADIOGRAPHS)
    rows = test[kept]
    if len(rows) < FEWEST:
        raise PanelError(f"the test side has {len(rows)} radiographs, a map needs at least {FEWEST}")
    known = attributes(evaluated.cohort.table.iloc[rows], evaluated.labels[rows])
    names = shown_encoders(evaluated)
    figures: dict[str, Any] = {}
    places: dict[str, NDArray[np.float64]] = {}
    method = "PCA"
    for name in names:
        points = normalize(evaluated.embeddings[name][rows].astype(np.float64))
        pca = PCA(n_components=2, svd_solver="full").fit(points)
        method, places[name] = _umap(points, seed=evaluated.seed) or ("PCA", pca.transform(points))
        figures[name] = {
            "explained": pca.explained_variance_ratio_.tolist(),
            "silhouette": {key: silhouette(points, values) for key, values in known.items()},
        }
    colourings = {
        "finding": np.where(known["finding"] == "", "uncertain or no label", known["finding"]),
        "view": view_names(known),
    }
    _, svg = _draw(places, colourings, figures, method=method, finding=evaluated.finding, out_dir=out_dir)
    return Panel(
        figures={
            "method": method,
            "radiographs": len(rows),
            "patients": len(np.unique(patients[kept])),
            "of": len(test),
            "not_drawn": [name for name in evaluated.encoders if name not in names],
            "encoders": figures,
        },
        pictures={"embedding_map": svg},
    )


def shown_encoders(evaluated: Evaluated) -> list[str]:
    """The reference, the chosen and the best encoders, at most four, in the order of the page."""
    figures = evaluated.linear.encoders
    best = sorted(figures, key=lambda name: -figures[name]["auc_mean"])
    wanted = list(dict.fromkeys([reference_encoder(evaluated.encoders), evaluated.chosen, *best]))[:MAX_ENCODERS]
    return [name for name in evaluated.encoders if name in wanted]


def silhouette(points: NDArray[np.float64], values: NDArray[Any]) -> float | None:
    """How far the classes lie apart in the whole embedding, by cosine distance: -1 to 1, 0 where they are mixed.

    Args:
        points: (n, F).
        values: (n,) text; empty where not known.

    Returns:
        The mean silhouette of those whose class is known; None where there are not two classes of ten radiographs.
    """
    there = values != ""
    classes, sizes = np.unique(values[there], return_counts=True)
    if len(classes) < 2 or sizes.min() < FEWEST_OF_A_CLASS:
        return None
    return float(silhouette_score(points[there], values[there], metric="cosine"))


def _umap(points: NDArray[np.float64], *, seed: int) -> tuple[str, NDArray[np.float64]] | None:
    """UMAP's map where umap-learn is there."""
    try:
        from umap import UMAP
    except ImportError as error:
        if find_spec("umap") is not None:  # installed, but broken: its numba may not know this numpy
            logger.warning("umap cannot be imported, the embedding map is PCA: %s", error)
        return None
    # A fixed seed and one thread: the same map each time.
    return "UMAP", UMAP(n_components=2, metric="cosine", random_state=seed, n_jobs=1).fit_transform(points)


def _draw(
    places: dict[str, NDArray[np.float64]],
    colourings: dict[str, NDArray[Any]],
    figures: dict[str, Any],
    *,
    method: str,
    finding: str,
    out_dir: Path,
) -> tuple[Path, Path]:
    with picture((7.2, 0.8 + 3.4 * len(places))) as figure:
        figure.set_dpi(110)  # of the dots inside the SVG: thousands of vector dots would make it large
        grid = figure.subplots(len(places), len(colourings), squeeze=False)
        for line, (name, place) in zip(grid, places.items(), strict=True):
            for axes, (colouring, values) in zip(line, colourings.items(), strict=True):
                _scatter(axes, place, values, _NAMES[colouring])
                axes.set(xticks=[], yticks=[])
            line[0].set_title(legend_name(name), loc="left", fontsize=10, fontweight="bold")
            if method == "PCA":
                one, two = figures[name]["explained"]
                line[0].set_xlabel(f"axis 1: {100 * one:.1f} % of the variance", fontsize=9)
                line[0].set_ylabel(f"axis 2: {100 * two:.1f} %", fontsize=9)
        for axes, title in zip(grid[-1], (human(finding), "view"), strict=True):
            # Dots as large as one can tell apart, though those of the map are smaller.
            axes.legend(
                *axes.get_legend_handles_labels(),
                title=title,
                loc="upper center",
                bbox_to_anchor=(0.5, -0.12),
                ncols=3,
                frameon=False,
                fontsize=9,
                markerscale=1.8,
                handletextpad=0.2,
                columnspacing=1.0,
            )
        return save(figure, out_dir, "embedding_map")


def _scatter(axes: Axes, place: NDArray[np.float64], values: NDArray[Any], names: tuple[str, ...]) -> None:
    """Colour and shape tell the class; the fewest are drawn last, else they would be hidden."""
    there = [name for name in names if (values == name).any()]
    for name in sorted(there, key=lambda name: -(values == name).sum()):
        own, number = values == name, names.index(name)
        last = name in ("unknown", "uncertain or no label")
        axes.scatter(
            place[own, 0],
            place[own, 1],
            s=9,
            marker=MARKERS[(1, 0, 3, 2, 6)[number]],
            color=GREY if last else COLOURS[(1, 0, 2, 4)[number]],
            alpha=0.55,
            linewidths=0,
            rasterized=True,
            label=name,
        )
