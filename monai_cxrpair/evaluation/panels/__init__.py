"""What the report shows beside the figures of the protocols: each panel looks at one thing."""

import logging
from pathlib import Path

from monai_cxrpair.errors import CxrPairError
from monai_cxrpair.evaluation.panels import (
    cohort_flow,
    embedding_map,
    gallery,
    grad_cam,
    neighbours,
    pairing,
    training_curves,
)
from monai_cxrpair.evaluation.panels.panel import Evaluated, Maker, Panel

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


def make_panels(evaluated: Evaluated, *, out_dir: Path) -> dict[str, Panel]:
    """Every panel for which there is something to show.

    A panel that cannot be made says why in its place: hours of evaluation are not lost for a picture.

    Args:
        evaluated: what is there to look at.
        out_dir: folder for the pictures, created where absent.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, make in PANELS.items():
        try:
            panel = make(evaluated, out_dir)
        except CxrPairError as error:
            logger.warning("panel %s of the report is not made: %s", name, error)
            panel = Panel(figures={"not_made": str(error)})
        if panel is not None:
            made[name] = panel
    return made
