"""The lateral projection of the same chest: the patient looks to the left of the picture."""

from __future__ import annotations

import numpy as np

from monai_cxrpair.phantom.anatomy import Anatomy, Condition
from monai_cxrpair.phantom.canvas import Canvas, bump, edge, ellipse, ribs
from monai_cxrpair.phantom.nuisance import Picture, Shot
from monai_cxrpair.phantom.settings import PhantomSettings
from monai_cxrpair.phantom.vessels import vessel_curves


def lateral(settings: PhantomSettings, canvas: Canvas, anatomy: Anatomy, condition: Condition, shot: Shot) -> Picture:
    """Attenuation of the chest from the side, on the sheet; both lungs lie over each other.

    Domes, angle, ribs, heart, vertebrae, habitus and fluid are those of the frontal. A pure function of its arguments.
    """
    x, y = canvas.x, canvas.y
    lift = condition.inspiration + shot.breath
    domes = [dome - lift for dome in anatomy.domes]
    base = float(np.mean(domes)) + anatomy.sulcus + 0.06
    level = np.clip((y - anatomy.apex) / (base - anatomy.apex), 0, 1)
    depth = anatomy.chest_depth
    front = -depth * (0.22 + 0.68 * level**0.7)  # (H, 1) inner side of the sternum
    curve = np.sin(np.pi * (0.12 + 0.70 * level))
    back = depth * (0.38 + (0.45 + 0.12 * anatomy.kyphosis) * curve)  # (H, 1) inner side of the back
    t = (x + 0.90 * depth) / (1.70 * depth)  # (1, W), 0 sternum .. 1 angle behind
    cover = edge(x - front, 0.02) * edge(back - x, 0.02) * edge(y - anatomy.apex, 0.10)

    soft, outside = _body(canvas, anatomy, front, back)
    heart = _heart(canvas, anatomy, shot, max(domes), depth)
    thickness = np.clip(0.55 + 0.45 * edge(y + 0.35, 0.5), 0, 1)  # shoulders above, lungs below
    air = np.zeros(canvas.shape, np.float32)
    wet = np.zeros(canvas.shape, np.float32)
    belly = np.zeros(canvas.shape, np.float32)
    for side in (0, 1):
        floor = domes[side] + 0.07 * np.clip((0.45 - t) / 0.45, 0, 1.3) ** 2
        floor = floor + (anatomy.sulcus + 0.06) * np.clip((t - 0.45) / 0.55, 0, 1.15) ** 2
        above = edge(floor - y, 0.014)
        fluid = _fluid(settings, canvas, anatomy, condition, shot, side, domes[side] + anatomy.sulcus + 0.06, t)
        patchy = _opacity(canvas, anatomy, condition, side, domes[side], depth)
        air += 0.5 * above * (1 - settings.fluid_density * fluid) * (1 - patchy)
        wet += 0.5 * fluid * above
        belly += 0.5 * (1 - above)
    air *= cover * (1 - 0.62 * heart) * thickness
    if condition.oedema:
        air *= 1 - 0.5 * condition.oedema * bump(x, 0.02, 0.25) * bump(y, 0.0, 0.3)

    total = soft * (1 - 0.82 * air) + 0.14 * belly * outside + 0.10 * heart * cover + 0.07 * wet * cover
    side_on = [(points * [0.62, 1.0] + [0.03, 0.0], width, value) for points, width, value in vessel_curves(anatomy)]
    markings = canvas.draw(curves=side_on, blur=0.006, strength=0.20)
    markings += canvas.texture(anatomy.texture_seed, grain=0.04, strength=0.016)
    total += markings * air
    total += 0.09 * anatomy.hilum * bump(x, 0.03, 0.07) * bump(y, -0.02, 0.09)
    total += _bones(canvas, anatomy, front, back, base, cover)
    total -= _gas(canvas, anatomy, shot, domes[1], depth)
    total += 0.14 * (1.15 - shot.arms) * edge(-0.52 - y - 0.25 * (x + 0.1), 0.20) * outside
    return np.asarray(total, np.float32)


def _body(canvas: Canvas, anatomy: Anatomy, front: Picture, back: Picture) -> tuple[Picture, Picture]:
    """Soft tissue without the lungs, and the mask of the whole body."""
    x, y = canvas.x, canvas.y
    fat = anatomy.habitus
    chest = front - 0.07 - 0.10 * fat - 0.16 * anatomy.breast * bump(y, 0.18 + 0.16 * anatomy.breast, 0.20)
    chest = chest - 0.10 * fat * np.clip(y - 0.3, 0, 1)
    spine = back + 0.11 + 0.08 * fat
    # Above the chest: the raised arms in front, the neck and the shoulders behind.
    top = np.clip(-0.50 - y, 0, 1)
    outside = edge(x - chest + 0.75 * top, 0.03) * edge(spine + 0.10 * top - x, 0.025)
    return (0.64 + 0.10 * fat) * outside, outside


def _heart(canvas: Canvas, anatomy: Anatomy, shot: Shot, dome: float, depth: float) -> Picture:
    """Mask of the heart with the ascending aorta and the arch."""
    x, y = canvas.x, canvas.y
    size = anatomy.heart_size * shot.heart_magnification
    heart = edge(ellipse(x, y, at=(-0.36 * depth, dome - 0.13), axes=(0.30 * size, 0.235 * size), tilt=0.55), 0.11)
    root = edge(ellipse(x, y, at=(-0.22 * depth, -0.16), axes=(0.13, 0.28)), 0.25)
    knob = 0.09 + 0.035 * anatomy.aortic_knob
    arch = edge(0.045 - np.abs(np.sqrt((x + 0.02) ** 2 + (y + 0.27) ** 2) - knob), 0.03) * edge(-0.2 - y, 0.06)
    np.maximum(heart, np.maximum(0.45 * root, 0.35 * arch), out=heart)
    return heart


def _fluid(
    settings: PhantomSettings, canvas: Canvas, anatomy: Anatomy, condition: Condition, shot: Shot,
    side: int, angle: float, t: Picture,
) -> Picture:  # fmt: skip
    """Mask of the fluid of one side: it fills the angle behind and climbs along the back, less along the front."""
    grade, scar = condition.effusion[side], anatomy.scars[side]
    offset, factor, power = settings.effusion_rise
    rise = max(offset + factor * grade**power if grade else 0.0, settings.scar_height * scar)
    if not rise:
        return np.zeros((1, 1), np.float32)
    climb = 0.40 + 0.60 * np.clip(t, 0, 1) ** 3 + 0.15 * np.clip(1 - t, 0, 1) ** 3
    return edge(canvas.y - (angle + 0.02 - (rise + 0.03) * climb), 0.045)


def _opacity(canvas: Canvas, anatomy: Anatomy, condition: Condition, side: int, dome: float, depth: float) -> Picture:
    """Share of one lung's air taken by its consolidations."""
    total = np.zeros((1, 1), np.float32)
    for item in condition.consolidations:
        if item.side == side:
            # How far back it lies is not seen on the frontal, so its own seed decides.
            place = np.random.default_rng(item.texture_seed).uniform(-0.4, 0.6)
            at = (place * depth, dome - item.height * (dome - anatomy.apex))
            blob = ellipse(canvas.x, canvas.y, at=at, axes=(item.radius, item.radius))
            blob += canvas.texture(item.texture_seed, grain=0.09, strength=0.2)
            total = np.maximum(total, item.density * edge(blob, 0.25))
    return total


def _bones(canvas: Canvas, anatomy: Anatomy, front: Picture, back: Picture, base: float, cover: Picture) -> Picture:
    """What spine, ribs of both sides, sternum and shoulder blades add."""
    x, y = canvas.x, canvas.y
    mid = back - 0.035
    column = edge(0.085 - np.abs(x - mid), 0.02)
    tilted = (y + 0.35 * (x - mid)) / anatomy.vertebra
    discs = 1 - 0.75 * bump(tilted % 1.0, 0.5, 0.14)
    total = 0.20 * column * discs * (1 - 0.25 * edge(y, 0.6))  # more lung lies over the lower vertebrae
    slope = 0.55 * anatomy.rib_slope * (0.35 * anatomy.chest_depth - x) + 0.10 * np.sin(5 * x)
    cage = cover * edge(y - anatomy.apex - 0.02, 0.06) * edge(base + 0.10 - y, 0.12)
    along = y / anatomy.rib_spacing + anatomy.rib_phase
    near = ribs(along, -slope / anatomy.rib_spacing)
    far = ribs(1.04 * along, 0.35 - 1.08 * slope / anatomy.rib_spacing)
    total = total + 0.045 * anatomy.rib_contrast * cage * (near + 0.8 * far)
    sternum = edge(0.022 - np.abs(x - front + 0.02), 0.012) * edge(y - anatomy.apex - 0.2, 0.05) * edge(0.12 - y, 0.08)
    blade = canvas.draw(
        curves=[
            ([(0.62 * anatomy.chest_depth, -0.75), (0.85 * anatomy.chest_depth, -0.2)], 0.02, 0.8),
            ([(0.50 * anatomy.chest_depth, -0.78), (0.72 * anatomy.chest_depth, -0.25)], 0.02, 0.7),
        ],
        blur=0.008,
        strength=0.10,
    )
    return np.asarray(total + 0.18 * sternum + blade, np.float32)


def _gas(canvas: Canvas, anatomy: Anatomy, shot: Shot, dome: float, depth: float) -> Picture:
    """What the windpipe and the stomach bubble under the left dome take away."""
    x, y = canvas.x, canvas.y
    windpipe = edge(0.032 - np.abs(x + 0.02 - 0.10 * (y + 0.5)), 0.018) * edge(-0.12 - y, 0.04) * edge(y + 1.05, 0.1)
    total = 0.16 * windpipe
    if anatomy.stomach > 0.3:
        at = (-0.05 * depth, dome + 0.045 + 0.07 * anatomy.stomach)
        bubble = edge(ellipse(x, y, at=at, axes=(0.14 * anatomy.stomach, 0.065 * anatomy.stomach)), 0.12)
        total = total + 0.22 * bubble
    return np.asarray(total, np.float32)
