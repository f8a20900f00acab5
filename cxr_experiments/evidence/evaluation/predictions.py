"""From a predict function and images to predictions, and their file.

A predictions file holds one row per image; every score can be computed from it again, without TensorFlow.  Nothing here
chooses a threshold or decides which split may be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.errors import RunError
from cxr_experiments.evidence.evaluation.csv_rows import csv_text, odd, parse_float, read_text, records, write_text
from cxr_experiments.evidence.metrics import Floats, sigmoid

if TYPE_CHECKING:
    from cxr_experiments.images.manifest import Manifest

BATCH_SIZE = 32  # a larger one asks for more memory than training did
SPLITS = ("train", "val", "test")
PREDICTION_COLUMNS = ("image_id", "patient", "split", "label", "logit", "probability", "run_id", "dataset_digest")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one model says about the images of one split; row i of each array is one image.

    `image_id` (n,) and `patient` (n,) are strings, a patient "" where not verifiable; `label` (n,) int8 in {0, 1};
    `probability` (n,) float64 in [0, 1], P(PNEUMONIA); `logit` (n,) float64, the layer before the sigmoid, all NaN
    where a file from elsewhere does not give it (it is never computed back).
    """

    image_id: NDArray[np.str_]
    patient: NDArray[np.str_]
    split: str
    label: NDArray[np.int8]
    logit: Floats
    probability: Floats
    run_id: str
    dataset_digest: str


def predict_split(
    predict: Callable[[NDArray[np.uint8]], Floats],
    images: NDArray[np.uint8],
    manifest: Manifest,
    indices: NDArray[np.int64],
    *,
    split: str,
    run_id: str,
) -> Predictions:
    """Predictions of the rows `indices`, computed in batches of 32.

    Args:
        predict: (k, size, size, 1) uint8 images -> (k,) logits.
        images: (n, size, size, 1) uint8, row i belongs to `manifest.rows[i]`; may be memory-mapped.
        manifest: names, labels and patients of the images.
        indices: (m,) the rows to predict, in the order wanted.
        split: "train", "val" or "test".
        run_id: the run whose model predicts.

    Raises:
        RunError: a logit is not finite; the text names the image.
    """
    rows = [manifest.rows[int(index)] for index in indices]
    starts = range(0, len(indices), BATCH_SIZE)
    batches = [predict(np.asarray(images[indices[start : start + BATCH_SIZE]])) for start in starts]
    logit = np.concatenate([np.zeros(0), *batches]).astype(np.float64)
    if logit.shape != (len(rows),):
        raise ValueError(f"predict gave {logit.shape}: expected one logit per image, ({len(rows)},)")
    for row, value in zip(rows, logit, strict=True):
        if not np.isfinite(value):
            raise RunError(f"run {run_id} gives the logit {value} for {row.image_id}: its weights are not usable")
    return Predictions(
        image_id=np.array([row.image_id for row in rows], dtype=str),
        patient=np.array([row.patient for row in rows], dtype=str),
        split=split,
        label=np.array([row.label for row in rows], dtype=np.int8),
        logit=logit,
        probability=sigmoid(logit),
        run_id=run_id,
        dataset_digest=manifest.digest,
    )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write a predictions file under a temporary name and rename it; the text is read back strictly before that.

    Raises:
        RunError: the predictions would not be read back (a duplicate id, a value that is not finite, no rows).
    """
    whole = (predictions.split, predictions.run_id, predictions.dataset_digest)
    columns = zip(predictions.image_id, predictions.patient, predictions.label, predictions.logit, strict=True)
    rows = [
        (str(image_id), str(patient), whole[0], str(int(label)), _decimal(logit), _decimal(probability), *whole[1:])
        for (image_id, patient, label, logit), probability in zip(columns, predictions.probability, strict=True)
    ]
    text = csv_text([PREDICTION_COLUMNS, *rows])
    _parse_predictions(text, path)
    write_text(path, text)


def read_predictions(path: Path) -> Predictions:
    """Read a predictions file.

    Raises:
        RunError: the file is missing, unreadable, or holds anything but what `write_predictions` writes; the text
            names the file, the line and what was expected.
    """
    return _parse_predictions(read_text(path), path)


def _parse_predictions(text: str, path: Path) -> Predictions:
    rows = list(records(text, PREDICTION_COLUMNS, path))
    if not rows:
        raise odd(path, 2, "no rows", "one row for each image")
    first = rows[0][1]
    seen: dict[str, int] = {}
    for line, cells in rows:
        if seen.setdefault(cells[0], line) != line:
            raise odd(path, line, f"image_id {cells[0]!r} stands on line {seen[cells[0]]} too", "each image once")
        for column in (2, 6, 7):
            if cells[column] != first[column]:
                name = PREDICTION_COLUMNS[column]
                raise odd(path, line, f"{name} {cells[column]!r}", f"{first[column]!r} as on the first row")
        if (cells[4] == "") != (first[4] == ""):
            raise odd(path, line, f"logit {cells[4]!r}", "a logit on every row or on none")
    values = np.array([_row_values(cells, path, line) for line, cells in rows])
    return Predictions(
        image_id=np.array([cells[0] for _, cells in rows], dtype=str),
        patient=np.array([cells[1] for _, cells in rows], dtype=str),
        split=first[2],
        label=values[:, 0].astype(np.int8),
        logit=values[:, 1],
        probability=values[:, 2],
        run_id=first[6],
        dataset_digest=first[7],
    )


def _row_values(cells: Sequence[str], path: Path, line: int) -> tuple[float, float, float]:
    """Label, logit (NaN when blank) and probability of one row."""
    image_id, _, split, label, logit_text, probability_text, run_id, digest = cells
    if not (image_id and run_id and digest):
        raise odd(path, line, "an empty image_id, run_id or dataset_digest", "text in each")
    if split not in SPLITS:
        raise odd(path, line, f"split {split!r}", f"one of {', '.join(SPLITS)}")
    if label not in ("0", "1"):
        raise odd(path, line, f"label {label!r}", "0 or 1")
    logit = parse_float(logit_text, "a finite logit", path, line) if logit_text else np.nan
    probability = parse_float(probability_text, "a probability in [0, 1]", path, line)
    if not 0 <= probability <= 1:
        raise odd(path, line, f"probability {probability_text}", "a number in [0, 1]")
    if logit_text and abs(float(sigmoid(logit)) - probability) > 1e-6:
        wanted = f"sigmoid(logit) = {float(sigmoid(logit))!r} within 1e-6"
        raise odd(path, line, f"probability {probability_text} beside logit {logit_text}", wanted)
    return float(label), logit, probability


def _decimal(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))
