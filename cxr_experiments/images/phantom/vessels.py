"""Hila and the branching vessels of the lungs: the normal texture that early pneumonia hides in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cxr_experiments.images.phantom.anatomy import LEFT, RIGHT, Anatomy
from cxr_experiments.images.phantom.frame import PHANTOM_SIZE_PX, Field, Frame, Pose, convolve, to_pixels

STEP = 0.011  # distance of points along a vessel, patient's frame: 1.4 pixels, so that splats touch
WIDE_KERNEL = (0.12, 0.22, 0.32, 0.22, 0.12)
FINE_KERNEL = (0.22, 0.56, 0.22)


@dataclass(frozen=True)
class Points:
    """Points along vessels, each (k,) or (paths, k): place in the patient's frame, direction, radius."""

    p: Field
    q: Field
    heading: Field
    radius: Field


def hilum(side: float, pose: Pose) -> tuple[float, float]:
    """Where the vessels of a side enter the lung; the image's right one stands higher (left hilum)."""
    return side * 0.155 + 0.9 * pose.turn + 0.02, -0.10 - 0.035 * side


def vessel_tree(anatomy: Anatomy, pose: Pose, rng: np.random.Generator) -> Points:
    """Three generations of vessels of both lungs; `rng` is the patient's."""
    trees = []
    for side in (LEFT, RIGHT):
        at_p, at_q = hilum(side, pose)
        fan = np.linspace(-1.35, 1.30, 9) + rng.normal(0.0, 0.09, 9)
        heading = fan if side > 0 else np.pi - fan
        # lower-lobe vessels are the stouter ones in an upright child
        radius = 0.0115 + 0.0035 * np.sin(fan) + rng.normal(0.0, 0.001, 9)
        start = Points(np.full(9, at_p), np.full(9, at_q), heading, radius)
        trunks = _grow(start, 0.50, rng)
        twigs = _grow(_branch(trunks, 5, rng), 0.27, rng)
        trees += [trunks, twigs, _grow(_branch(twigs, 2, rng), 0.13, rng)]
    return Points(
        *(np.concatenate([getattr(t, name).ravel() for t in trees]) for name in ("p", "q", "heading", "radius"))
    )


def _grow(start: Points, length: float, rng: np.random.Generator) -> Points:
    """Each start drawn out into a gently winding, tapering path; arrays (vessels, points)."""
    num_vessels, num_points = len(start.p), round(length / STEP)
    knots = rng.normal(0.0, 0.16, (num_vessels, 5)).cumsum(axis=1)
    place = np.linspace(0.0, 3.999, num_points)
    low = place.astype(int)
    bend = knots[:, low] + (knots[:, low + 1] - knots[:, low]) * (place - low)
    heading = start.heading[:, None] + bend - knots[:, :1]
    p = start.p[:, None] + np.cumsum(np.cos(heading) * STEP, axis=1)
    q = start.q[:, None] + np.cumsum(np.sin(heading) * STEP, axis=1)
    radius = start.radius[:, None] * np.linspace(1.0, 0.40, num_points)
    return Points(p, q, heading, radius)


def _branch(paths: Points, num_branches: int, rng: np.random.Generator) -> Points:
    """Starts of side branches along each path, turned off by about 35 degrees, to alternating sides."""
    num_vessels, num_points = paths.p.shape
    where = np.linspace(0.18, 0.90, num_branches) + rng.uniform(-0.07, 0.07, (num_vessels, num_branches))
    point = np.clip((where * num_points).astype(int), 0, num_points - 1)
    row = np.arange(num_vessels)[:, None]
    turn = np.where((np.arange(num_branches) + row) % 2 == 0, 1.0, -1.0) * rng.uniform(0.35, 0.85, point.shape)
    heading = (paths.heading[row, point] + turn).ravel()
    return Points(
        paths.p[row, point].ravel(), paths.q[row, point].ravel(), heading, paths.radius[row, point].ravel() * 0.75
    )


def draw_vessels(tree: Points, pose: Pose) -> Field:
    """The tree as thickness of blood, (256, 256), about 0.1 on a trunk; not yet limited to the lungs."""
    column, row = to_pixels(pose, tree.p, tree.q)
    wide = tree.radius > 0.0075
    volume = tree.radius**2 * (pose.zoom**2 * STEP * 4.5e5)
    return convolve(_splat(column[wide], row[wide], volume[wide]), WIDE_KERNEL) + convolve(
        _splat(column[~wide], row[~wide], volume[~wide]), FINE_KERNEL
    )


def _splat(column: Field, row: Field, weight: Field) -> Field:
    """Each point's weight shared among its four nearest pixels."""
    size = PHANTOM_SIZE_PX
    kept = (column >= 0) & (column < size - 1) & (row >= 0) & (row < size - 1)
    column, row, weight = column[kept], row[kept], weight[kept]
    x, y = column.astype(np.intp), row.astype(np.intp)
    dx, dy = column - x, row - y
    corner = y * size + x
    pixel = np.concatenate([corner, corner + 1, corner + size, corner + size + 1])
    left, right = weight * (1 - dx), weight * dx
    share = np.concatenate([left * (1 - dy), right * (1 - dy), left * dy, right * dy])
    image: Field = np.bincount(pixel, share, size * size).astype(np.float32)
    return image.reshape(size, size)


def hila(frame: Frame, pose: Pose) -> Field:
    """The soft thickening around both roots of the lungs, (256, 256) in [0, 1]."""
    shade = np.zeros_like(frame.p)
    for side in (LEFT, RIGHT):
        at_p, at_q = hilum(side, pose)
        dp, dq = frame.p - (at_p + side * 0.02), frame.q - (at_q + 0.03)
        shade += 1.0 / (1.0 + (dp / 0.075) ** 2 + (dq / 0.12) ** 2) ** 2
    return shade
