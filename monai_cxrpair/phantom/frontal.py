"""The frontal projection (AP or PA): what every structure adds to, or takes from, the way of the X-rays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from monai_cxrpair.phantom.anatomy import Anatomy, Condition
from monai_cxrpair.phantom.canvas import Canvas, bump, edge, ellipse, ribs
from monai_cxrpair.phantom.nuisance import Picture, Shot
from monai_cxrpair.phantom.settings import PhantomSettings
from monai_cxrpair.phantom.vessels import vessel_curves


def frontal(settings: PhantomSettings, canvas: Canvas, anatomy: Anatomy, condition: Condition, shot: Shot) -> Picture:
    """Attenuation of the chest from the front, on the sheet: 0 is air, soft tissue about 0.6, bone about 1.

    The left of the picture is the patient's right, as on a viewing box. A pure function of its arguments.
    """
    x, y = canvas.x, canvas.y
    side = (x > 0).astype(np.int32)  # 0 right, 1 left
    lift = condition.inspiration + shot.breath
    domes = np.array([dome - lift for dome in anatomy.domes], np.float32)[side]  # (1, W)
    base = float(np.mean(anatomy.domes)) - lift + anatomy.sulcus
    level = np.clip((y - anatomy.apex) / (base - anatomy.apex), 0, 1)  # 0 apex .. 1 angle
    wall = anatomy.lung_width * np.sqrt(np.maximum(1 - (1 - level) ** 2.6, 1e-4)) * (0.97 + 0.03 * level)
    across = np.abs(x) / np.float32(anatomy.lung_width)  # (1, W), 0 midline .. 1 chest wall

    diaphragm = domes + anatomy.sulcus * np.clip((across - 0.45) / 0.55, 0, 1.2) ** 2
    diaphragm = diaphragm + 0.06 * np.clip((0.45 - across) / 0.45, 0, 1) ** 2
    inside = edge(wall - np.abs(x), 0.018)
    above = edge(diaphragm - y, 0.016)

    soft, outer = _body(canvas, anatomy, shot, wall, base)
    belly = edge(y - diaphragm, 0.05)
    belly *= edge(outer - 0.04 - np.abs(x), 0.08)
    middle, heart = _mediastinum(canvas, anatomy, shot, float(domes[0, -1]), float(domes[0, 0]))
    fluid, veil = _fluid(settings, canvas, anatomy, condition, shot, across, domes)
    patchy = _opacities(canvas, anatomy, condition, domes, across)

    chest = inside * above
    air = x * x / np.maximum(wall * wall, 0.002)
    np.minimum(air, 1, out=air)
    air *= air
    air *= -0.42  # the lungs are thinner towards the wall
    air += 1
    air *= chest
    air *= 1 - middle
    air *= 1 - 0.9 * heart
    air *= 0.82 + 0.18 * edge(y + 0.1, 0.6)  # and thicker below
    if fluid is not None:
        air *= 1 - settings.fluid_density * fluid
    if veil is not None:
        air *= 1 - veil
    if patchy is not None:
        air *= 1 - patchy

    total = _bones(canvas, anatomy, shot, wall, base)
    total *= 0.45 + 0.55 * above
    total += _shoulder_girdle(canvas, anatomy, shot)
    total += soft
    total += 0.15 * belly
    middle *= (0.11 + 0.04 * condition.oedema) * edge(domes + 0.05 - y, 0.15)
    total += middle
    heart *= 0.11 * above
    total += heart
    if fluid is not None:
        fluid *= 0.10 * chest
        total += fluid
    # In the lungs: less tissue, but vessels and fine markings.
    lung = canvas.draw(curves=vessel_curves(anatomy), blur=0.006, strength=0.26)
    lung += canvas.texture(anatomy.texture_seed, grain=0.04, strength=0.018)
    soft *= 0.80
    lung -= soft
    lung *= air
    total += lung
    _take_gas(total, canvas, anatomy, shot, domes)
    if anatomy.breast:
        _add_breasts(total, canvas, anatomy)
    return total


def _body(canvas: Canvas, anatomy: Anatomy, shot: Shot, wall: Picture, base: float) -> tuple[Picture, Picture]:
    """Soft tissue without the lungs (H, W), and the half width of the trunk at each height (H, 1)."""
    x, y = np.abs(canvas.x), canvas.y
    fat = anatomy.habitus
    outer = anatomy.lung_width + 0.08 + 0.14 * fat + 0.05 * np.clip(-y, 0, 1) + 0.02 * np.sin(4 * y)
    soft = x / outer
    np.minimum(soft, 1, out=soft)
    for _ in range(3):
        soft *= soft
    soft *= -0.35  # the body is thinner at its sides
    soft += 1
    soft *= edge(outer - x, 0.02)
    # The arms hang beside the chest or are held away from it.
    arm_at = outer + 0.14 + (0.10 + 0.35 * shot.arms) * np.clip(y + 0.55, 0, 2)
    arm = edge(0.12 - np.abs(x - arm_at), 0.03)
    arm *= 0.75 * edge(y + 0.70, 0.12)
    np.maximum(soft, arm, out=soft)
    # Shoulders and neck are only above.
    top = canvas.rows(-2, -0.25)
    upper, high = soft[top], y[top]
    joint = edge(ellipse(x, high, at=(anatomy.lung_width + 0.12, -0.58), axes=(0.26, 0.20)), 0.25)
    joint *= 0.9
    np.maximum(upper, joint, out=upper)
    shoulder = -0.98 + 0.42 * np.clip((x - 0.16) / 0.6, 0, 2) ** 0.8 - 0.05 * fat
    upper *= np.maximum(edge(high - shoulder, 0.03), 0.72 * edge(0.17 + 0.05 * fat - x, 0.03))
    soft *= 0.58 + 0.12 * fat
    return soft, np.asarray(outer, np.float32)


def _mediastinum(
    canvas: Canvas, anatomy: Anatomy, shot: Shot, left_dome: float, right_dome: float
) -> tuple[Picture, Picture]:
    """Masks in [0, 1] of the mediastinum and of the heart."""
    x, y = canvas.x, canvas.y
    turn = 0.035 * shot.turn
    right = 0.105 + 0.03 * bump(y, -0.45, 0.25) + 0.035 * anatomy.hilum * bump(y, 0.0, 0.14) + 0.05 * bump(y, -1.0, 0.3)
    left = 0.10 + 0.085 * anatomy.aortic_knob * bump(y, -0.34, 0.085) + 0.045 * bump(y, -0.16, 0.08)
    left = left + 0.03 * anatomy.hilum * bump(y, -0.02, 0.12) + 0.05 * bump(y, -1.0, 0.3)
    size = anatomy.heart_size * shot.heart_magnification
    bottom = max(left_dome, right_dome)
    # The left border slopes from the pulmonary trunk down to the apex of the heart.
    left = left + 0.17 * size * np.clip((y + 0.16) / (bottom + 0.16), 0, 1)
    middle = edge(np.minimum(x - turn + right, left + turn - x), 0.022)
    ventricle = ellipse(x, y, at=(0.13 + turn, bottom - 0.13), axes=(0.33 * size, 0.20 * size), tilt=anatomy.heart_tilt)
    atrium = ellipse(x, y, at=(-0.035 + turn, bottom - 0.16), axes=(0.17 * size, 0.24 * size), tilt=-0.15)
    heart = edge(np.maximum(ventricle, atrium), 0.075)
    return middle, heart


def _fluid(
    settings: PhantomSettings, canvas: Canvas, anatomy: Anatomy, condition: Condition, shot: Shot,
    across: Picture, domes: Picture,
) -> tuple[Picture | None, Picture | None]:  # fmt: skip
    """Masks of the pleural fluid with its meniscus (or of a scar), and of the veil of fluid behind the lung."""
    y = canvas.y
    offset, factor, power = settings.effusion_rise
    right = canvas.x < 0
    rise, veils = [], []
    for grade, scar in zip(condition.effusion, anatomy.scars, strict=True):
        height = offset + factor * grade**power if grade else 0.0
        if shot.supine:  # fluid runs to the back: a lower meniscus and a haze over the lung
            height *= settings.supine_fluid[0]
        rise.append(max(height, settings.scar_height * scar))
        veils.append(settings.supine_fluid[1] * grade if shot.supine else 0.08 * grade)
    fluid = veil = None
    if max(rise):
        height = np.where(right, rise[0], rise[1]).astype(np.float32)
        meniscus = domes + anatomy.sulcus - height * (0.42 + 0.58 * np.clip(across, 0, 1.1) ** 3)
        fluid = edge(y - meniscus, 0.045)
        fluid *= height > 0
    if max(veils):
        veil = edge(y - (domes - 0.55), 0.5)
        veil *= np.where(right, veils[0], veils[1]).astype(np.float32)
    return fluid, veil


def _opacities(
    canvas: Canvas, anatomy: Anatomy, condition: Condition, domes: Picture, across: Picture
) -> Picture | None:
    """Share of the air taken by consolidation, oedema and atelectasis, in [0, 1)."""
    x, y = canvas.x, canvas.y
    if not (condition.consolidations or condition.oedema or condition.atelectasis):
        return None
    total = np.zeros(canvas.shape, np.float32)
    if condition.oedema:
        total += 0.75 * condition.oedema * bump(across, 0.3, 0.35) * bump(y, 0.02, 0.32)
    for item in condition.consolidations:
        sign = 1 if item.side else -1
        dome = float(domes[0, -1 if item.side else 0])
        at = (sign * item.across * anatomy.lung_width, dome - item.height * (dome - anatomy.apex))
        rows = canvas.rows(at[1] - 1.8 * item.radius, at[1] + 1.8 * item.radius)
        blob = ellipse(x, y[rows], at=at, axes=(item.radius * 1.15, item.radius))
        blob += canvas.texture(item.texture_seed, grain=0.09, strength=0.2)[rows]
        np.maximum(total[rows], item.density * edge(blob, 0.25), out=total[rows])
    if condition.atelectasis:
        side, height, tilt = condition.atelectasis
        at = (0.38 if side else -0.38, float(domes[0, -1 if side else 0]) - height)
        ends = [(at[0] + reach, at[1] + reach * tilt) for reach in (-0.15, 0.15)]
        np.maximum(total, canvas.draw(curves=[(ends, 0.022, 0.7)], blur=0.01, strength=0.6), out=total)
    return total


def _bones(canvas: Canvas, anatomy: Anatomy, shot: Shot, wall: Picture, base: float) -> Picture:
    """What the ribs, the spine, the clavicles and the scapulae add."""
    x, y = canvas.x, canvas.y
    lateral = np.clip(np.abs(x) / np.float32(anatomy.lung_width), 0, 1.3)  # (1, W)
    cage = edge(wall + 0.045 - np.abs(x), 0.02)
    cage *= edge(y - anatomy.apex + 0.06, 0.05) * edge(base - y, 0.15)
    slope = anatomy.rib_slope
    back = slope * (0.34 * lateral**2.6 - 0.07 * np.sin(np.pi * np.clip(lateral, 0, 1)))
    front = slope * 0.36 * (1 - lateral)
    along = np.clip(y, -1, 1)
    along = (along - 0.06 * along * along) / anatomy.rib_spacing + anatomy.rib_phase  # wider apart below
    total = ribs(along, -back / anatomy.rib_spacing)
    total *= edge(lateral - 0.13, 0.05)
    before = ribs(along, 0.4 - front / anatomy.rib_spacing)
    before *= 0.55 * edge(lateral - 0.48, 0.12)
    total += before
    cage *= 0.085 * anatomy.rib_contrast
    total *= cage
    # Spine: a straight or slightly curved column, darker at every disc, with the pedicles as eyes.
    mid = anatomy.spine_curve * np.sin(2.2 * y + 0.5) - 0.03 * shot.turn  # (H, 1)
    columns = canvas.columns(-0.18, 0.18)
    off = np.abs(x[:, columns] - mid)
    discs = 1 - 0.35 * bump((y / anatomy.vertebra) % 1.0, 0.5, 0.16)
    pedicles = bump((y / anatomy.vertebra + 0.12) % 1.0, 0.5, 0.14)
    total[:, columns] += 0.085 * edge(0.075 - off, 0.02) * discs + 0.05 * bump(off, 0.045, 0.014) * pedicles
    return total


def _shoulder_girdle(canvas: Canvas, anatomy: Anatomy, shot: Shot) -> Picture:
    """Clavicles, scapulae and the upper arms' bones."""
    curves: list[tuple[ArrayLike, float, float]] = []
    blades: list[tuple[ArrayLike, float]] = []
    portable = shot.view_position == "AP"
    top = anatomy.apex + (0.06 if portable else 0.13)
    t = np.linspace(0, 1, 9)
    # A PA film turns the shoulder blades out of the lungs.
    inner = 0.50 if portable else 0.66
    blade = np.array([(inner + 0.03, -0.56), (0.80, -0.66), (0.84, -0.46), (inner + 0.10, 0.02), (inner + 0.02, -0.06)])
    arm = anatomy.lung_width + 0.22
    for sign in (-1, 1):
        drop = 0.10 + anatomy.clavicle_tilt + 0.03 * sign * shot.turn
        points = np.stack([sign * (0.09 + 0.60 * t) + 0.03 * shot.turn, top - drop * t + 0.035 * np.sin(6 * t)], 1)
        cortex = np.array([0.0, 0.022])
        curves += [(points, 0.05, 0.55), (points + cortex, 0.0125, 0.9), (points - cortex, 0.0125, 0.8)]
        blades.append((blade * [sign, 1], 0.25))
        curves.append(([(sign * arm, -0.60), (sign * (arm + 0.06 + 0.25 * shot.arms), 0.4)], 0.085, 0.5))
    return canvas.draw(curves=curves, patches=blades, blur=0.007, strength=0.20)


def _take_gas(total: Picture, canvas: Canvas, anatomy: Anatomy, shot: Shot, domes: Picture) -> None:
    """Take away the windpipe and the stomach bubble, in place."""
    columns = canvas.columns(-0.15, 0.15)
    pipe = edge(0.033 - np.abs(canvas.x[:, columns] - 0.012 - 0.03 * shot.turn), 0.018)
    total[:, columns] -= 0.15 * pipe * edge(-0.2 - canvas.y, 0.05)
    if anatomy.stomach > 0.3 and not shot.supine:  # lying, the air is in front and shows no bubble
        size = anatomy.stomach
        at = (0.30, float(domes[0, -1]) + 0.045 + 0.07 * size)
        rows = canvas.rows(at[1] - 0.15 * size, at[1] + 0.15 * size)
        bubble = ellipse(canvas.x, canvas.y[rows], at=at, axes=(0.13 * size, 0.065 * size), tilt=0.15)
        total[rows] -= 0.24 * edge(bubble, 0.12)


def _add_breasts(total: Picture, canvas: Canvas, anatomy: Anatomy) -> None:
    """Add both breasts, densest at their lower border, in place."""
    size = 0.16 + 0.14 * anatomy.breast
    middle = 0.20 + 0.16 * anatomy.breast
    rows = canvas.rows(middle - 1.2 * size, middle + 1.2 * size)
    y = canvas.y[rows]
    shape = edge(ellipse(np.abs(canvas.x), y, at=(0.40, middle), axes=(size * 1.1, size)), 0.08)
    shape *= 0.11 * anatomy.breast * (0.55 + 0.45 * edge(y - middle, size))
    total[rows] += shape
