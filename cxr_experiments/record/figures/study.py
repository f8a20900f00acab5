"""What a study found, as pictures: the forest of differences, and each option's curves over the baseline's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from cxr_experiments.evidence.comparison import Arm, Cell, Comparison, Difference
from cxr_experiments.evidence.comparison.verdicts import digits_of, number
from cxr_experiments.evidence.metrics import Floats, operating_curve
from cxr_experiments.evidence.stats import patient_weights
from cxr_experiments.record.figures.page import BLUE, GRAY, GREEN, HEADING_IN, VERMILLION, page

NUM_DRAWS = 200  # for bands that are looked at
# Colour, dash and mark tell the two arms of a panel apart together: the figure survives a gray printer.
BASELINE: dict[str, Any] = {"color": BLUE, "linestyle": "-"}
OPTION: dict[str, Any] = {"color": VERMILLION, "linestyle": "--"}
MARKS = "os"
GRID = np.linspace(0.0, 1.0, 101)
NAME_LENGTH, PANEL_NAME_LENGTH = 34, 26  # characters that fit beside the numbers, and over half a page

History = Sequence[Mapping[str, float]]
Draw = Callable[[Any, int], None]  # (axes, number of the arm)


@dataclass(frozen=True)
class Heading:
    """What stands around a figure of panels."""

    title: str
    subtitle: str
    x_label: str
    y_label: str


def draw_forest(path: Path, comparison: Comparison) -> None:
    """Differences with their simultaneous intervals, each seed's own as a mark, and the margin as a gray strip."""
    rows = comparison.differences
    arrow = "right is better" if comparison.higher_is_better else "left is better"
    title = f"Difference in {comparison.label}"
    where = {"val": "validation", "test": "the test split"}.get(comparison.split, comparison.split)
    told = f"on {where}; {_told(rows[0])}" if where else _told(rows[0])
    height = HEADING_IN + 1.35 + 0.8 * len(rows)
    with page(path, title, told, height_in=height, synthetic=comparison.synthetic) as figure:
        axes = figure.subplots()
        margin = comparison.margin
        axes.axvspan(-margin, margin, color="#E9E9E9", label=f"within the margin, ±{margin:g}", zorder=0)
        axes.axvline(0, color=GRAY, linewidth=1)
        for place, one in enumerate(rows):
            _forest_row(axes, one, len(rows) - 1 - place, margin, label=place == 0)
        axes.set(ylim=(-0.32, len(rows) - 0.2), xlim=_limits(comparison), yticks=[])
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"option - baseline ({arrow})")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.plot([], [], "s-", color=GRAY, markersize=6, label=_level(comparison))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)


def _forest_row(axes: Any, one: Difference, height: float, margin: float, *, label: bool) -> None:
    """Name and numbers, the verdict below them, then the interval, then the seeds."""
    value, low, high = one.difference.value, one.difference.low, one.difference.high
    marks = {"color": GRAY, "markersize": 7, "label": "one seed each" if label else None}
    axes.plot(one.per_seed, [height - 0.12] * len(one.per_seed), "|", **marks)
    told = "one seed" if one.num_seeds == 1 else "no interval"
    if math.isfinite(high - low):
        digits = digits_of(low, high, margin)
        told = f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"
        bar = {"fmt": "s", "color": _colour(one.verdict), "capsize": 4, "markersize": 6}
        axes.errorbar([value], [height + 0.08], xerr=[[value - low], [high - value]], **bar)
    else:
        axes.plot([value], [height + 0.08], "x", color=GRAY)
    beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "fontsize": 9.5, "va": "center"}
    beside["bbox"] = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 0.6}
    axes.annotate(_short(one.arm, NAME_LENGTH), (0.0, height + 0.62), fontweight="bold", **beside)
    axes.annotate(told, (1.0, height + 0.62), ha="right", **beside)
    axes.annotate(one.verdict, (0.0, height + 0.37), color=_colour(one.verdict), **beside)


def draw_roc_overlay(path: Path, arms: Sequence[Arm], *, synthetic: bool) -> None:
    """Each option's ROC curve over the baseline's, averaged over seeds, with pointwise 95 % bands over patients."""
    curves = [_average(arm, _sensitivities) for arm in arms]
    # where curves hug the corner, the whole square shows next to nothing
    near = all(float(np.interp(0.1, GRID, middle)) > 0.85 for middle, _, _ in curves)

    def draw(axes: Any, arm: int) -> None:
        middle, low, high = curves[arm]
        look = OPTION if arm else BASELINE
        axes.plot(GRID, middle, **look)
        axes.fill_between(GRID, low, high, color=look["color"], alpha=0.15, lw=0)
        axes.set(xlim=(0, 0.5), ylim=(0.5, 1.005)) if near else axes.set(xlim=(-0.01, 1), ylim=(0, 1.01))

    title = "ROC, mean over seeds" + (" (upper left)" if near else "")
    heading = Heading(title, _counted(arms[0]), "1 - specificity", "Sensitivity")
    _draw_panels(path, heading, [arm.name for arm in arms], draw, synthetic=synthetic)


def draw_calibration_overlay(path: Path, arms: Sequence[Arm], *, synthetic: bool) -> None:
    """Observed share of pneumonia in ten bins of the probability, over all seeds, with 95 % bars over patients."""
    found = [_reliability(arm) for arm in arms]

    def draw(axes: Any, arm: int) -> None:
        mean, observed, low, high = found[arm]
        if arm == 0:
            axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=1.2, label="calibrated")
        look = {**(OPTION if arm else BASELINE), "marker": MARKS[min(arm, 1)], "markersize": 4, "linewidth": 1.2}
        shift = 0.008 if arm else -0.008  # bars side by side, not on top of each other
        bars = [np.clip(observed - low, 0, None), np.clip(high - observed, 0, None)]
        axes.errorbar(mean + shift, observed, yerr=bars, **look)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.02, 1.02))

    title = "Calibration, all seeds together"
    heading = Heading(title, _counted(arms[0]), "Predicted probability", "Observed share")
    _draw_panels(path, heading, [arm.name for arm in arms], draw, synthetic=synthetic)


def draw_seed_curves(path: Path, histories: Mapping[str, Sequence[History]], *, synthetic: bool) -> None:
    """Validation loss over the epochs: the median seed as a line, from the lowest to the highest seed as a band."""
    arms = list(histories.values())

    def draw(axes: Any, arm: int) -> None:
        table = _losses(arms[arm])
        epochs = np.arange(1, table.shape[1] + 1)
        look = OPTION if arm else BASELINE
        axes.plot(epochs, np.nanmedian(table, axis=0), **look)
        low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
        axes.fill_between(epochs, low, high, color=look["color"], alpha=0.15, lw=0)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))

    told = f"median and range over {_seeds(max(len(seeds) for seeds in arms))}"
    heading = Heading("Validation loss while training", told, "Epoch", "Cross-entropy loss")
    _draw_panels(path, heading, list(histories), draw, synthetic=synthetic)


def _draw_panels(path: Path, heading: Heading, names: Sequence[str], draw: Draw, *, synthetic: bool) -> None:
    """A panel for each option, the baseline in all of them; two in a row, on the same axes."""
    options = range(1, len(names))
    columns = min(2, len(options))
    rows = math.ceil(len(options) / columns)
    height = HEADING_IN + 0.9 + (3.6 if columns == 1 else 2.15 * rows)
    with page(path, heading.title, heading.subtitle, height_in=height, synthetic=synthetic) as figure:
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, option in zip(grid.ravel(), options, strict=False):
            draw(axes, 0)
            draw(axes, option)
            axes.set_title(_short(names[option], PANEL_NAME_LENGTH), fontsize=9.5, loc="left")
        for axes in grid[:, 0]:
            axes.set_ylabel(heading.y_label)
        for axes in grid.ravel()[len(options) - columns : len(options)]:
            axes.set_xlabel(heading.x_label)
            axes.tick_params(labelbottom=True)
        for axes in grid.ravel()[len(options) :]:
            axes.set_visible(False)
        for look, name in ((BASELINE, _short(names[0], 16)), (OPTION, "option")):
            grid[0, 0].plot([], [], label=name, **look)
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _losses(seeds: Sequence[History]) -> Floats:
    """(seeds, epochs) validation loss, NaN after a seed's last epoch."""
    table = np.full((len(seeds), max(len(history) for history in seeds)), np.nan)
    for row, history in enumerate(seeds):
        table[row, : len(history)] = [epoch["val_loss"] for epoch in history]
    return table


def _short(name: str, length: int) -> str:
    """The name's ends where the whole is too long for its place."""
    return name if len(name) <= length else f"{name[: length - 11]}…{name[-10:]}"


def _colour(verdict: str) -> str:
    if verdict.startswith("better"):
        return BLUE
    return VERMILLION if verdict.startswith("worse") else GREEN if verdict == "equivalent" else GRAY


def _level(comparison: Comparison) -> str:
    if comparison.family_size == 1:
        return "95 % interval"
    return f"95 %, all {comparison.family_size} at once"


def _told(one: Difference) -> str:
    over = f"{one.num_patients} patient keys" if one.num_patients else "patients not verifiable"
    return f"{one.repetitions}, {one.num_images:,} images, {over}"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def _limits(comparison: Comparison) -> tuple[float, float]:
    """Symmetric enough to see zero and the margin, wide enough for every interval and seed."""
    ends = [comparison.margin, -comparison.margin]
    for one in comparison.differences:
        ends += [one.difference.low, one.difference.high, *one.per_seed]
    finite = [end for end in ends if np.isfinite(end)]
    room = 0.06 * (max(finite) - min(finite))
    return min(finite) - room, max(finite) + room


def _counted(arm: Arm) -> str:
    first = arm.cells[0]
    images = {image for cell in arm.cells for image in cell.rows.image_id.tolist()}
    patients = {key for cell in arm.cells for key in cell.rows.patient.tolist()}
    over = "patients not verifiable" if "" in patients else f"{len(patients)} patient keys"
    split = {"val": "validation", "test": "test"}.get(first.split, first.split)
    told = f"{arm.repetitions}, {len(images):,} images, {over}; bands over patients"
    return f"{split}: {told}" if split else told


def _average(arm: Arm, read: Any) -> tuple[Floats, Floats, Floats]:
    """Mean over seeds of a curve on GRID, and its pointwise limits over draws of patients."""
    middle = np.mean([read(cell, None)[0] for cell in arm.cells], axis=0)
    drawn = np.mean([read(cell, _weights(cell)) for cell in arm.cells], axis=0)
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    return middle, low, high


def _weights(cell: Cell) -> Floats:
    return np.concatenate(list(patient_weights(cell.rows.patient, num_draws=NUM_DRAWS, seed=0)))


def _sensitivities(cell: Cell, weights: Floats | None) -> Floats:
    """(draws, len(GRID)) sensitivity at each false positive rate."""
    table = np.ones((1, len(cell.rows.label))) if weights is None else weights
    curve = operating_curve(cell.rows.label, cell.rows.score, weights=table)
    pairs = zip(curve.false_positive_rate, curve.sensitivity, strict=True)
    return np.array([height[np.searchsorted(rate, GRID, side="right") - 1] for rate, height in pairs])


def _reliability(arm: Arm) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean probability, observed share and its limits in the bins that hold images."""
    edges = np.linspace(0, 1, 11)
    totals, hits = np.zeros((NUM_DRAWS + 1, 10)), np.zeros((NUM_DRAWS + 1, 10))
    sums = np.zeros(10)
    for cell in arm.cells:
        bin_of = np.clip(np.searchsorted(edges, cell.rows.probability, side="right") - 1, 0, 9)
        onehot = np.eye(10)[bin_of]
        weights = np.vstack([np.ones(len(bin_of)), _weights(cell)])
        totals += weights @ onehot
        hits += weights @ (onehot * cell.rows.label[:, None])
        sums += cell.rows.probability @ onehot
    held = totals[0] >= 10  # a bar over fewer images says nothing
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = hits[:, held] / totals[:, held]
    # a small study may have no such bin, of which nanquantile knows no quantiles
    low, high = np.nanquantile(shares[1:], [0.025, 0.975], axis=0) if held.any() else np.zeros((2, 0))
    return sums[held] / totals[0, held], shares[0], low, high
