"""A manifest is divided into train, validation and test rows, and the division is proven before it goes out.

    official          where the source names a test split, that one stays untouched, and its train and val images are
                      pooled and cut anew; otherwise as patient_grouped
    patient_grouped   all images are pooled; the test rows are drawn first, from `data.test_seed` alone, so that runs
                      with different seeds share them
    image_level       the same image by image: a control that leaks, and is measured instead of proven

What is cut are groups of images: connected components over strict patient key, loose key and equal content.  A split
depends neither on row order nor on the folder.  No pixel is read here.
"""

from __future__ import annotations

from cxr_experiments.images.splits.division import make_split
from cxr_experiments.images.splits.files import read_split, write_split
from cxr_experiments.images.splits.groups import group_names
from cxr_experiments.images.splits.leakage import Leak, leaking_sentence, leaks_of, prove_disjoint
from cxr_experiments.images.splits.rows import Split

__all__ = [
    "Leak",
    "Split",
    "group_names",
    "leaking_sentence",
    "leaks_of",
    "make_split",
    "prove_disjoint",
    "read_split",
    "write_split",
]
