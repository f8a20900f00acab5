"""Films beside the heat that a network found in them: a page of validation films, or one film in its own proportions.

Heat is drawn over the film, colourless at 0 and dense at the film's own maximum, so that two films' colours are not to
be compared.  What the maps are worth stands on every page, in the words that the caller gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle
from matplotlib.transforms import Affine2D
from numpy.typing import NDArray

from cxr_experiments.record.figures.page import GRAY, HEADING_IN, VERMILLION, page

TILE_IN, GAP_IN = 1.8, 0.07  # 270 pixels, at which a 200 pixel film loses nothing; from a film to its overlay
TITLE_IN, LEFT_IN, BETWEEN_IN, BELOW_IN = 0.62, 0.55, 0.25, 0.9  # over a film, before it, between pairs, under all
LARGEST_IN = 4.4
UNVALIDATED = "not validated on this model"
LONGEST_ID = 46


@dataclass(frozen=True, eq=False)
class ExplainedFilm:
    """A film, its heat, and what the network said.

    `film` is (height, width) uint8; `heat` (size, size) float32, 0 and more, lies on the square that `resize` made of
    the film; `called` is the label at the threshold; `name` tells image and patient.
    """

    film: NDArray[np.uint8]
    heat: NDArray[np.float32]
    resize: str
    probability: float
    called: str
    name: str


@dataclass(frozen=True)
class Caption:
    """What a page says of all its films: what the maps are worth (such as UNVALIDATED), the positive class's name, the
    probability from which it is called, and whether phantoms are in play."""

    worth: str
    positive: str
    threshold: float
    synthetic: bool


def draw_heatmaps(path: Path, groups: Mapping[str, Sequence[ExplainedFilm]], caption: Caption) -> None:
    """One row of film and overlay pairs for each group, kind of film -> films; a group without films says so."""
    num_pairs = max(2, *(len(films) for films in groups.values()))  # a narrower page would cut its title
    pair_in, row_in = 2 * TILE_IN + GAP_IN + BETWEEN_IN, TITLE_IN + TILE_IN
    size: dict[str, Any] = {
        "height_in": HEADING_IN + len(groups) * row_in + BELOW_IN,
        "width_in": LEFT_IN + num_pairs * pair_in,
    }
    title = f"Where the network finds {caption.positive}, validation"
    with page(path, title, caption.worth, synthetic=caption.synthetic, **size) as figure:
        _mark_worth(figure, caption)
        sheet = _in_inches(figure)
        for row, (heading, films) in enumerate(groups.items()):
            top = HEADING_IN + row * row_in + TITLE_IN
            upright = {"rotation": 90, "ha": "right", "va": "center", "ma": "center", "fontsize": 9.5}
            sheet.text(LEFT_IN - 0.08, top + TILE_IN / 2, heading.replace(", ", "\n"), **upright)
            if not films:
                sheet.text(LEFT_IN + 0.1, top + TILE_IN / 2, "none", va="center", color=GRAY)
            for pair, one in enumerate(films):
                _draw_titled_pair(sheet, one, LEFT_IN + pair * pair_in, top)
        place = (0.2, 0.56 / size["height_in"], 0.6, 0.1 / size["height_in"])
        _colour_bar(figure, caption, cax=figure.add_axes(place))


def draw_explained(path: Path, one: ExplainedFilm, caption: Caption) -> None:
    """One film beside its overlay, both in the film's own proportions."""
    height, width = one.film.shape
    tile_height = LARGEST_IN * min(1.0, height / width)
    tile_width = LARGEST_IN * min(1.0, width / height)
    width_in = max(6.4, 2 * tile_width + 0.3)
    title = f"P({caption.positive}) {one.probability:.4f}, called {one.called}"
    size: dict[str, Any] = {"height_in": HEADING_IN + tile_height + 1.25, "width_in": width_in}
    with page(path, title, caption.worth, synthetic=caption.synthetic, **size) as figure:
        _mark_worth(figure, caption)
        left, right = figure.subplots(1, 2)
        for axes in (left, right):
            _bare(axes)
        _draw_pair(left, right, one)
        left.set_title(_shortened(one.name), loc="left", fontsize=8.5)
        _colour_bar(figure, caption, ax=[left, right], location="bottom", aspect=45, shrink=0.7)


def heat_extent(shape: tuple[int, int], size_px: int, resize: str) -> tuple[float, float, float, float]:
    """Where the prepared square lies on a film, in the film's pixels: left, right, bottom, top, rows counted down.

    Args:
        shape: height and width of the film.
        size_px: side of the square.
        resize: how `images.prepare` made it: "squash" took the whole film, "pad" added bars, "crop" left the rest out.

    Example:
        >>> heat_extent((100, 200), 50, "crop")
        (50.0, 150.0, 100.0, 0.0)
        >>> heat_extent((100, 200), 50, "pad")
        (0.0, 200.0, 152.0, -48.0)
    """
    height, width = shape
    if resize == "squash":
        return 0.0, float(width), float(height), 0.0
    if resize == "crop":
        side = min(shape)
        top, left = (height - side) // 2, (width - side) // 2
        return float(left), float(left + side), float(top + side), float(top)
    scale = size_px / max(shape)
    rows, columns = (max(1, round(side * scale)) for side in shape)
    above, before = (size_px - rows) // 2, (size_px - columns) // 2
    down, across = height / rows, width / columns  # film pixels per square pixel: the rounding of `prepare` undone
    return -before * across, (size_px - before) * across, (size_px - above) * down, -above * down


def draw_film(axes: Any, one: ExplainedFilm, placed: Any = None) -> None:
    """The film alone, in its own pixels; `placed` is the transform of these where the axes have others."""
    shown = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "antialiased"}
    height, width = one.film.shape
    _show(axes, one, one.film, (0.0, float(width), float(height), 0.0), placed, **shown)


def draw_heat(axes: Any, one: ExplainedFilm, placed: Any = None) -> None:
    """The heat over a film that is drawn already; where there is none, words that say so."""
    height, width = one.film.shape
    highest = float(one.heat.max())
    if highest <= 0:
        words = {"ha": "center", "color": "white", "fontsize": 8.5, "transform": placed or axes.transData}
        axes.text(0.5 * width, 0.96 * height, "no evidence", **words)
        return
    extent = heat_extent((height, width), one.heat.shape[0], one.resize)
    shown = {"cmap": ListedColormap(_colours()), "vmin": 0, "vmax": 1, "interpolation": "bilinear"}
    _show(axes, one, one.heat / highest, extent, placed, **shown)


def _show(axes: Any, one: ExplainedFilm, pixels: Any, extent: tuple[float, ...], placed: Any, **shown: Any) -> None:
    """An image in the film's pixels, cut at the film's borders: bars of the padded square lie outside."""
    height, width = one.film.shape
    image = axes.imshow(pixels, extent=extent, transform=placed or axes.transData, aspect="equal", **shown)
    image.set_clip_path(Rectangle((0, 0), width, height, transform=placed or axes.transData))
    if placed is None:
        axes.set(xlim=(0, width), ylim=(height, 0))


def _draw_pair(left: Any, right: Any, one: ExplainedFilm) -> None:
    for axes in (left, right):
        draw_film(axes, one)
    draw_heat(right, one)


def _in_inches(figure: Any) -> Any:
    """Axes over the whole page, in inches from its upper left corner: an axes for each tile would cost 30 ms each."""
    width, height = figure.get_size_inches()
    sheet = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, width), ylim=(height, 0))
    sheet.set_axis_off()
    return sheet


def _draw_titled_pair(sheet: Any, one: ExplainedFilm, left: float, top: float) -> None:
    """Film and overlay side by side, their upper left corner at (left, top) inches, what was said of them above."""
    scale = TILE_IN / max(one.film.shape)
    for x in (left, left + TILE_IN + GAP_IN):
        placed = Affine2D().scale(scale).translate(x, top) + sheet.transData
        draw_film(sheet, one, placed)
    draw_heat(sheet, one, placed)
    told = f"P {one.probability:.4f}, called {one.called}\n{_shortened(one.name)}"
    sheet.text(left, top - 0.06, told, ha="left", va="bottom", fontsize=8.5)


def _colours() -> NDArray[np.float64]:
    """(256, 4): inferno from purple to yellow (even steps to the eye, also without colour), opacity rising from 0."""
    colours = np.array(matplotlib.colormaps["inferno"](np.linspace(0.3, 0.95, 256)), dtype=np.float64)
    colours[:, 3] = np.linspace(0.0, 0.75, 256)
    return colours


def _colour_bar(figure: Any, caption: Caption, **where: Any) -> None:
    colours = _colours()
    over_gray = colours[:, 3:] * colours[:, :3] + (1 - colours[:, 3:]) * 0.35  # as over the film
    bar = figure.colorbar(ScalarMappable(cmap=ListedColormap(over_gray)), **{"orientation": "horizontal", **where})
    bar.set_ticks([0, 0.5, 1], labels=["none", "half", "this film's strongest"])
    bar.set_label(f"evidence for {caption.positive}; called so when P >= {caption.threshold:.4g}", fontsize=8.5)
    bar.ax.tick_params(labelsize=8.5)


def _mark_worth(figure: Any, caption: Caption) -> None:
    """The line under the title, in the colour of a warning unless the maps were checked."""
    figure.texts[1].set_color(VERMILLION if caption.worth == UNVALIDATED else GRAY)


def _bare(axes: Any) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _shortened(name: str) -> str:
    lines = name.split("\n")
    return "\n".join(line if len(line) <= LONGEST_ID else f"...{line[3 - LONGEST_ID :]}" for line in lines)
