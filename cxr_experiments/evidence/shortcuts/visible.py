"""Visible: what the prepared pixels tell of the files' properties, and of the split that an image stands in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.evidence.shortcuts.association import Association, Measured, measure, nothing
from cxr_experiments.evidence.shortcuts.properties import is_high, judged_rows, properties_of
from cxr_experiments.evidence.shortcuts.ridge import Table, cross_scores, draw_folds
from cxr_experiments.images.manifest import ImageRow, Manifest
from cxr_experiments.images.splits import group_names

MAX_IMAGES = 4000  # of a class: more would cost time and memory, and move an interval of .01 by nothing that matters
_SEED = 0  # of folds and samples: the same data set always gives the same numbers


def visible(thumbnails: NDArray[np.uint8], manifest: Manifest, *, level: float) -> tuple[Association, ...]:
    """How well the pixels tell a file's property, high from low, within each class.

    Within a class, because across classes whatever shows the disease would show each property that goes with it.  High
    is above the median of the class.  A linear discriminant on the thumbnail, cross-validated with patients and copies
    kept together; rows that the source calls test are left out.  A class of more than 4,000 images is sampled.

    Args:
        thumbnails: (n, 32, 32) uint8 of the prepared images, in the order of `manifest.rows`.
        manifest: the data set.
        level: what the lower end of the interval must pass for an alarm to ring.

    References:
        Badgeley et al. (2019), npj Digital Medicine 2, 31 (scanner and ordering process predicted from the film).
    """
    found: list[Association] = []
    for label, name in enumerate(manifest.classes):
        kept = _sample(judged_rows(manifest), manifest, label)
        rows = [manifest.rows[number] for number in kept]
        variations = properties_of(rows, synthetic=manifest.synthetic)
        varying = [one for one in variations if not one.note]
        targets = {one.name: is_high(one.values) for one in varying}
        told = _told(thumbnails[kept], targets, rows, verifiable=manifest.patients_verifiable, family=2 * len(varying))
        found += [
            Association(
                heading="visible", name=one.name, within=name, level=level, note=one.note, **asdict(told[one.name])
            )
            if one.name in told
            else Association(
                heading="visible",
                name=one.name,
                within=name,
                level=level,
                note=one.note,
                **asdict(nothing(len(rows), 0)),
            )
            for one in variations
        ]
    return tuple(found)


def split_shift(thumbnails: NDArray[np.uint8], manifest: Manifest) -> tuple[Association, ...]:
    """How well the pixels tell the source's own test images from its others, within each class; empty without a test.

    .5 is no difference.  Where it is high, what holds on validation need not hold on test.  Nothing is judged: there
    is no level at which a shift is an error.

    Args:
        thumbnails: (n, 32, 32) uint8 of the prepared images, in the order of `manifest.rows`.
        manifest: the data set.

    References:
        Rabanser, Guennemann, Lipton (2019), Failing Loudly: An Empirical Study of Methods for Detecting Dataset Shift,
        NeurIPS 32 (the domain classifier).
    """
    if not any(row.split == "test" for row in manifest.rows):
        return ()
    found = []
    for label, name in enumerate(manifest.classes):
        kept = _sample(np.arange(len(manifest.rows)), manifest, label)
        rows = [manifest.rows[number] for number in kept]
        targets = {"train or test": np.array([row.split == "test" for row in rows])}
        told = _told(thumbnails[kept], targets, rows, verifiable=manifest.patients_verifiable, family=1)
        one = told["train or test"]
        found.append(
            Association(heading="shift", name="train or test", within=name, level=None, note="", **asdict(one))
        )
    return tuple(found)


def _told(
    thumbnails: NDArray[np.uint8],
    targets: dict[str, NDArray[np.bool_]],
    rows: Sequence[ImageRow],
    *,
    verifiable: bool,
    family: int,
) -> dict[str, Measured]:
    """Each target against its cross-validated scores.  A classifier knows its direction: nothing is turned round."""
    if not targets:
        return {}
    names = group_names(rows)
    groups, patients = [names[row.image_id] for row in rows], np.array([row.patient for row in rows], dtype=str)
    features: Table = (thumbnails.reshape(len(rows), -1) / np.float32(255)).astype(np.float32)
    columns = np.stack(list(targets.values()), axis=1)
    spread = columns[:, 0].astype(np.int8)
    scores = cross_scores(features, columns.astype(np.float32), draw_folds(spread, groups, seed=_SEED))
    return {
        name: measure(columns[:, place], scores[:, place], patients, verifiable=verifiable, family=family)
        for place, name in enumerate(targets)
    }


def _sample(kept: NDArray[np.int64], manifest: Manifest, label: int) -> NDArray[np.int64]:
    """At most `MAX_IMAGES` of the rows with this label, in order."""
    own = kept[manifest.labels[kept] == label] if len(kept) else kept
    if len(own) <= MAX_IMAGES:
        return own
    return np.sort(np.random.default_rng(_SEED).choice(own, MAX_IMAGES, replace=False))
