"""What a study found, as pictures: the forest of differences, and curves of its arms over each other with bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

from cxr_experiments.evidence.comparison import Arm, Cell, Comparison, Difference
from cxr_experiments.evidence.metrics import Floats, operating_curve
from cxr_experiments.evidence.stats import patient_weights
from cxr_experiments.record.figures.page import BLUE, GRAY, GREEN, HEADING_IN, VERMILLION, page

NUM_DRAWS = 200  # for bands that are looked at
# Colour and dash tell arms apart together: the figure survives a gray printer.
LINES = (
    (BLUE, "-"),
    (VERMILLION, "--"),
    (GREEN, "-."),
    ("#CC79A7", ":"),
    ("#56B4E9", (0, (5, 1))),
    ("#E69F00", (0, (3, 1, 1, 1))),
    (GRAY, (0, (1, 1))),
)
MARKS = "osD^vPX"
GRID = np.linspace(0.0, 1.0, 101)


def draw_forest(path: Path, comparison: Comparison) -> None:
    """Differences with their simultaneous intervals, each seed's own as a dot, zero, and the margin as a gray strip."""
    rows = comparison.differences
    height = HEADING_IN + 1.2 + 0.62 * len(rows)
    where = {"val": "validation", "test": "the test split"}.get(comparison.split, comparison.split)
    arrow = "right is better" if comparison.higher_is_better else "left is better"
    title = f"Difference in {comparison.label} from the baseline"
    subtitle = f"on {where}; {_told(rows[0])}"
    with page(path, title, subtitle, height_in=height, synthetic=comparison.synthetic) as figure:
        axes = figure.subplots()
        margin = comparison.margin
        axes.axvspan(-margin, margin, color="#E9E9E9", label=f"within the margin, ±{margin:g}", zorder=0)
        axes.axvline(0, color=GRAY, linewidth=1)
        for place, one in enumerate(rows):
            height_of = len(rows) - 1 - place
            seeds = axes.plot(one.per_seed, [height_of - 0.22] * len(one.per_seed), "|", color=GRAY, markersize=7)
            if place == 0:
                seeds[0].set_label("one seed each")
            ends = [[one.difference.value - one.difference.low], [one.difference.high - one.difference.value]]
            bar = {"fmt": "s", "color": _colour(one.verdict), "capsize": 4, "markersize": 6}
            if np.all(np.isfinite(ends)):
                axes.errorbar([one.difference.value], [height_of], xerr=ends, **bar)
            else:
                axes.plot([one.difference.value], [height_of], "x", color=GRAY)
            axes.annotate(one.verdict, (0.012, height_of + 0.2), xycoords=("axes fraction", "data"), fontsize=9.5)
        axes.set_yticks(range(len(rows)), [one.arm for one in reversed(rows)])
        axes.set_ylim(-0.6, len(rows) - 0.35)
        axes.set_xlim(*_limits(comparison))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"option - baseline ({arrow}), {_level(comparison)}")
        axes.xaxis.set_major_locator(MaxNLocator(6, symmetric=True))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)


def draw_roc_overlay(path: Path, arms: Sequence[Arm], *, synthetic: bool) -> None:
    """Each arm's ROC curve, averaged over seeds, with its pointwise 95 % band over patients."""
    curves = [_average(arm, _sensitivities) for arm in arms]
    # where curves hug the corner, the whole square shows next to nothing
    near = all(float(np.interp(0.1, GRID, middle)) > 0.85 for middle, _, _ in curves)
    title = "ROC curves, mean over seeds" + (" (upper left corner)" if near else "")
    with page(path, title, _counted(arms[0]), height_in=5.9, synthetic=synthetic) as figure:
        axes = figure.subplots()
        for number, (arm, (middle, low, high)) in enumerate(zip(arms, curves, strict=True)):
            colour, dash = LINES[number % len(LINES)]
            axes.plot(GRID, middle, color=colour, linestyle=dash, label=arm.name)
            axes.fill_between(GRID, low, high, color=colour, alpha=0.12, lw=0)
        axes.set(xlabel="1 - specificity", ylabel="Sensitivity")
        axes.set(xlim=(0, 0.5), ylim=(0.5, 1.005)) if near else axes.set(xlim=(-0.01, 1), ylim=(0, 1.01))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def draw_calibration_overlay(path: Path, arms: Sequence[Arm], *, synthetic: bool) -> None:
    """Observed share of pneumonia in ten bins of the probability, over all seeds, with 95 % bars over patients."""
    title = "Calibration, all seeds together"
    with page(path, title, _counted(arms[0]), height_in=5.6, synthetic=synthetic) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=1.2, label="calibrated")
        for number, arm in enumerate(arms):
            colour, dash = LINES[number % len(LINES)]
            mean, observed, low, high = _reliability(arm)
            shift = (number - (len(arms) - 1) / 2) * 0.006  # bars side by side, not on top of each other
            look: dict[str, Any] = {"color": colour, "marker": MARKS[number % len(MARKS)], "linestyle": dash}
            bars = [np.clip(observed - low, 0, None), np.clip(high - observed, 0, None)]
            axes.errorbar(mean + shift, observed, yerr=bars, label=arm.name, markersize=4, linewidth=1.2, **look)
        axes.set(xlabel="Predicted probability of pneumonia", ylabel="Observed share", xlim=(-0.03, 1.03))
        axes.set_ylim(-0.02, 1.02)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def draw_seed_curves(
    path: Path, histories: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], *, synthetic: bool
) -> None:
    """Validation loss over the epochs: the median seed as a line, from the lowest to the highest seed as a band."""
    num_seeds = max(len(seeds) for seeds in histories.values())
    subtitle = f"median and range over {num_seeds} seeds"
    with page(path, "Validation loss while training", subtitle, height_in=4.6, synthetic=synthetic) as figure:
        axes = figure.subplots()
        for number, (name, seeds) in enumerate(histories.items()):
            colour, dash = LINES[number % len(LINES)]
            longest = max(len(history) for history in seeds)
            table = np.full((len(seeds), longest), np.nan)
            for row, history in enumerate(seeds):
                table[row, : len(history)] = [epoch["val_loss"] for epoch in history]
            epochs = np.arange(1, longest + 1)
            axes.plot(epochs, np.nanmedian(table, axis=0), color=colour, linestyle=dash, label=name)
            axes.fill_between(
                epochs, np.nanmin(table, axis=0), np.nanmax(table, axis=0), color=colour, alpha=0.12, lw=0
            )
        axes.set(xlabel="Epoch", ylabel="Cross-entropy loss", yscale="log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _colour(verdict: str) -> str:
    if verdict.startswith("better"):
        return BLUE
    return VERMILLION if verdict.startswith("worse") else GREEN if verdict == "equivalent" else GRAY


def _level(comparison: Comparison) -> str:
    if comparison.family_size == 1:
        return "95 % interval"
    return f"95 % for all {comparison.family_size} at once"


def _told(one: Difference) -> str:
    over = f"{one.num_patients} patient keys" if one.num_patients else "patients not verifiable"
    return f"{one.num_seeds} seeds, {one.num_images:,} images, {over}"


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
    return f"{split}: {len(arm.cells)} seeds, {len(images):,} images, {over}; bands over patients"


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
    low, high = np.nanquantile(shares[1:], [0.025, 0.975], axis=0)
    return sums[held] / totals[0, held], shares[0], low, high
