"""Small probes: what a linear classifier that sees a part of the film alone makes of the label.

Fitted on the run's training rows, scored on the rows that the model is scored on, and shown beside the model's own
AUROC.  A border that does well is a warning; a thumbnail that comes near the model says how little the task asks for.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.evidence.evaluation import Predictions
from cxr_experiments.evidence.shortcuts.association import Association, measure, oriented
from cxr_experiments.evidence.shortcuts.levels import BORDER, CENTRE, MODEL, THUMBNAIL
from cxr_experiments.evidence.shortcuts.ridge import Table, ridge_scores
from cxr_experiments.evidence.shortcuts.swap import border_mask


def probe_features(thumbnails: NDArray[np.uint8]) -> dict[str, Table]:
    """What each probe sees of (n, 32, 32) uint8 thumbnails, as (n, d) float32 in [0, 1].

    The frame that the border swap exchanges; the middle half of either side; 16 x 16 means of four pixels.
    """
    films = thumbnails.astype(np.float32) / np.float32(255)
    count, size = films.shape[:2]
    quarter = size // 4
    middle = films[:, quarter : size - quarter, quarter : size - quarter]
    halved = films.reshape(count, size // 2, 2, size // 2, 2).mean(axis=(2, 4))
    return {
        BORDER: films[:, border_mask(size)],
        CENTRE: middle.reshape(count, -1),
        THUMBNAIL: halved.reshape(count, -1),
    }


def probes(
    fitted: NDArray[np.uint8],
    labels: NDArray[np.int8],
    thumbnails: NDArray[np.uint8],
    predictions: Predictions,
    *,
    level: float,
    verifiable: bool,
) -> tuple[Association, ...]:
    """AUROC of each probe and of the model on the same rows; the border alone is judged.

    The border is judged from the side on which it is above one half, since a border that is tied to the label the other
    way round on these rows tells it no less.

    Args:
        fitted: (m, 32, 32) uint8 of training rows.
        labels: (m,) theirs, in {0, 1}.
        thumbnails: (n, 32, 32) uint8 of the rows of `predictions`, in its order.
        predictions: the model's.
        level: of the border.
        verifiable: whether patients are.

    References:
        Maguolo and Nanni (2021), Information Fusion 76, 1-7: COVID-19 told from films whose lungs are blacked out.
    """
    seen, asked = probe_features(fitted), probe_features(thumbnails)
    note = f"linear, fitted on {len(labels)} training images"
    targets = labels[:, None].astype(np.float32)
    found = []
    scores = {name: ridge_scores(seen[name], targets, asked[name])[:, 0] for name in seen}
    for name, score in {**scores, MODEL: predictions.logit}.items():
        told = measure(predictions.label, score, predictions.patient, verifiable=verifiable, family=1)
        line = Association("probe", name, "", **asdict(told), level=None, note=note if name != MODEL else "")
        if name == BORDER:
            turned = "; turned round: it speaks against the label here" if told.high < 0.5 else ""
            line = replace(line, **asdict(oriented(told)), level=level, note=note + turned)
        found.append(line)
    return tuple(found)
