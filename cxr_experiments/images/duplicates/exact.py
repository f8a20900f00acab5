"""Which images of a manifest are the same file: groups of equal bytes.

Nothing is decoded, so a copy that was encoded anew is not found here.
"""

from __future__ import annotations

from collections import defaultdict

from cxr_experiments.images.manifest import ImageRow, Manifest


def exact_duplicates(manifest: Manifest) -> tuple[tuple[str, ...], ...]:
    """Groups of two or more image ids with equal content, each sorted, in the order of their first member."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for row in manifest.rows:
        if content := content_key(row):
            groups[content].append(row.image_id)
    return tuple(sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1))


def content_key(row: ImageRow) -> str:
    """What equal files share, their SHA-256; "" for phantoms and files without content, which are copies of nothing."""
    return row.sha256 if row.num_bytes else ""
