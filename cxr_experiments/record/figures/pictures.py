"""One film, and the same film under its heat, as bare pictures in memory: what is to be said of them stands beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cxr_experiments.images.decode import resize
from cxr_experiments.record.figures.heatmaps import ExplainedFilm, draw_film, draw_heat

LONGEST_PX = 720  # twice what a phone or half a page shows


@dataclass(frozen=True)
class FilmPictures:
    """The film and the film under its heat, each a PNG; both have `width_px` by `height_px` pixels."""

    film: bytes
    heat: bytes
    width_px: int
    height_px: int


def film_pictures(one: ExplainedFilm) -> FilmPictures:
    """Both pictures, in the film's own proportions, the longer side LONGEST_PX; nothing is written to the disk."""
    scale = LONGEST_PX / max(one.film.shape)
    height_px, width_px = (max(1, round(side * scale)) for side in one.film.shape)
    if scale < 1:  # matplotlib would take a second for a film of 20 million pixels
        one = replace(one, film=resize(one.film, height_px, width_px))

    def whole(axes: Any) -> None:
        draw_film(axes, one)
        draw_heat(axes, one)

    film = _picture(width_px, height_px, lambda axes: draw_film(axes, one))
    return FilmPictures(film, _picture(width_px, height_px, whole), width_px, height_px)


def _picture(width_px: int, height_px: int, draw: Callable[[Any], None]) -> bytes:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own matplotlibrc must not change the picture
        figure = Figure(figsize=(width_px / 100, height_px / 100), dpi=100)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        draw(axes)
        axes.set_aspect("auto")  # the picture has the film's proportions up to half a pixel
        kept = BytesIO()
        figure.savefig(kept, format="png", dpi=100, pil_kwargs={"compress_level": 3})
        return kept.getvalue()
