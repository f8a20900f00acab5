"""Synthetic chest radiographs, the embedded default data: geometry in, image, label and exact lesion mask out.

Nothing is read from disk.  `rows` draws who there is, `film` renders one image as a pure function of
(seed, row, difficulty): anatomy and disease belong to the patient, pose and exposure to the image.  The label enters
through the lesion alone, so that the same row with the other label is the same film with or without it.  Phantoms teach
nothing about medicine: they exist so that the harness runs, and can be tested, without a download.
"""

from __future__ import annotations

from cxr_experiments.images.phantom.film import Phantom, lung_mask, render
from cxr_experiments.images.phantom.frame import PHANTOM_SIZE_PX
from cxr_experiments.images.phantom.rows import PhantomRow, phantom_rows

__all__ = ["PHANTOM_SIZE_PX", "Phantom", "PhantomRow", "lung_mask", "phantom_rows", "render"]
