"""The figures of a run, each a PNG: curves, ROC, precision-recall, confusion matrix, calibration, contact sheet.

What is drawn comes in as values and leaves as a file; nothing is computed here but what the page needs.  The only door to
matplotlib, used through its objects, so that no window, global figure or user setting takes part.  Each figure carries its
n, says SYNTHETIC when it shows phantoms, and stays readable at the width of a printed column.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from cxr_experiments.evidence import metrics, stats
from cxr_experiments.evidence.calibration import Threshold, reliability
from cxr_experiments.evidence.evaluation import Predictions

DOTS_PER_INCH = 150
WIDTH_IN = 5.0  # at a column of 3.4 inches the 10.5 point text below is still 7 points high
# Okabe and Ito's palette, told apart with every common colour vision (Wong 2011, Nature Methods 8, 441)
BLUE, VERMILLION, GREEN, BLACK, GRAY = "#0072B2", "#D55E00", "#009E73", "#000000", "#6A6A6A"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "legend.fontsize": 9,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.8,
}
SEED = 0  # of the bootstrap draws: the intervals drawn are those that `evaluation.score` prints


def draw_curves(
    path: Path,
    history: Sequence[Mapping[str, float]],
    best_epoch: int,
    *,
    num_train: int,
    num_val: int,
    synthetic: bool,
) -> None:
    """Loss and accuracy over the epochs, training and validation, with the epoch whose weights were kept.

    Args:
        path: PNG to write.
        history: one mapping per epoch with `loss`, `accuracy`, `val_loss`, `val_accuracy`.
        best_epoch: 0-based epoch of the lowest validation loss.
        num_train: training images.
        num_val: validation images.
        synthetic: the images are phantoms.
    """
    epochs = np.arange(1, len(history) + 1)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2, 1, sharex=True)
        for axes, key, title in zip(panels, ("loss", "accuracy"), ("Cross-entropy loss", "Accuracy at 0.5"), strict=True):
            for prefix, colour, marker, name in (("", BLUE, "o", "training"), ("val_", VERMILLION, "s", "validation")):
                values = [epoch[prefix + key] for epoch in history]
                axes.plot(epochs, values, color=colour, marker=marker, markersize=3.5, label=name)
            axes.axvline(best_epoch + 1, color=GRAY, linestyle="--", linewidth=1.2, label="weights kept")
            axes.set_ylabel(title)
            axes.margins(y=0.08)
        panels[0].set_ylim(bottom=0)
        panels[1].set_xlabel("Epoch")
        panels[1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panels[1].set_xlim(0.5, len(history) + 0.5)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)

    subtitle = f"{num_train:,} training images (augmented, dropout on), {num_val:,} validation images"
    _save(path, draw, ("Training curves", subtitle), height_in=5.0, synthetic=synthetic)


def draw_roc(path: Path, predictions: Predictions, threshold: Threshold | None = None, *, synthetic: bool) -> None:
    """ROC curve with its pointwise 95 % band, AUROC with its interval, and where the frozen threshold works.

    Args:
        path: PNG to write.
        predictions: rows of one split; with one class only the figure says so.
        threshold: frozen on validation; None marks no operating point.
        synthetic: the images are phantoms.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set(xlabel="1 - specificity", ylabel="Sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        if _has_one_class(axes, predictions):
            return
        rows = (predictions.label, predictions.probability)
        curve = metrics.operating_curve(*rows)
        band = stats.roc_band(*rows, predictions.patient, seed=SEED)
        # most of these curves hug the corner, where the whole square shows nothing
        inset = axes.inset_axes((0.37, 0.31, 0.6, 0.5))
        inset.set(xlim=(-0.005, 0.25), ylim=(0.75, 1.005))
        inset.tick_params(labelsize=8)
        axes.indicate_inset_zoom(inset, edgecolor=GRAY, alpha=0.6)
        for place in (axes, inset):
            place.fill_between(band.at, band.low, band.high, step="post", color=BLUE, alpha=0.18, linewidth=0)
            place.plot(curve.false_positive_rate, curve.sensitivity, color=BLUE, drawstyle="default")
            if threshold is not None:
                point = _operating_point(predictions, threshold)
                place.plot(1 - point["specificity"], point["sensitivity"], **_point_style())
        axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=1.2)
        _legend(axes, [f"AUROC {_with_interval(metrics.auroc, predictions)}"], threshold)

    _save(path, draw, _titles("ROC", predictions), height_in=5.2, synthetic=synthetic)
