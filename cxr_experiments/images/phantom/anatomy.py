"""Soft tissue and air: body outline, lungs, heart, mediastinum, diaphragm, abdomen, arms.

Sizes follow frontal films of young children: cage about three quarters of the film's width, heart half of the cage and
mostly on the image's right (the patient's left), the dome on the image's left a little higher (the liver below it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxr_experiments.images.phantom.frame import PHANTOM_SIZE_PX, Field, Frame, Pose, profile, table_axis, unit_step

LEFT, RIGHT = -1.0, 1.0  # sides of the IMAGE; the heart leans to RIGHT


@dataclass(frozen=True)
class Anatomy:
    """What one patient is; a draw per patient, lengths in the patient's frame, densities relative to a trunk's 1."""

    cage_width: float
    cage_bottom: float
    apex: float
    body_margin: float
    shoulder: float
    heart_width: float
    heart_p: float
    heart_tilt_rad: float
    knob: float
    pedicle: float
    dome: float
    dome_gap: float
    lung_air: float
    rib_spacing: float
    rib_slope: float
    bone: float
    vertebra: float
    curve: float
    arm_angle: float
    clavicle_tilt: float


@dataclass(frozen=True)
class Lungs:
    """Where air is.  All (256, 256) float32.

    Attributes:
        air: thickness of air, 0 outside.
        across: |distance from the midline| / half width of the cage; 1 on the cage's wall.
        depth: distance inside the lungs' outline in the patient's frame, negative outside.
        side: -1 or 1, the side of the image.
    """

    air: Field
    across: Field
    depth: Field
    side: Field


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """A patient's anatomy."""
    return Anatomy(
        cage_width=rng.uniform(0.68, 0.79),
        cage_bottom=rng.uniform(0.38, 0.52),
        apex=rng.uniform(-0.82, -0.72),
        body_margin=rng.uniform(0.08, 0.17),
        shoulder=rng.uniform(0.98, 1.12),
        heart_width=rng.uniform(0.29, 0.36),
        heart_p=rng.uniform(0.13, 0.19),
        heart_tilt_rad=rng.uniform(0.60, 0.90),
        knob=rng.uniform(0.01, 0.05),
        pedicle=rng.uniform(0.125, 0.165),
        dome=rng.uniform(0.46, 0.56),
        dome_gap=rng.uniform(0.02, 0.07),
        lung_air=rng.uniform(0.50, 0.60),
        rib_spacing=rng.uniform(0.145, 0.17),
        rib_slope=rng.uniform(0.30, 0.46),
        bone=rng.uniform(0.85, 1.20),
        vertebra=rng.uniform(0.105, 0.125),
        curve=rng.normal(0.0, 0.012),
        arm_angle=rng.uniform(0.08, 0.55),
        clavicle_tilt=rng.uniform(0.02, 0.22),
    )


def trunk(frame: Frame, anatomy: Anatomy) -> Field:
    """Thickness of neck, shoulders, chest and belly as if all were soft tissue, (256, 256), 0 outside the body."""
    wall = anatomy.cage_width + anatomy.body_margin
    width = profile(
        [
            (-1.8, 0.50),
            (-1.12, 0.31),
            (-0.99, 0.36),
            (-0.88, 0.62),
            (-0.74, 0.88 * anatomy.shoulder),
            (-0.58, 0.92 * anatomy.shoulder),
            (-0.36, 1.04 * wall),
            (-0.15, 0.98 * wall),
            (0.1, 0.97 * wall),
            (0.6, wall - 0.01),
            (1.8, wall - 0.04),
        ],
        smooth=0.11,
    )
    girth = profile(
        [(-1.8, 0.95), (-1.15, 0.62), (-0.9, 0.55), (-0.6, 0.66), (-0.2, 0.76), (0.4, 0.85), (1.0, 0.97)], 0.2
    )
    ratio = frame.p / frame.along_q(width)
    return np.sqrt(np.clip(1.0 - ratio * ratio, 0.0, None)) * frame.along_q(girth)


def arms(frame: Frame, anatomy: Anatomy) -> Field:
    """Upper arms beside the trunk with the shaft of the humerus, (256, 256) thickness."""
    limbs = np.zeros_like(frame.p)
    for columns in (slice(0, 64), slice(-64, None)):
        q = frame.q[:, columns]
        offset = (np.abs(frame.p[:, columns]) - (1.02 + anatomy.arm_angle * (q + 0.62))) * (1.0 / 0.21)
        square = offset * offset
        flesh = np.sqrt(np.maximum(1.0 - square, 0.0)) * 0.42
        shaft = np.sqrt(np.maximum(1.0 - square * 10.0, 0.0)) * (0.16 * anatomy.bone)
        limbs[:, columns] = (flesh + shaft) * unit_step((q + 0.86) * 6.0)
    return limbs


def make_lungs(frame: Frame, anatomy: Anatomy, pose: Pose) -> Lungs:
    """Both lungs between cage, mediastinum and domes, thinning to the rim as a barrel does."""
    q = table_axis()
    rise = np.clip((anatomy.cage_bottom - q) / (anatomy.cage_bottom - anatomy.apex), 0.0, 1.0)
    apex_p = 0.26
    wall = apex_p + (anatomy.cage_width - apex_p) * (1.0 - rise * rise) ** 0.62
    lean = profile([(-1.8, 0.0), (-0.6, 0.0), (0.3, pose.turn), (1.8, pose.turn)]) + anatomy.curve * np.sin(2.2 * q)
    centred = frame.p - frame.along_q(lean.astype(np.float32))
    side = np.copysign(np.float32(1.0), centred)
    u = np.abs(centred)
    half_width = frame.along_q(wall.astype(np.float32))
    borders = _border(anatomy, LEFT), _border(anatomy, RIGHT)
    mean, half_difference = 0.5 * (borders[0] + borders[1]), 0.5 * (borders[1] - borders[0])
    inner = frame.along_q(mean) + side * frame.along_q(half_difference)
    lateral, medial = half_width - u, u - inner
    vertical = frame.q - (anatomy.apex + 0.02)
    base = dome_height(u, side, anatomy, pose) - frame.q
    depth = np.minimum(np.minimum(lateral, medial), np.minimum(vertical, base))
    rim = np.clip(lateral * 2.6, 0.0, 1.0)
    barrel = np.sqrt(rim * (2.0 - rim)) * unit_step(medial * 15.0 + 0.25) * unit_step(vertical * 9.0 + 0.1)
    # lung reaches down behind the dome: under its sharp edge a little air remains and fades
    above = unit_step(base * 26.0 + 0.5) * 0.82 + unit_step(1.0 + base * 4.0) * 0.18
    return Lungs(anatomy.lung_air * barrel * above, u / half_width, depth, side)


def _border(anatomy: Anatomy, side: float) -> Field:
    """Half width of the mediastinum over q: great vessels, on the image's right the aortic knob; wide at the apex."""
    q = table_axis()
    apex = 0.16 * np.exp(-np.clip(q - anatomy.apex, 0.0, None) / 0.09)
    vessels = anatomy.pedicle + 0.02 * np.exp(-(((q + 0.05) / 0.16) ** 2))
    if side > 0:
        own = anatomy.knob * np.exp(-(((q + 0.40) / 0.08) ** 2)) + 0.05 * np.exp(-(((q + 0.13) / 0.10) ** 2))
        own += 0.10 * np.exp(-(((q - 0.12) / 0.15) ** 2))
    else:
        own = 0.02 * np.exp(-(((q + 0.48) / 0.2) ** 2)) + 0.055 * np.exp(-(((q - 0.28) / 0.24) ** 2))
    border: Field = (apex + vessels + own).astype(np.float32)
    return border


def dome_height(u: Field, side: Field, anatomy: Anatomy, pose: Pose) -> Field:
    """q of the diaphragm: flat near the middle, falling to the costophrenic angle; lower on the image's right."""
    top = anatomy.dome + pose.inspiration
    fall = (u - 0.28) * (1.0 / anatomy.cage_width)
    return (top + 0.5 * anatomy.dome_gap) + side * (0.5 * anatomy.dome_gap) + fall * fall * (0.55 + 0.45 * fall * fall)


def heart(frame: Frame, anatomy: Anatomy, pose: Pose) -> Field:
    """Thickness of the heart relative to the chest, (256, 256) in [0, 1]: a tilted ellipsoid, apex down and right."""
    centre_p = anatomy.heart_p + 1.4 * pose.turn
    centre_q = anatomy.dome + pose.inspiration - 0.17
    cos, sin = float(np.cos(anatomy.heart_tilt_rad)), float(np.sin(anatomy.heart_tilt_rad))
    dp, dq = frame.p - centre_p, frame.q - centre_q
    along, athwart = dp * cos + dq * sin, dq * cos - dp * sin
    length = anatomy.heart_width * (1.36 - 0.6 * pose.inspiration)
    radius = (along / length) ** 2 + (athwart / (0.84 * anatomy.heart_width)) ** 2
    return np.sqrt(np.clip(1.0 - radius, 0.0, None))


def airways(frame: Frame, anatomy: Anatomy, pose: Pose) -> Field:
    """Air in the trachea and the main bronchi, (256, 256) in [0, 1]; the carina lies at a third of the height."""
    carina = -0.36
    rows, columns = slice(0, PHANTOM_SIZE_PX // 2), slice(PHANTOM_SIZE_PX // 4, -PHANTOM_SIZE_PX // 4)
    p, q = frame.p[rows, columns], frame.q[rows, columns]
    spread = np.clip(q - carina, 0.0, 0.22)
    centre = np.abs(p - 0.6 * pose.turn + 0.012) - spread * 0.95
    tube = np.maximum(1.0 - (centre / (0.040 - 0.08 * spread)) ** 2, 0.0)
    air = np.zeros_like(frame.p)
    air[rows, columns] = np.sqrt(tube) * unit_step(0.9 - (q - carina) * 5.0) * unit_step((q + 1.12) * 4.0)
    return air


def abdomen(frame: Frame, anatomy: Anatomy, pose: Pose, rng: np.random.Generator) -> Field:
    """Gas in stomach and bowel below the dome on the image's right, (256, 256) in [0, 1]; from a draw per image."""
    size, centre_p = rng.uniform(0.05, 0.15), rng.uniform(0.25, 0.48)
    flat, amount = rng.uniform(0.5, 0.8), rng.uniform(0.0, 1.0)
    top = anatomy.dome + anatomy.dome_gap + pose.inspiration
    radius = ((frame.p - centre_p) / size) ** 2 + ((frame.q - top - 0.08 - flat * size) / (flat * size)) ** 2
    return unit_step(1.35 - radius) * amount
