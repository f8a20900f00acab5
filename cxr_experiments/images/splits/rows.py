"""The division itself: which rows of a manifest train, validate and test, and the digests that name it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_experiments.images.manifest import Manifest
from cxr_experiments.images.splits.draw import text_digest


@dataclass(frozen=True, eq=False)
class Split:
    """Which rows of a manifest train, validate and test.

    Attributes:
        train, val, test: (k,) int64 row numbers into `manifest.rows`, rising, read-only; each row stands in one.
        digest: 64 hex digits over the image ids of the three parts.
        test_digest: 64 hex digits over id, label and content of the test rows: what the test ledger knows a split by.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    digest: str
    test_digest: str


def assemble(manifest: Manifest, parts: Mapping[str, str]) -> Split:
    """Image id -> part, as sorted row numbers and the two digests."""
    rows = manifest.rows
    where = {
        name: [i for i, row in enumerate(rows) if parts[row.image_id] == name] for name in ("train", "val", "test")
    }
    told = {name: sorted(rows[i].image_id for i in part) for name, part in where.items()}
    test = sorted((rows[i].image_id, rows[i].label, rows[i].sha256) for i in where["test"])
    arrays = {name: np.array(part, dtype=np.int64) for name, part in where.items()}
    for array in arrays.values():
        array.flags.writeable = False
    return Split(
        train=arrays["train"],
        val=arrays["val"],
        test=arrays["test"],
        digest=text_digest(json.dumps([told["train"], told["val"], told["test"]])),
        test_digest=text_digest(json.dumps(test)),
    )
