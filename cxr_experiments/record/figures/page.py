"""One page for every figure: the style, the heading, and how it reaches the disk.  What stands on it others draw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cxr_experiments.images.decode import encode_png

DOTS_PER_INCH = 150
WIDTH_IN = 5.0  # set in a column of 3.4 inches, the 10.5 point text below is still 7 points high
HEADING_IN = 0.62
# Of a chart: room for the numbers and the name of the upright axis, behind its end, and below it; from panel to panel.
LEFT_IN, RIGHT_IN, BELOW_IN, PAD_IN, BETWEEN = 0.78, 0.14, 0.52, 0.06, 0.09
# Okabe and Ito's palette, told apart with every common colour vision (Wong 2011, Nature Methods 8, 441)
BLUE, VERMILLION, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#5F5F5F"
STYLE = {
    "font.family": "DejaVu Sans",  # travels inside matplotlib: the same page on every machine
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "legend.fontsize": 9.5,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "lines.linewidth": 1.8,
    "text.hinting": "none",  # a tenth of a chart's time, and at 150 dots per inch the eye does not miss it
    "text.parse_math": False,  # a class or row may be called anything, "$" included
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
}


@contextmanager
def page(
    path: Path, title: str, subtitle: str, *, height_in: float, width_in: float = WIDTH_IN, synthetic: bool
) -> Iterator[Any]:
    """A figure to draw on, saved at `path` as a PNG of 150 dpi when the block ends without an error.

    Args:
        path: PNG to write: under a temporary name in the same folder, then renamed.
        title: what is shown.
        subtitle: of how many images and patients.
        height_in: height of the whole page in inches.
        width_in: its width.
        synthetic: puts the word SYNTHETIC into the heading.
    """
    with _sheet(path, title, subtitle, (width_in, height_in), synthetic) as figure:
        layout = ConstrainedLayoutEngine(rect=(0.0, 0.0, 1.0, 1 - HEADING_IN / height_in), w_pad=0.06, h_pad=0.06)
        figure.set_layout_engine(layout)
        yield figure
        if any(axes.get_subplotspec() for axes in figure.axes):
            layout.execute(figure)
        figure.set_layout_engine(None)  # or to draw would place everything anew


@contextmanager
def chart(path: Path, title: str, subtitle: str, *, height_in: float, synthetic: bool) -> Iterator[Any]:
    """A `page` of panels over one another with numbers at their left and `figure.legend(loc="lower center")` below.

    They are placed by rule, which spares a third of the time: the layout that fits all else measures every text twice.
    """
    with _sheet(path, title, subtitle, (WIDTH_IN, height_in), synthetic) as figure:
        yield figure
        _place_chart(figure)


@contextmanager
def _sheet(path: Path, title: str, subtitle: str, size_in: tuple[float, float], synthetic: bool) -> Iterator[Any]:
    """A figure of (width, height) inches with its heading, written when all stands on it."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own matplotlibrc must not change the page
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=size_in, dpi=DOTS_PER_INCH)
        canvas = FigureCanvasAgg(figure)
        _head(figure, title, subtitle, synthetic=synthetic)
        yield figure
        canvas.draw()
        # nothing shines through: red, green and blue take two thirds of the time of matplotlib's own writer; level 6,
        # the usual one, twice as long for a tenth less
        encode_png(path, np.asarray(canvas.buffer_rgba())[..., :3], compress_level=2, dots_per_inch=DOTS_PER_INCH)


def _head(figure: Any, title: str, subtitle: str, *, synthetic: bool) -> None:
    """Title and subtitle in the upper left corner, SYNTHETIC in the right one."""
    width, height = figure.get_size_inches()
    left = 0.12 / width
    figure.text(left, 1 - 0.09 / height, title, ha="left", va="top", fontsize=12.5, fontweight="bold")
    figure.text(left, 1 - 0.36 / height, subtitle, ha="left", va="top", fontsize=9.5, color=GRAY)
    if synthetic:
        box = {"boxstyle": "round,pad=0.25", "facecolor": VERMILLION, "edgecolor": "none"}
        letters: dict[str, Any] = {"fontsize": 10, "fontweight": "bold", "color": "white", "bbox": box}
        figure.text(1 - left, 1 - 0.1 / height, "SYNTHETIC", ha="right", va="top", **letters)


def _place_chart(figure: Any) -> None:
    """The panels between heading and legend."""
    width, height = figure.get_size_inches()
    legends = [legend.get_window_extent(figure.canvas.get_renderer()).height for legend in figure.legends]
    below = BELOW_IN + sum(legends) / DOTS_PER_INCH + (PAD_IN if legends else 0)
    above = HEADING_IN + PAD_IN
    figure.subplots_adjust(LEFT_IN / width, below / height, 1 - RIGHT_IN / width, 1 - above / height, hspace=BETWEEN)
