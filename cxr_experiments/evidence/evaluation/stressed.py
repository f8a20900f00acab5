"""What a model says of its validation images under the declared changes of `images.stress`, and its file.

A predict function and prepared images in, one logit per image and change out.  The test split is never changed, and
never comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.errors import LeakageError, RunError
from cxr_experiments.evidence.evaluation.csv_rows import csv_text, odd, parse_float, read_text, records, write_text
from cxr_experiments.evidence.evaluation.predictions import BATCH_SIZE, Predictions
from cxr_experiments.evidence.metrics import Floats
from cxr_experiments.images.splits import Split
from cxr_experiments.images.stress import CHANGES, stress

STRESSED_COLUMNS = ("image_id", *CHANGES)


@dataclass(frozen=True, eq=False)
class Stressed:
    """Logits under each change: `image_id` (n,) strings, `logits` change -> (n,) float64, finite."""

    image_id: NDArray[np.str_]
    logits: Mapping[str, Floats]


def predict_stressed(
    predict: Callable[[NDArray[np.uint8]], Floats],
    images: NDArray[np.uint8],
    indices: NDArray[np.int64],
    plain: Predictions,
) -> Stressed:
    """Predictions of the validation rows `indices` under every change, in batches of 32.

    Args:
        predict: (k, size, size, 1) uint8 images -> (k,) logits.
        images: (n, size, size, 1) uint8; may be memory-mapped.
        indices: (m,) the rows that `plain` was predicted from, in its order.
        plain: the predictions of the unchanged images.

    Raises:
        LeakageError: `plain` is of the test split.
        RunError: a logit is not finite; the text names the image and the change.
    """
    if plain.split == "test":
        raise LeakageError("stress validation was asked of test rows: it is for validation rows")
    changed: dict[str, list[Floats]] = {name: [] for name in CHANGES}
    for start in range(0, len(indices), BATCH_SIZE):
        films = np.asarray(images[indices[start : start + BATCH_SIZE]])
        for name, batches in changed.items():
            batches.append(np.asarray(predict(stress(films, name)), dtype=np.float64))
    logits = {name: np.concatenate([np.zeros(0), *batches]) for name, batches in changed.items()}
    for name, values in logits.items():
        if not np.all(np.isfinite(values)):
            image_id = plain.image_id[np.flatnonzero(~np.isfinite(values))[0]]
            raise RunError(f"run {plain.run_id} gives no finite logit for {image_id} under {name}")
    return Stressed(plain.image_id, logits)


def train_sample(split: Split) -> NDArray[np.int64]:
    """As many training rows as there are validation rows, evenly spaced in manifest order: both classes in proportion.

    What a model says of them, unaugmented, is held against validation (`gap_train_val`).
    """
    num_rows = min(len(split.val), len(split.train))
    return split.train[np.arange(num_rows) * len(split.train) // max(1, num_rows)]


def write_stressed(path: Path, stressed: Stressed) -> None:
    """Write image_id and one logit column per change as CSV, under a temporary name, then rename."""
    columns = [[repr(float(value)) for value in stressed.logits[name]] for name in CHANGES]
    write_text(path, csv_text([STRESSED_COLUMNS, *zip(stressed.image_id.tolist(), *columns, strict=True)]))


def read_stressed(path: Path) -> Stressed:
    """Read what `write_stressed` wrote.

    Raises:
        RunError: missing, unreadable or odd; the text names the file, the line and what was expected.
    """
    rows = list(records(read_text(path), STRESSED_COLUMNS, path))
    if not rows:
        raise odd(path, 2, "no rows", "one row for each validation image")
    values = np.array([[parse_float(cell, "a logit", path, line) for cell in cells[1:]] for line, cells in rows])
    image_id = np.array([cells[0] for _, cells in rows], dtype=str)
    return Stressed(image_id, {name: values[:, column] for column, name in enumerate(CHANGES)})
