"""Pneumonia: lobar, patchy or interstitial opacity inside the lungs, and its exact mask.

Alveoli that fill with fluid lose their air: a lesion is the fraction of air replaced, so it can neither leave the lung
nor outshine the soft tissue beside it.  Pattern and place belong to the patient, the extent of the day to the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.images.phantom.anatomy import LEFT, RIGHT, Anatomy, Lungs
from cxr_experiments.images.phantom.frame import Field, Frame, smooth_field, unit_step

PATTERNS = ("lobar", "patchy", "interstitial")
INSIDE = 0.004  # patient's frame, half a pixel: lesions keep this far from the lung's outline
Streams = tuple[np.random.Generator, np.random.Generator]
FAINTEST = 0.03  # a smaller fraction of the lesion's strength is no lesion: sets the mask's edge


@dataclass(frozen=True)
class Lesion:
    """Fraction of air replaced, (256, 256) float32 in [0, 1], exactly 0 outside `mask` (256, 256) bool; the pattern."""

    opacity: Field
    mask: NDArray[np.bool_]
    pattern: str


def no_lesion(frame: Frame) -> Lesion:
    """A healthy film's."""
    return Lesion(np.zeros_like(frame.p), np.zeros(frame.p.shape, dtype=bool), "normal")


def make_lesion(
    frame: Frame,
    anatomy: Anatomy,
    lungs: Lungs,
    streams: Streams,
    hardness: float,
) -> Lesion:
    """A patient's pneumonia on one image.

    Args:
        streams: the patient's disease (pattern, place), and the image's day (extent, density, texture).
        hardness: 0 large and dense, 1 small and faint.
    """
    patient, image = streams
    pattern = PATTERNS[int(patient.choice(3, p=(0.35, 0.40, 0.25)))]
    size = (1.20 - 0.55 * hardness) * patient.uniform(0.85, 1.15) * image.uniform(0.92, 1.08)
    strength = (0.95 - 0.75 * hardness) * patient.uniform(0.85, 1.15) * image.uniform(0.9, 1.1)
    shape = {"lobar": _lobar, "patchy": _patchy, "interstitial": _interstitial}[pattern]
    extent, texture = shape(frame, anatomy, (patient, image), size)
    inside = extent * unit_step((lungs.depth - INSIDE) * 60.0)
    scaled = inside * (1.0 / max(float(inside.max()), 1e-6))
    mask = scaled > FAINTEST
    opacity = np.where(mask, np.clip(strength * scaled * texture, 0.0, 0.98), 0.0).astype(np.float32)
    return Lesion(opacity, mask, pattern)


def _place(frame: Frame, anatomy: Anatomy, side: float, across: float, down: float) -> tuple[float, float]:
    """(p, q) of a place in one lung: `across` from the hilum 0 to the wall 1, `down` from the apex 0 to the dome 1."""
    q = anatomy.apex + 0.06 + down * (anatomy.dome - anatomy.apex - 0.06)
    rise = min(max((anatomy.cage_bottom - q) / (anatomy.cage_bottom - anatomy.apex), 0.0), 1.0)
    wall = 0.26 + (anatomy.cage_width - 0.26) * (1.0 - rise * rise) ** 0.62
    inner = 0.17 if side < 0 else 0.17 + 0.22 * max(0.0, down - 0.45) / 0.55
    return side * (inner + across * (wall - inner)), q


def _lobar(frame: Frame, anatomy: Anatomy, streams: Streams, size: float) -> tuple[Field, Field]:
    """One lobe or a good part of it, even and dense, with one straight border where a fissure bounds it."""
    patient, image = streams
    side = LEFT if patient.random() < 0.58 else RIGHT
    upper = patient.random() < 0.40
    across, down = patient.uniform(0.35, 0.75), patient.uniform(0.20, 0.34) if upper else patient.uniform(0.66, 0.84)
    at_p, at_q = _place(frame, anatomy, side, across, down)
    wide, tall = 0.24 * size * patient.uniform(0.8, 1.2), 0.24 * size * patient.uniform(0.8, 1.2)
    dp, dq = frame.p - at_p, frame.q - at_q
    rough = smooth_field(image, 21)
    radius = np.sqrt((dp / wide) ** 2 + (dq / tall) ** 2) + 0.10 * rough
    # the fissure: upper lobes end at it below, lower ones above
    slope = patient.uniform(-0.25, 0.25)
    fissure = (0.62 * tall - (dq + slope * dp)) if upper else (dq + slope * dp + 0.62 * tall)
    extent = unit_step((1.25 - radius) * 1.7) * unit_step(fissure * 16.0 + 0.5)
    return extent, (0.92 + 0.08 * smooth_field(image, 7)).astype(np.float32)


def _patchy(frame: Frame, anatomy: Anatomy, streams: Streams, size: float) -> tuple[Field, Field]:
    """Two to six fluffy clouds in one or both lungs (bronchopneumonia), more in the lower zones."""
    patient, image = streams
    both = patient.random() < 0.6
    side = LEFT if patient.random() < 0.55 else RIGHT
    cloud = np.zeros_like(frame.p)
    for _ in range(int(patient.integers(2, 7))):
        at_p, at_q = _place(frame, anatomy, side, patient.uniform(0.15, 0.85), patient.uniform(0.2, 0.95) ** 0.75)
        breadth = 0.105 * size * patient.uniform(0.7, 1.4)
        cloud += patient.uniform(0.7, 1.1) * np.exp(
            (-0.5 / breadth**2) * ((frame.p - at_p) ** 2 + (frame.q - at_q) ** 2)
        )
        side = -side if both else side
    fluff = 0.22 * smooth_field(image, 14) + 0.13 * smooth_field(image, 6)
    return unit_step(cloud * (1.0 + fluff) * 1.15 - 0.12), (0.88 + 0.14 * smooth_field(image, 6)).astype(np.float32)


def _interstitial(frame: Frame, anatomy: Anatomy, streams: Streams, size: float) -> tuple[Field, Field]:
    """A net of thickened septa over haze, both lungs, around the hila and toward the bases (viral, atypical)."""
    patient, image = streams
    envelope = np.zeros_like(frame.p)
    for side in (LEFT, RIGHT):
        at_p, at_q = _place(frame, anatomy, side, patient.uniform(0.25, 0.5), patient.uniform(0.5, 0.75))
        reach = 0.21 * size * patient.uniform(0.85, 1.2)
        envelope += patient.uniform(0.6, 1.0) * np.exp(
            -0.5 * (((frame.p - at_p) / reach) ** 2 + ((frame.q - at_q) / (1.4 * reach)) ** 2)
        )
    grain = 0.55 * smooth_field(image, 3) + 0.45 * smooth_field(image, 5)
    net = np.abs(grain) * 0.5 + unit_step(0.5 + 0.5 * grain) * 0.4
    return unit_step(envelope * 1.25 - 0.14), 0.28 + 0.50 * net
