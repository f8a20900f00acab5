"""Ribs, spine, clavicles and shoulder blades as thickness of bone over the film."""

from __future__ import annotations

import numpy as np

from cxr_experiments.images.phantom.anatomy import Anatomy, Lungs
from cxr_experiments.images.phantom.frame import (
    PHANTOM_SIZE_PX,
    TABLE_LENGTH,
    Field,
    Frame,
    Pose,
    table_axis,
    table_index,
    unit_step,
)

NUM_RIBS = 11


def ribs(frame: Frame, anatomy: Anatomy, lungs: Lungs, rng: np.random.Generator) -> Field:
    """Posterior arcs, and fainter anterior ones that cross them, (256, 256) bone thickness.

    Args:
        rng: the patient's; each rib has its own place, breadth and density.
    """
    v = np.linspace(0.0, 1.2, TABLE_LENGTH, dtype=np.float32)  # everything that varies across the cage, tabulated once
    inside = np.minimum(v, 1.0)
    # leaves the spine level or slightly rising, then sweeps down ever more steeply to the wall
    curl = 1.0 - np.sqrt(1.0 - inside * inside)
    drop = inside * (-0.16 + inside * inside * anatomy.rib_slope) + 0.17 * curl
    rise = 0.52 * (1.0 - inside) - 0.06 * curl
    # seen edge-on at the wall a rib is several times as thick; beyond it, nothing
    tangent = (1.0 + 1.1 * unit_step((v - 0.78) * 4.5)) * unit_step((1.05 - v) * 18.0) * anatomy.bone
    back_weight = 0.125 * tangent * unit_step((v - 0.06) * 14.0)
    front_weight = 0.048 * tangent * unit_step((v - 0.42) * 3.2)
    axis = table_axis()
    level = unit_step((axis - anatomy.apex + 0.06) * 12.0) * (
        1.0 - 0.65 * unit_step((axis - anatomy.dome + 0.02) * 3.0)
    )

    across = np.minimum(lungs.across * ((TABLE_LENGTH - 1) / 1.2), TABLE_LENGTH - 1).astype(np.intp)
    tilted = frame.q + np.float32(0.006) * lungs.side
    back = rib_table(anatomy, rng, breadth=0.30, start=anatomy.apex + 0.02)
    front = rib_table(anatomy, rng, breadth=0.44, start=anatomy.apex + 0.19)
    arcs = back.take(table_index(tilted - drop.take(across))) * back_weight.take(across)
    arcs += front.take(table_index(tilted - rise.take(across))) * front_weight.take(across)
    bone: Field = arcs * frame.along_q(level)
    return bone


def rib_table(anatomy: Anatomy, rng: np.random.Generator, *, breadth: float, start: float) -> Field:
    """Bone over the coordinate along the spine: a row of tubes, each with brighter margins (cortex)."""
    axis = table_axis()
    table = np.zeros_like(axis)
    at = start
    for _ in range(NUM_RIBS):
        half = 0.5 * anatomy.rib_spacing * breadth * rng.uniform(0.9, 1.12) + 0.006
        here = slice(*np.searchsorted(axis, (at - 1.25 * half, at + 1.25 * half)))
        x = np.abs(axis[here] - at) / half
        tube = 0.62 + 0.45 * np.minimum(x, 1.0) ** 3
        table[here] += tube * unit_step((1.22 - x) * 2.6) * rng.uniform(0.85, 1.1)
        at += anatomy.rib_spacing * rng.uniform(0.94, 1.06)
    return table.astype(np.float32)


def spine(frame: Frame, anatomy: Anatomy, pose: Pose) -> Field:
    """Vertebral bodies with end plates, pedicles and spinous processes, (256, 256) bone thickness."""
    columns = slice(PHANTOM_SIZE_PX // 2 - 52, PHANTOM_SIZE_PX // 2 + 52)  # as far as shift and tilt can take it
    index = frame.q_index[:, columns]
    axis = table_axis()
    height = 0.92 * anatomy.rib_spacing
    phase = np.mod((axis - anatomy.apex) / height, 1.0)
    plate = np.exp(-(((phase - 0.12) / 0.06) ** 2)) + np.exp(-(((phase - 0.88) / 0.06) ** 2))
    body = unit_step(np.minimum(phase, 1.0 - phase) * 12.0 - 0.1)
    waist = anatomy.vertebra * (1.0 - 0.10 * np.sin(np.pi * phase)) * (1.0 + 0.14 * axis)
    centre = 0.3 * pose.turn + anatomy.curve * np.sin(2.2 * axis)
    u = (frame.p[:, columns] - centre.astype(np.float32).take(index)) / waist.astype(np.float32).take(index)
    flank = unit_step((1.06 - np.abs(u)) * 6.0)
    density = (0.055 + 0.035 * body + 0.035 * plate).astype(np.float32).take(index)
    at_pedicle = np.exp(-(((phase - 0.42) / 0.17) ** 2)).astype(np.float32).take(index)
    at_process = np.exp(-(((phase - 0.66) / 0.15) ** 2)).astype(np.float32).take(index)
    pedicle = unit_step(1.0 - np.abs(np.abs(u) - 0.62) * 3.2) * at_pedicle
    process = unit_step(1.0 - np.abs(u) * 3.8) * at_process
    bone = np.zeros_like(frame.p)
    bone[:, columns] = (density * flank + 0.040 * pedicle + 0.045 * process) * anatomy.bone
    return bone


def shoulder_girdle(frame: Frame, anatomy: Anatomy, pose: Pose) -> Field:
    """Clavicles (an S from the breastbone to the shoulder), shoulder blades and humeral heads, (256, 256)."""
    rows = slice(0, int(0.60 * PHANTOM_SIZE_PX))
    p, q = frame.p[rows] - 0.5 * pose.turn, frame.q[rows]
    u = np.abs(p)
    reach = (u - 0.11) * (1.0 / 0.66)
    line = anatomy.apex + 0.20 - (0.10 + anatomy.clavicle_tilt) * reach - 0.045 * np.sin(5.2 * reach) + p * 0.03
    half = 0.022 + 0.030 * (reach - 0.45) ** 2
    offset = np.abs(q - line) / half
    shaft = (0.70 + 0.4 * np.minimum(offset, 1.0) ** 2) * unit_step((1.25 - offset) * 2.4)
    ends = unit_step((u - 0.085) * 18.0) * unit_step((0.78 - u) * 6.0)
    # blade: a thin triangle beside the cage with a denser inner border; glenoid and humeral head at its upper corner
    edge = u - (0.70 + 0.10 * q)
    blade = (
        unit_step(edge * 12.0) * unit_step((1.02 - u) * 5.0) * unit_step((q + 0.80) * 6.0) * unit_step((0.02 - q) * 3.0)
    )
    border = unit_step(1.0 - np.abs(edge - 0.06) * 22.0) * unit_step((q + 0.62) * 5.0) * unit_step((-0.05 - q) * 4.0)
    head = unit_step(1.5 - ((u - 1.0) / 0.12) ** 2 - ((q + 0.70) / 0.12) ** 2)
    bone = np.zeros_like(frame.p)
    bone[rows] = (shaft * ends * 0.15 + blade * 0.045 + border * 0.035 + head * 0.12) * anatomy.bone
    return bone
