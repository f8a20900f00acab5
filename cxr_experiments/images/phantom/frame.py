"""The patient's coordinates and the tools that draw in them: pose, one-dimensional profiles, smooth random fields.

Anatomy is drawn in the patient's own frame: p runs across (negative is the image's left, the patient's right side),
q runs down, 1 is half the side of an unzoomed film.  Most shapes are curves in q alone, tabulated once and looked up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

PHANTOM_SIZE_PX = 256
TABLE_LOW, TABLE_HIGH, TABLE_LENGTH = -1.8, 1.8, 2048  # an entry every quarter pixel
Field = NDArray[np.floating[Any]]  # float32 wherever a whole film is meant: half the memory, half the time


@dataclass(frozen=True)
class Pose:
    """How the patient stands before the detector; a draw per image."""

    rotation_rad: float
    zoom: float
    shift_p: float
    shift_q: float
    turn: float
    inspiration: float


@dataclass(frozen=True)
class Frame:
    """Each pixel in the patient's frame.  Arrays (256, 256): p, q float32; q_index into tables over q."""

    p: Field
    q: Field
    q_index: NDArray[np.intp]

    def along_q(self, table: Field) -> Field:
        """A table over q looked up at every pixel."""
        return table.take(self.q_index)


def stream(seed: int, *purpose: object) -> np.random.Generator:
    """A generator that depends on the seed and the purpose alone: the same in any order and any process."""
    text = ":".join(["phantom", str(seed), *map(str, purpose)])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def draw_pose(rng: np.random.Generator) -> Pose:
    """A pose: up to some degrees of tilt, a tenth of zoom; `turn` is rotation about the long axis, as seen in p."""
    return Pose(
        rotation_rad=float(np.deg2rad(np.clip(rng.normal(0.0, 1.8), -5.0, 5.0))),
        zoom=rng.uniform(0.94, 1.13),
        shift_p=rng.uniform(-0.06, 0.06),
        shift_q=rng.uniform(-0.07, 0.06),
        turn=float(np.clip(rng.normal(0.0, 0.022), -0.06, 0.06)),
        inspiration=rng.uniform(-0.09, 0.05),
    )


def make_frame(pose: Pose) -> Frame:
    """The patient's coordinates of every pixel centre."""
    axis = ((np.arange(PHANTOM_SIZE_PX, dtype=np.float32) + 0.5) * (2.0 / PHANTOM_SIZE_PX) - 1.0).astype(np.float32)
    across, down = axis[None, :] - pose.shift_p, axis[:, None] - pose.shift_q
    cos, sin = float(np.cos(pose.rotation_rad)) / pose.zoom, float(np.sin(pose.rotation_rad)) / pose.zoom
    p, q = across * cos + down * sin, down * cos - across * sin
    return Frame(p, q, table_index(q))


def to_pixels(pose: Pose, p: Field, q: Field) -> tuple[Field, Field]:
    """Column and row (pixel centres are whole numbers) of points in the patient's frame."""
    cos, sin = float(np.cos(pose.rotation_rad)) * pose.zoom, float(np.sin(pose.rotation_rad)) * pose.zoom
    across, down = p * cos - q * sin + pose.shift_p, q * cos + p * sin + pose.shift_q
    half = PHANTOM_SIZE_PX / 2
    return (across + 1.0) * half - 0.5, (down + 1.0) * half - 0.5


def table_index(coordinate: Field) -> NDArray[np.intp]:
    """Where a coordinate stands in a table over [TABLE_LOW, TABLE_HIGH]; beyond, the last entry."""
    scale = (TABLE_LENGTH - 1) / (TABLE_HIGH - TABLE_LOW)
    place = np.maximum((coordinate - TABLE_LOW) * scale + 0.5, 0.0)
    index: NDArray[np.intp] = np.minimum(place, TABLE_LENGTH - 1).astype(np.intp)
    return index


@lru_cache(maxsize=1)
def table_axis() -> Field:
    """The coordinate of each table entry, (2048,) float32."""
    axis = np.linspace(TABLE_LOW, TABLE_HIGH, TABLE_LENGTH).astype(np.float32)
    axis.setflags(write=False)
    return axis


def profile(points: Sequence[tuple[float, float]], smooth: float = 0.08) -> Field:
    """A smooth curve near (coordinate, value) points, as a table: linear, then averaged over `smooth` twice."""
    at, value = zip(*points, strict=True)
    table = np.interp(table_axis(), at, value)
    width = max(1, int(smooth * TABLE_LENGTH / (TABLE_HIGH - TABLE_LOW))) | 1
    for _ in range(2):
        total = np.cumsum(np.pad(table, (width // 2 + 1, width // 2), mode="edge"))
        table = (total[width:] - total[:-width]) / width
    curve: Field = table.astype(np.float32)
    return curve


@lru_cache(maxsize=16)
def _spline_weights(stride: int) -> Field:
    """(4, stride): how the four nearest knots of a cubic B-spline share each pixel of a cell; columns sum to one."""
    t = (np.arange(stride) + 0.5) / stride
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return (np.stack(weights) / 6.0).astype(np.float32)


def spline_up(knots: Field, stride: int) -> Field:
    """Knots (rows + 3, columns + 3) drawn up smoothly to (rows * stride, columns * stride).

    Written without matrix products: BLAS threads of many processes at once cost more than the sums do.
    """
    weights = _spline_weights(stride)
    for _ in range(2):  # along the rows, turned, along the rows again: long inner loops
        cells = knots.shape[0] - 3
        fine = weights[0][:, None] * knots[:cells, None]
        for k in range(1, 4):
            fine += weights[k][:, None] * knots[k : k + cells, None]
        knots = np.ascontiguousarray(fine.reshape(cells * stride, -1).T)
    return knots


def smooth_field(rng: np.random.Generator, stride: int) -> Field:
    """A Gaussian random field, (256, 256) float32, mean 0, standard deviation near 1, one bump per `stride` pixels."""
    cells = -(-PHANTOM_SIZE_PX // stride)
    field = spline_up(rng.standard_normal((cells + 3, cells + 3), dtype=np.float32), stride)
    # averaging independent knots with B-spline weights leaves a standard deviation of 0.48 in two dimensions
    return field[:PHANTOM_SIZE_PX, :PHANTOM_SIZE_PX] * (1.0 / 0.48)


def blurred(image: Field, stride: int) -> Field:
    """The image without detail finer than `stride` pixels, a divisor of 256: block means, drawn up again smoothly."""
    cells = PHANTOM_SIZE_PX // stride
    means = image.reshape(cells, stride, cells, stride).mean(axis=(1, 3))
    grown = spline_up(np.pad(means, 2, mode="edge"), stride)
    inner = slice(stride // 2, stride // 2 + PHANTOM_SIZE_PX)  # knots are block centres, half a block off the corner
    return grown[inner, inner]


def unit_step(x: Field) -> Field:
    """0 below 0, 1 above 1, smooth between."""
    x = np.minimum(x, 1.0)
    np.maximum(x, 0.0, out=x)
    rest = x * -2.0
    rest += 3.0
    rest *= x
    rest *= x
    return rest


def convolve(image: Field, kernel: Sequence[float]) -> Field:
    """Both axes convolved with a short symmetric kernel; zeros beyond the rim."""
    reach = len(kernel) // 2
    for axis in (0, 1):
        out = image * kernel[reach]
        for step in range(1, reach + 1):
            near, far = [slice(None)] * 2, [slice(None)] * 2
            near[axis], far[axis] = slice(step, None), slice(None, -step)
            out[tuple(far)] += image[tuple(near)] * kernel[reach + step]
            out[tuple(near)] += image[tuple(far)] * kernel[reach + step]
        image = out
    return image
