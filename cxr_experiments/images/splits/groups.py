"""Which images belong together: they share a patient key, a bare patient number, or their content."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cxr_experiments.images.duplicates import content_key
from cxr_experiments.images.manifest import ImageRow

Key = Callable[[ImageRow], str]


def _strict_key(row: ImageRow) -> str:
    return row.patient


def _loose_key(row: ImageRow) -> str:
    return row.loose_key or row.patient


# The first word says what the rows of a message share.
KEYS: dict[str, Key] = {"patient": _strict_key, "bare patient number": _loose_key, "file content": content_key}


def group_names(rows: Sequence[ImageRow]) -> dict[str, str]:
    """Image id -> name of its group, the smallest image id in it.

    A group is a connected component over strict patient key, loose key and equal content: if A shares a patient with
    B and B's file is a copy of C's, all three stay together.
    """
    parent = {row.image_id: row.image_id for row in rows}

    def find(image_id: str) -> str:
        while parent[image_id] != image_id:
            parent[image_id] = parent[parent[image_id]]
            image_id = parent[image_id]
        return image_id

    for key in KEYS.values():
        first: dict[str, str] = {}
        for row in rows:
            if value := key(row):
                one, other = find(first.setdefault(value, row.image_id)), find(row.image_id)
                parent[max(one, other)] = min(one, other)
    return {row.image_id: find(row.image_id) for row in rows}
