"""What the report shows beside the figures of the protocols: each panel looks at one thing."""

import logging
from pathlib import Path

from monai_cxrpair.evaluation.panels import (
    cohort_flow,
    embedding_map,
    gallery,
    grad_cam,
    neighbours,
    pairing,
    training_curves,
)
from monai_cxrpair.evaluation.panels.panel import Evaluated, Maker, Panel, PanelError

__all__ = ["PANELS", "Evaluated", "Panel", "make_panels"]

logger = logging.getLogger(__name__)

# In the order of the page.
PANELS: dict[str, Maker] = {
    "embedding_map": embedding_map.make,
    "neighbours": neighbours.make,
    "grad_cam": grad_cam.make,
    "gallery": gallery.make,
    "cohort_flow": cohort_flow.make,
    "pairing": pairing.make,
    "training_curves": training_curves.make,
}
# What a panel leaves beside the report. An earlier evaluation in the same folder may have been allowed to show more.
FILES = {
    "embedding_map": ("embedding_map.png", "embedding_map.svg"),
    "neighbours": ("neighbours_[0-9].jpg",),
    "grad_cam": ("grad_cam_*_[0-9].jpg", "grad_cam_scale.png"),
    "gallery": ("gallery_*_[0-9].jpg",),
}


def make_panels(evaluated: Evaluated, *, out_dir: Path) -> dict[str, Panel]:
    """Every panel for which there is something to show.

    A panel that cannot be made says so in its place: hours of evaluation are not lost for a picture. The text of an
    error may hold a path, and with it a patient's name, so that only the reasons written for the page get there.

    Args:
        evaluated: what is there to look at.
        out_dir: folder for the pictures, created where absent; those of an earlier evaluation are deleted.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, make in PANELS.items():
        _delete_pictures(name, out_dir)
        panel: Panel | None
        try:
            panel = make(evaluated, out_dir)
        except PanelError as reason:
            logger.warning("panel %s of the report is not made: %s", name, reason, exc_info=reason.__cause__)
            panel = Panel(figures={"not_made": str(reason)})
        except Exception as error:  # whatever it is: what was measured matters more than a picture
            logger.warning("panel %s of the report is not made", name, exc_info=error)
            panel = Panel(figures={"not_made": f"{type(error).__name__}; the log of the evaluation says more"})
        if panel is None or "not_made" in panel.figures:
            _delete_pictures(name, out_dir)  # of one that failed half-way
        if panel is not None:
            made[name] = panel
    return made


def _delete_pictures(name: str, out_dir: Path) -> None:
    for pattern in FILES.get(name, ()):
        for file in out_dir.glob(pattern):
            file.unlink()
