"""Exposure: whether a film's brightness, contrast or sharpness as a whole tells the label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.evidence.shortcuts.association import Association, measure, nothing, oriented
from cxr_experiments.evidence.shortcuts.properties import judged_rows
from cxr_experiments.images.manifest import Manifest


def exposure(measures: Mapping[str, NDArray[np.float32]], manifest: Manifest) -> tuple[Association, ...]:
    """How well each measure of the decoded films tells the label, from the side on which it is above one half.

    Rows that the source itself calls test are left out.  Disease changes these measures too, so nothing is judged here:
    a measure that tells the label nearly alone says that the classes were taken or processed differently.

    Args:
        measures: name -> (n,) finite, in the order of `manifest.rows`.
        manifest: the data set.

    References:
        Zech et al. (2018), PLoS Medicine 15, e1002683: how films of one hospital are exposed and processed gives its
        prevalence of pneumonia away.
    """
    kept = judged_rows(manifest)
    labels, patients = manifest.labels[kept], np.array([manifest.rows[number].patient for number in kept], dtype=str)
    found = []
    for name, values in measures.items():
        own = values[kept]
        told, note = nothing(len(kept), 0), "constant"
        if len(own) and np.any(own != own[0]):
            known = manifest.patients_verifiable
            told = measure(labels, own, patients, verifiable=known, family=len(measures))
            note = f"{'lower' if told.auroc < 0.5 else 'higher'} in {manifest.classes[1]}"
        line = asdict(oriented(told))
        found.append(Association(heading="exposure", name=name, within="", level=None, note=note, **line))
    return tuple(found)
