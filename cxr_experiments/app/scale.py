"""Where one score stands among those of validation: two histograms back to back over log-odds, as plain coordinates.

Log-odds spread the ends, where most scores lie.  They are computed back from probabilities for drawing alone; what lies
beyond the ends of the axis is drawn at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxr_experiments.evidence.evaluation import Predictions

WIDTH, HEIGHT = 440, 150  # units of the drawing; a phone shows one as .8 px
LEFT, RIGHT, AXIS, TALLEST = 16, 424, 74, 46
END = 7.0  # log-odds at either end: probabilities of .0009 and .9991
NUM_BINS = 42
TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True)
class Bar:
    """A rectangle of the drawing: films of one class in one bin, positive ones above the axis."""

    positive: bool
    x: float
    y: float
    width: float
    height: float
    num_images: int


@dataclass(frozen=True)
class Tick:
    """A probability on the axis and its place."""

    x: float
    words: str


@dataclass(frozen=True)
class Scale:
    """The drawing: ends of the axis, bars, ticks, and the places of the film's score and of the threshold."""

    left: int
    right: int
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    film_x: float
    threshold_x: float


def draw_scale(validation: Predictions, probability: float, threshold: float) -> Scale:
    """The coordinates.

    Args:
        validation: predictions of the validation rows.
        probability: of the film, in [0, 1].
        threshold: in [0, 1].
    """
    edges = np.linspace(-END, END, NUM_BINS + 1)
    odds = _log_odds(validation.probability)
    counts = {label: np.histogram(odds[validation.label == label], edges)[0] for label in (0, 1)}
    highest = max(1, *(int(found.max()) for found in counts.values()))
    bars = []
    for label, found in counts.items():
        for number in np.flatnonzero(found).tolist():
            tall = max(2.0, TALLEST * math.sqrt(found[number] / highest))  # a single film stays visible
            left, right = place(edges[number]), place(edges[number + 1])
            top = AXIS - tall if label else AXIS
            box = [_short(edge) for edge in (left + 0.5, top, right - left - 1, tall)]
            bars.append(Bar(bool(label), box[0], box[1], box[2], box[3], int(found[number])))
    ticks = tuple(Tick(_short(place(float(_log_odds(tick)))), f"{tick:g}".removeprefix("0")) for tick in TICKS)
    film_x, threshold_x = (_short(place(float(_log_odds(value)))) for value in (probability, threshold))
    return Scale(LEFT, RIGHT, tuple(bars), ticks, film_x, threshold_x)


def place(log_odds: float) -> float:
    """x of a log-odds in [-END, END]."""
    return LEFT + (RIGHT - LEFT) * (log_odds + END) / (2 * END)


def _log_odds(probability: ArrayLike) -> NDArray[np.float64]:
    value = np.asarray(probability, dtype=np.float64)
    with np.errstate(divide="ignore"):
        odds: NDArray[np.float64] = np.clip(np.log(value) - np.log1p(-value), -END, END)
    return odds


def _short(value: float) -> float:
    return round(float(value), 2)
