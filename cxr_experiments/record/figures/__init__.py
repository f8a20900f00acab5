"""Figures, each a PNG: curves, ROC, precision-recall, confusion matrix, calibration, contact sheet, heat maps; forests.

What is drawn comes in as values and leaves as a file.  The only door to matplotlib.  Each figure carries its n, says
SYNTHETIC when it shows phantoms, and stays readable at the width of a printed column.
"""

from __future__ import annotations

from cxr_experiments.record.figures.classifier import (
    draw_calibration,
    draw_confusion,
    draw_precision_recall,
    draw_roc,
)
from cxr_experiments.record.figures.heatmaps import Caption, ExplainedFilm, draw_explained, draw_heatmaps
from cxr_experiments.record.figures.pictures import FilmPictures, film_pictures
from cxr_experiments.record.figures.study import (
    draw_calibration_overlay,
    draw_forest,
    draw_roc_overlay,
    draw_seed_curves,
)
from cxr_experiments.record.figures.training import draw_contact_sheet, draw_curves

__all__ = [
    "Caption",
    "ExplainedFilm",
    "FilmPictures",
    "draw_calibration",
    "draw_calibration_overlay",
    "draw_confusion",
    "draw_contact_sheet",
    "draw_curves",
    "draw_explained",
    "draw_forest",
    "draw_heatmaps",
    "draw_precision_recall",
    "draw_roc",
    "draw_roc_overlay",
    "draw_seed_curves",
    "film_pictures",
]
