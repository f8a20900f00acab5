"""The whole gate: what the data offer, what one model uses of it, and what small probes make of the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.config.commands import ShortcutsConfig
from cxr_experiments.evidence.evaluation import Predictions
from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.evidence.shortcuts.association import Association
from cxr_experiments.evidence.shortcuts.available import available
from cxr_experiments.evidence.shortcuts.probes import probes
from cxr_experiments.evidence.shortcuts.swap import Swapped, border_swap, judge_swap
from cxr_experiments.evidence.shortcuts.thumbnails import THUMBNAIL_PX, thumbnails_of
from cxr_experiments.evidence.shortcuts.used import used
from cxr_experiments.evidence.shortcuts.visible import visible
from cxr_experiments.images.splits import Split
from cxr_experiments.images.store import Store

MAX_FITTED = 8000  # training rows that probes are fitted on: beyond, memory grows and a linear probe does not


@dataclass(frozen=True, eq=False)
class Gate:
    """What one run was found to use, and the swapped predictions that this can be computed from again."""

    found: tuple[Association, ...]
    swapped: Swapped


def of_data(store: Store, levels: ShortcutsConfig) -> tuple[Association, ...]:
    """Available and visible: the same for every run on these prepared images."""
    manifest = store.manifest
    needed = np.array([row.split != "test" for row in manifest.rows])
    thumbnails = np.zeros((len(needed), THUMBNAIL_PX, THUMBNAIL_PX), dtype=np.uint8)
    thumbnails[needed] = thumbnails_of(store.images, np.flatnonzero(needed))
    return (
        *available(manifest, level=levels.available_auroc),
        *visible(thumbnails, manifest, level=levels.visible_auroc),
    )


def of_run(
    predict: Callable[[NDArray[np.uint8]], Floats],
    store: Store,
    split: Split,
    predictions: Predictions,
    levels: ShortcutsConfig,
) -> Gate:
    """Used and probes of one model.

    Args:
        predict: (k, size, size, 1) uint8 images -> (k,) logits.
        store: the prepared images.
        split: the run's; probes are fitted on its training rows.
        predictions: the model's, of the rows that it is judged on, in the order of the split.
        levels: of the alarms.
    """
    manifest = store.manifest
    rows = {"test": split.test, "val": split.val}[predictions.split]
    verifiable = manifest.patients_verifiable
    swapped = border_swap(predict, store.images, rows, predictions)
    step = -(-len(split.train) // MAX_FITTED)
    fitted = split.train[:: max(1, step)]
    shown = probes(
        thumbnails_of(store.images, fitted),
        manifest.labels[fitted],
        thumbnails_of(store.images, rows),
        predictions,
        level=levels.border_auroc,
        verifiable=verifiable,
    )
    follows = used(predictions, manifest, level=levels.used_auroc)
    family = 1 + sum(not math.isnan(one.auroc) for one in follows)
    swap = judge_swap(swapped, predictions, level=levels.swap_auroc, verifiable=verifiable, family=family)
    return Gate((*follows, swap, *shown), swapped)
