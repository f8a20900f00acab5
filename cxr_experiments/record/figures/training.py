"""What training looked like: the curves of a history, and contact sheets of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cxr_experiments.record.figures.page import BLUE, GRAY, HEADING_IN, VERMILLION, WIDTH_IN, chart, page

TILE_IN = 1.0


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
    subtitle = f"n = {num_train:,} training, {num_val:,} validation images"
    with chart(path, "Training curves", subtitle, height_in=5.2, synthetic=synthetic) as figure:
        panels = figure.subplots(2, 1, sharex=True)
        for axes, key, label in zip(
            panels, ("loss", "accuracy"), ("Cross-entropy loss", "Accuracy at 0.5"), strict=True
        ):
            for prefix, colour, marker, name in (("", BLUE, "o", "training"), ("val_", VERMILLION, "s", "validation")):
                values = [epoch[prefix + key] for epoch in history]
                axes.plot(epochs, values, color=colour, marker=marker, markersize=3.5, label=name)
            kept = f"weights kept: epoch {best_epoch + 1}"
            axes.axvline(best_epoch + 1, color=GRAY, linestyle="--", linewidth=1.2, label=kept, zorder=1)
            axes.set_ylabel(label)
        highest = max(max(epoch["loss"], epoch["val_loss"]) for epoch in history)
        panels[0].set_ylim(0, 1.08 * highest or 1.0)
        panels[1].set_xlabel("Epoch")
        panels[1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panels[1].set_xlim(0.5, len(history) + 0.5)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="lower center", ncols=3, handlelength=1.6)


def draw_contact_sheet(
    path: Path,
    images: NDArray[np.uint8],
    row_labels: Sequence[str],
    title: str,
    *,
    column_labels: Sequence[str] = (),
    synthetic: bool,
) -> None:
    """Images in a grid, as they are: no contrast stretch, black is 0 and white is 255.

    Args:
        path: PNG to write.
        images: (rows, columns, height, width) uint8.
        row_labels: one for each row.
        title: what is shown.
        column_labels: one for each column, or none.
        synthetic: the images are phantoms.
    """
    num_rows, num_columns, height, width = images.shape
    gap = max(2, width // 40)
    step_y, step_x = height + gap, width + gap
    sheet = np.full((num_rows * step_y - gap, num_columns * step_x - gap), 255, dtype=np.uint8)
    for row, column in np.ndindex(num_rows, num_columns):
        sheet[row * step_y :, column * step_x :][:height, :width] = images[row, column]
    width_in = max(WIDTH_IN, num_columns * TILE_IN + 0.25 + 0.09 * max(map(len, row_labels), default=0))
    height_in = HEADING_IN + num_rows * TILE_IN * height / width + (0.45 if column_labels else 0.2)
    subtitle = f"{num_rows * num_columns} pictures of {width} x {height} pixels"
    with page(path, title, subtitle, height_in=height_in, width_in=width_in, synthetic=synthetic) as figure:
        axes = figure.subplots()
        for top in range(0, len(sheet), step_y):  # strip by strip: the whole sheet in floats would take 75 MB
            strip = sheet[top : top + step_y]
            edges = (-0.5, sheet.shape[1] - 0.5, top + len(strip) - 0.5, top - 0.5)
            axes.imshow(strip, cmap="gray", vmin=0, vmax=255, extent=edges)
        axes.set(xlim=(-0.5, sheet.shape[1] - 0.5), ylim=(len(sheet) - 0.5, -0.5))
        axes.set_yticks(np.arange(num_rows) * step_y + height / 2, row_labels)
        axes.set_xticks(np.arange(len(column_labels)) * step_x + width / 2, column_labels)
        axes.tick_params(length=0, labelbottom=False, labeltop=True)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
