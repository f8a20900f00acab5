"""How a manifest is divided: which of the three ways, and in which order test and validation are held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.manifest import ImageRow, Manifest
from cxr_experiments.images.splits.draw import draw_fold, draw_fraction
from cxr_experiments.images.splits.groups import group_names
from cxr_experiments.images.splits.leakage import prove_disjoint
from cxr_experiments.images.splits.rows import Split, assemble


def make_split(manifest: Manifest, data: DataConfig, *, seed: int, kind: str = "official") -> Split:
    """Train, validation and test rows, stratified by label.

    Args:
        manifest: the data set.
        data: `val_fraction` of the images that are not test are held out for validation, or fold `fold` of `num_folds`
            where that is not 0; `patient_rule` says which key may not cross official splits; `test_fraction` and
            `test_seed` draw the test rows where no official ones are kept.
        seed: of the validation cut; any integer.
        kind: "official", "patient_grouped" or "image_level", as the package's docstring tells them apart.

    Raises:
        DataError: too few patients to divide.
        LeakageError: an official test split shares a patient or a file with the training images.
    """
    rows, grouped = manifest.rows, kind != "image_level"
    test = {row.image_id for row in rows if row.split == "test"} if kind == "official" else set()
    if not test:
        names = _names(rows, grouped=grouped)
        test = draw_fraction(rows, data.test_fraction, draw=f"test:{data.test_seed}", names=names)
    pool = [row for row in rows if row.image_id not in test]
    names = _names(pool, grouped=grouped)
    if data.num_folds:
        val = draw_fold(pool, data.fold, data.num_folds, draw=f"fold:{seed}", names=names)
    else:
        val = draw_fraction(pool, data.val_fraction, draw=f"val:{seed}", names=names)
    split = assemble(manifest, {row.image_id: _part(row, val, test) for row in rows})
    if grouped:
        prove_disjoint(manifest, split, patient_rule=data.patient_rule)
    return split


def _names(rows: Sequence[ImageRow], *, grouped: bool) -> Mapping[str, str]:
    """Image id -> name of what is drawn with it: its group, or the image alone."""
    return group_names(rows) if grouped else {row.image_id: row.image_id for row in rows}


def _part(row: ImageRow, val: set[str], test: set[str]) -> str:
    if row.image_id in test:
        return "test"
    return "val" if row.image_id in val else "train"
