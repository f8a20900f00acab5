"""From thickness to gray: exposure, noise, collimation and the side marker.  None of it knows the label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxr_experiments.images.phantom.frame import PHANTOM_SIZE_PX, Field, blurred, convolve, unit_step

MARKER_PX = 30


@dataclass(frozen=True)
class Exposure:
    """How the film was taken and developed; a draw per image.

    Attributes:
        level: thickness that becomes middle gray; window: thickness from black to white.
        equalisation: share of coarse contrast that the reader unit takes away.
        noise: standard deviation at middle gray, fraction of the gray range.
        veil: fog added everywhere, fraction of the gray range.
    """

    level: float
    window: float
    equalisation: float
    noise: float
    veil: float


def draw_exposure(rng: np.random.Generator, hardness: float) -> Exposure:
    """An exposure; harder sets vary more and are noisier, for both labels alike."""
    spread = 0.8 + 0.4 * hardness
    return Exposure(
        level=0.45 + float(np.clip(rng.normal(0.0, 0.08), -0.17, 0.17)) * spread,
        window=rng.uniform(0.72, 1.0),
        equalisation=rng.uniform(0.15, 0.45),
        noise=rng.uniform(0.008, 0.016) * (0.6 + 0.8 * hardness),
        veil=rng.uniform(0.0, 0.05) * spread,
    )


def develop(thickness: Field, exposure: Exposure, rng: np.random.Generator) -> Field:
    """Gray in [0, 1] of a thickness map, (256, 256): logarithmic detector, soft shoulder and toe, quantum noise."""
    coarse = blurred(thickness, 16)
    even = thickness - exposure.equalisation * (coarse - 0.55)
    gray = 0.5 + 0.5 * np.tanh((even - exposure.level) * (1.75 / exposure.window))
    grain = rng.standard_normal(gray.shape, dtype=np.float32)
    grain = 0.75 * grain + 0.9 * convolve(grain, (0.25, 0.5, 0.25))
    # fewer quanta arrive behind thick parts
    return exposure.veil + (1.0 - exposure.veil) * gray + grain * (exposure.noise * (0.35 + gray))


def collimate(gray: Field, rng: np.random.Generator) -> Field:
    """The shutters' shadow on each side: none on most, up to 7 % of the film on others, with a blurred edge."""
    axis = np.arange(PHANTOM_SIZE_PX, dtype=np.float32)
    open_share = np.maximum(rng.uniform(-0.30, 0.07, 4), 0.0) * PHANTOM_SIZE_PX
    leak = rng.uniform(0.0, 0.06)
    sides = [
        unit_step((d - cut) / 2.5 + 0.5) if cut > 0 else np.ones_like(axis)
        for d, cut in zip((axis, axis[::-1], axis, axis[::-1]), open_share, strict=True)
    ]
    beam = (sides[0] * sides[1])[:, None] * (sides[2] * sides[3])[None, :]
    return gray * (leak + (1.0 - leak) * beam.astype(np.float32))


def stamp_marker(gray: Field, rng: np.random.Generator) -> Field:
    """A lead letter near the rim: R on the image's left or L on its right, anywhere along it; sometimes none."""
    letter = "R" if rng.random() < 0.7 else "L"
    height, tilt, brightness = rng.uniform(8.0, 14.0), rng.normal(0.0, 0.12), rng.uniform(0.75, 1.0)
    margin, down, present = rng.uniform(0.0, 9.0), rng.uniform(0.02, 0.85), rng.random() < 0.9
    if not present:
        return gray
    ink = letter_ink(letter, height, tilt) * brightness
    row = int(down * (PHANTOM_SIZE_PX - MARKER_PX))
    column = int(margin) if letter == "R" else PHANTOM_SIZE_PX - MARKER_PX - int(margin)
    out = gray.copy()
    patch = out[row : row + MARKER_PX, column : column + MARKER_PX]
    patch += (1.0 - patch) * ink
    return out


def letter_ink(letter: str, height: float, tilt: float) -> Field:
    """Coverage in [0, 1], (30, 30), of the letter R or L, `height` pixels high, turned by `tilt` radians."""
    axis = np.arange(MARKER_PX, dtype=np.float32) - (MARKER_PX - 1) / 2
    x = (axis[None, :] * np.cos(tilt) + axis[:, None] * np.sin(tilt)) / height
    y = (axis[:, None] * np.cos(tilt) - axis[None, :] * np.sin(tilt)) / height
    strokes = [_segment(x, y, (-0.26, -0.5), (-0.26, 0.5))]
    if letter == "L":
        strokes.append(_segment(x, y, (-0.26, 0.5), (0.28, 0.5)))
    else:
        bowl = np.abs(np.hypot(np.maximum(x - 0.02, 0.0), y + 0.24) - 0.26)
        strokes += [np.where((x > -0.26) & (y < 0.06), bowl, 9.0), _segment(x, y, (0.0, 0.02), (0.28, 0.5))]
    distance = np.minimum.reduce(strokes) * height
    ink: Field = np.clip(0.085 * height + 0.5 - distance, 0.0, 1.0).astype(np.float32)
    return ink


def _segment(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float]) -> Field:
    """Distance of each point from a straight stroke."""
    across, down = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * across + (y - start[1]) * down) / (across**2 + down**2), 0.0, 1.0)
    return np.hypot(x - start[0] - along * across, y - start[1] - along * down)
