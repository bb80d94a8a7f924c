"""From parameters to a picture: the second of the two steps (draw, then apply), a pure function."""

from __future__ import annotations

from monai_cxrpair.phantom.anatomy import Anatomy, Condition
from monai_cxrpair.phantom.canvas import canvas_for
from monai_cxrpair.phantom.devices import devices
from monai_cxrpair.phantom.frontal import frontal
from monai_cxrpair.phantom.lateral import lateral
from monai_cxrpair.phantom.nuisance import Picture, Shot, expose
from monai_cxrpair.phantom.settings import PhantomSettings


def render_radiograph(
    anatomy: Anatomy, condition: Condition, shot: Shot, *, settings: PhantomSettings | None = None
) -> Picture:
    """Render one radiograph; the same arguments give the same array.

    Args:
        anatomy: The patient's chest (`draw_anatomy`).
        condition: Its state at the study (`draw_condition`).
        shot: How the radiograph was taken (`draw_shot`); decides between frontal and lateral.
        settings: The phantom's settings; size and strength of the fluid are read from them.

    Returns:
        float32 `(H, W)`, bone bright and air dark. 0 to 1 is what is shown; a little lies beyond, as in a real
        detector's data, and is cut by the window.
    """
    settings = settings or PhantomSettings()
    canvas = canvas_for(settings.shape)
    is_lateral = shot.laterality == "lateral"
    sheet = (lateral if is_lateral else frontal)(settings, canvas, anatomy, condition, shot)
    metal = devices(canvas, anatomy, condition, lateral=is_lateral)
    if metal is not None:
        sheet += metal
    return expose(canvas.develop(sheet, shot), shot)
