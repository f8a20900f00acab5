"""Used: whether a model's score follows a property of the file among images that have the same label."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from cxr_experiments.evidence.evaluation import Predictions
from cxr_experiments.evidence.shortcuts.association import Association, measure, nothing, oriented
from cxr_experiments.evidence.shortcuts.properties import is_high, properties_of
from cxr_experiments.images.manifest import Manifest


def used(predictions: Predictions, manifest: Manifest, *, level: float) -> tuple[Association, ...]:
    """How well the score tells high from low of each property within each class.

    Within a class the label explains nothing any more, so a score that still follows the property owes it to the
    property or to what goes with it (severity, age): an alarm asks for a reason and is no proof.  High is above the
    median of the class among these rows.  Judged from the side on which it is above one half; intervals simultaneous
    over properties, classes and the border swap.

    Args:
        predictions: of one split.
        manifest: where the images' properties stand.
        level: what the lower end of the interval must pass for an alarm to ring.

    References:
        Badgeley et al. (2019), npj Digital Medicine 2, 31 (a model's score against patient and process variables,
        matched); Zech et al. (2018), PLoS Medicine 15, e1002683.
    """
    of_image = {row.image_id: row for row in manifest.rows}
    ordered = [of_image[image_id] for image_id in predictions.image_id.tolist()]
    judged = []
    for label, name in enumerate(manifest.classes):
        own = np.array([row.width > 0 for row in ordered], dtype=np.bool_) & (predictions.label == label)
        rows = [ordered[place] for place in np.flatnonzero(own)]
        judged.append((name, own, properties_of(rows, synthetic=manifest.synthetic)))
    family = 1 + sum(not one.note for _, _, variations in judged for one in variations)  # and the border swap
    found = []
    for name, own, variations in judged:
        score, patients = predictions.logit[own], predictions.patient[own]
        for one in variations:
            told, note = nothing(int(own.sum()), 0), one.note
            if not one.note:
                known = manifest.patients_verifiable
                told = measure(is_high(one.values), score, patients, verifiable=known, family=family)
                note = "falls as it rises" if told.auroc < 0.5 else "rises with it"
            line = asdict(oriented(told))
            found.append(Association(heading="used", name=one.name, within=name, level=level, note=note, **line))
    return tuple(found)
