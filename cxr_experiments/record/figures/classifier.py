"""What a classifier is worth: ROC, precision-recall, confusion matrix and calibration of the predictions of one split.

Intervals are those of `evaluation.score`, method and seed, so that figure and table agree.  Rows of one class only make
a page that says so.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from cxr_experiments.evidence import metrics, stats
from cxr_experiments.evidence.calibration import Threshold, reliability
from cxr_experiments.evidence.evaluation import Asked, Predictions, estimates
from cxr_experiments.record.figures.page import BLUE, GRAY, GREEN, VERMILLION, chart, page

SEED = 0
SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}
CLASSES = ("NORMAL", "PNEUMONIA")


def draw_roc(path: Path, predictions: Predictions, threshold: Threshold | None = None, *, synthetic: bool) -> None:
    """ROC curve with its pointwise 95 % band, AUROC with its interval, and where the frozen threshold works.

    Args:
        path: PNG to write.
        predictions: rows of one split.
        threshold: frozen on validation; None marks no operating point.
        synthetic: the images are phantoms.
    """
    with chart(path, *_heading("ROC curve", predictions), height_in=5.9, synthetic=synthetic) as figure:
        axes = figure.subplots()
        axes.set(xlabel="1 - specificity", ylabel="Sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        if _says_one_class(axes, predictions):
            return
        rows = _rows(predictions)
        curve = metrics.operating_curve(*rows)
        band = stats.roc_band(*rows, predictions.patient, seed=SEED)
        auroc = _with_interval("auroc", predictions)
        axes.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=1.2)
        places = [axes]
        if metrics.auroc(*rows) > 0.95:  # the curve hugs the corner, and the whole square shows next to nothing
            places.append(_corner(axes))
        for place in places:
            label = f"AUROC {auroc}"
            place.plot(curve.false_positive_rate, curve.sensitivity, color=BLUE, label=label)
            band_label = f"95 % band, {_unit(predictions)} drawn"
            place.fill_between(band.at, band.low, band.high, step="post", color=BLUE, alpha=0.2, lw=0, label=band_label)
            if threshold is not None:
                alarm_rate = 1 - metrics.specificity(*rows, threshold=threshold.value)
                _mark(place, alarm_rate, metrics.sensitivity(*rows, threshold=threshold.value), threshold)
        figure.legend(*axes.get_legend_handles_labels(), loc="lower center")


def draw_precision_recall(
    path: Path, predictions: Predictions, threshold: Threshold | None = None, *, synthetic: bool
) -> None:
    """Precision against sensitivity with its 95 % band, average precision with its interval, and the prevalence.

    Arguments as in `draw_roc`.  The axis of the precision begins below the prevalence, not at 0.
    """
    with chart(path, *_heading("Precision-recall curve", predictions), height_in=4.6, synthetic=synthetic) as figure:
        axes = figure.subplots()
        axes.set(xlabel="Sensitivity (recall)", ylabel="Precision", xlim=(-0.02, 1.02))
        if _says_one_class(axes, predictions):
            return
        rows = _rows(predictions)
        curve = metrics.operating_curve(*rows)
        band = stats.precision_recall_band(*rows, predictions.patient, seed=SEED)
        prevalence = float(np.mean(predictions.label))
        label = f"average precision {_with_interval('average_precision', predictions)}"
        precision = np.r_[curve.precision[1], curve.precision[1:]]  # nothing called yet: the first step's own precision
        axes.plot(curve.sensitivity, precision, color=BLUE, drawstyle="steps-pre", label=label)
        band_label = f"95 % band, {_unit(predictions)} drawn"
        axes.fill_between(band.at, band.low, band.high, step="pre", color=BLUE, alpha=0.2, lw=0, label=band_label)
        axes.axhline(prevalence, color=GRAY, linestyle=":", linewidth=1.4, label=f"prevalence {prevalence:.3f}")
        if threshold is not None:
            is_called = predictions.probability >= threshold.value
            if is_called.any():
                height = float(predictions.label[is_called].mean())
                _mark(axes, metrics.sensitivity(*rows, threshold=threshold.value), height, threshold)
        lowest = min(prevalence, float(precision.min()))
        axes.set_ylim(max(0.0, np.floor(lowest * 10 - 0.5) / 10) - 0.005, 1.02)
        figure.legend(*axes.get_legend_handles_labels(), loc="lower center")


def draw_confusion(
    path: Path,
    predictions: Predictions,
    threshold: Threshold,
    *,
    classes: tuple[str, str] = CLASSES,
    synthetic: bool,
) -> None:
    """Counts and row percentages at the frozen threshold, with sensitivity and specificity and their intervals.

    Args:
        path: PNG to write.
        predictions: rows of one split; a row of the matrix without images stays empty.
        threshold: frozen on validation.
        classes: names of label 0 and label 1.
        synthetic: the images are phantoms.
    """
    is_called = predictions.probability >= threshold.value
    counts = np.zeros((2, 2), dtype=int)
    np.add.at(counts, (predictions.label.astype(int), is_called.astype(int)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with page(path, *_heading("Confusion matrix", predictions), height_in=4.5, synthetic=synthetic) as figure:
        axes = figure.subplots()
        axes.imshow(shares, cmap=LinearSegmentedColormap.from_list("blue", ["#FFFFFF", BLUE]), vmin=0, vmax=1)
        for row, column in np.ndindex(2, 2):
            colour = "white" if shares[row, column] > 0.5 else "black"
            share = f"{100 * shares[row, column]:.1f} %" if counts[row].sum() else "no images"
            axes.text(column, row - 0.06, f"{counts[row, column]:,}", ha="center", fontsize=17, color=colour)
            axes.text(column, row + 0.2, share, ha="center", fontsize=10.5, color=colour)
        for row, name in enumerate(("specificity", "sensitivity")):
            told = _with_interval(name, predictions, threshold.value)
            text = f"{name}\n{told}".replace(" [", "\n[")
            axes.text(1.56, row, text, ha="left", va="center", linespacing=1.4)
        names = [fill(name, 16) for name in classes]
        axes.set_xticks([0, 1], names)
        axes.set_yticks([0, 1], names, rotation=90, va="center")
        axes.set_xlabel("Called")
        below = f"positive when P >= {threshold.value:.4g}; {_source(threshold, predictions)}"
        figure.supxlabel(below, fontsize=9.5, color=GRAY)
        axes.set_ylabel("True")
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set(visible=True, color=GRAY)


def draw_calibration(path: Path, predictions: Predictions, *, synthetic: bool) -> None:
    """Observed share of positives against probability in ten bins with Wilson intervals, and the images in each.

    Args:
        path: PNG to write.
        predictions: rows of one split; one class only is drawn too, for the Brier score is still defined.
        synthetic: the images are phantoms.
    """
    bins = reliability(*_rows(predictions))
    filled = [one for one in bins if one.num_images]
    means = np.array([one.mean_probability for one in filled])
    observed = np.array([one.observed for one in filled])
    reach = [observed - [one.observed_low for one in filled], [one.observed_high for one in filled] - observed]
    with chart(path, *_heading("Calibration", predictions), height_in=6.2, synthetic=synthetic) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.1))
        upper.plot([0, 1], [0, 1], color=GRAY, linestyle=":", linewidth=1.4, label="perfect calibration")
        label = f"observed, with 95 % Wilson interval\nBrier score {_with_interval('brier', predictions)}"
        style = {"color": BLUE, "marker": "o", "markersize": 5, "linewidth": 1.2, "capsize": 3, "elinewidth": 1.2}
        upper.errorbar(means, observed, yerr=np.maximum(reach, 0.0), label=label, **style)
        upper.set(ylabel="Share that is positive", xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
        edges = np.array([one.low for one in bins] + [bins[-1].high])
        counts = np.array([one.num_images for one in bins])
        bars = lower.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=GREEN, edgecolor="white")
        lower.bar_label(bars, labels=[f"{count:,}" for count in counts], fontsize=8.5, padding=1.5)
        lower.set(xlabel="Predicted probability", ylabel="Images", ylim=(0, 1.28 * counts.max()))
        lower.grid(visible=False)
        figure.legend(*upper.get_legend_handles_labels(), loc="lower center")


def _rows(predictions: Predictions) -> tuple[Any, Any]:
    return predictions.label, predictions.probability


def _unit(predictions: Predictions) -> str:
    return "patients" if np.any(predictions.patient != "") else "images"


def _heading(title: str, predictions: Predictions) -> tuple[str, str]:
    num_images, num_positive = len(predictions.label), int(predictions.label.sum())
    known = predictions.patient[predictions.patient != ""]
    patients = f"of {len(np.unique(known)):,} patients" if known.size else "(patients not verifiable)"
    subtitle = f"n = {num_images:,} images {patients}, {num_positive:,} positive"
    return f"{title}, {SPLIT_NAMES[predictions.split]}", subtitle


def _with_interval(metric: str, predictions: Predictions, threshold: float | None = None) -> str:
    one = estimates({"": Asked(metric, threshold)}, predictions, predictions.patient, seed=SEED)[""]
    if np.isnan(one.value):
        return "not defined"
    if np.isnan(one.low):
        return f"{one.value:.3f} [no interval]"
    if one.low == one.high:  # [1.000, 1.000] would claim a certainty that no number of images gives
        return f"{one.value:.3f} [the same in every draw]"
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _source(threshold: Threshold, predictions: Predictions) -> str:
    if threshold.rule == "fixed":
        return "threshold given"
    return "threshold set on these rows" if predictions.split == threshold.set_on else "threshold frozen on validation"


def _mark(axes: Any, x: float, y: float, threshold: Threshold) -> None:
    """The operating point of the frozen threshold."""
    style = {"marker": "o", "markersize": 8, "markerfacecolor": "white", "markeredgecolor": VERMILLION}
    axes.plot(
        x,
        y,
        linestyle="none",
        markeredgewidth=2,
        label=f"frozen threshold {threshold.value:.4g}",
        clip_on=False,
        **style,
    )


def _corner(axes: Any) -> Any:
    """An inset that enlarges the upper left corner, on white so that nothing runs behind its numbers."""
    axes.add_patch(Rectangle((0.24, 0.2), 0.78, 0.66, facecolor="white", transform=axes.transAxes, zorder=2))
    inset = axes.inset_axes((0.36, 0.27, 0.61, 0.5), xlim=(-0.004, 0.25), ylim=(0.75, 1.004))
    inset.set_title("the corner, enlarged", fontsize=9.5, color=GRAY)
    inset.tick_params(labelsize=8.5)
    for connector in axes.indicate_inset_zoom(inset, edgecolor=GRAY).connectors:
        connector.set_visible(False)
    return inset


def _says_one_class(axes: Any, predictions: Predictions) -> bool:
    """Say so, and tell the caller, when a curve is not defined."""
    if len(np.unique(predictions.label)) == 2:
        return False
    text = "not defined:\nthese images hold one class only"
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=12, color=VERMILLION)
    return True
