"""What the pictures of the report have in common: no display, colours for all readers, the same bytes each time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_cxrpair.cohort.files import atomic_path

# Okabe and Ito's palette, told apart by colour-blind readers, the darker colours first; line styles for grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
STYLES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
GREY = "#9AA3AD"


@contextmanager
def picture(size: tuple[float, float]) -> Iterator[Figure]:
    """A figure without pyplot: no global state. Fixed salt and no date: the same numbers, the same bytes."""
    with rc_context({"svg.hashsalt": "cxrpair", "font.family": "DejaVu Sans", "font.size": 10}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, out_dir: Path, stem: str) -> tuple[Path, Path]:
    """Write `<stem>.png` and `<stem>.svg`; inside `picture`."""
    png, svg = out_dir / f"{stem}.png", out_dir / f"{stem}.svg"
    with atomic_path(png, mode=None) as temporary:
        figure.savefig(temporary, format="png", dpi=160, metadata={"Software": None})
    with atomic_path(svg, mode=None) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    return png, svg


def tidy(axes: Axes) -> None:
    """Light grid behind the data, no box."""
    axes.grid(color="#E3E7EB", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend_name(name: str, text: str = "") -> str:
    """Name and figure; `$` would start mathematics, a leading `_` would hide the entry."""
    short = name if len(name) <= 34 else name[:33] + "…"
    return f"{short}  {text}".strip().replace("$", r"\$").removeprefix("_")
