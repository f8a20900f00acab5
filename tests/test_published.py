"""Figures of public data sets: they agree with each other, and with the real files."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.published import PNEUMONIAMNIST, known


def totals(source: str) -> Counter[tuple[str, int]]:
    """(part, label) -> images, where train and val of the source are one part."""
    told = known(source)
    assert told is not None
    counted: Counter[tuple[str, int]] = Counter()
    for (split, label), num_images in told.counts.items():
        counted["test" if split == "test" else "pool", label] += num_images
    return counted


def test_pneumoniamnist_is_the_kermany_set_with_another_cut() -> None:
    assert totals("kaggle") == totals("pneumoniamnist")
    assert sum(totals("kaggle").values()) == 5856


def test_files_of_pneumoniamnist_are_named_by_their_size() -> None:
    assert list(PNEUMONIAMNIST) == [28, 64, 128, 224]
    for size_px, file in PNEUMONIAMNIST.items():
        assert file.name == f"pneumoniamnist{'' if size_px == 28 else f'_{size_px}'}.npz"
        address = urlsplit(file.url)
        assert (address.scheme, address.hostname) == ("https", "zenodo.org")
        assert address.path.endswith(f"/{file.name}")
        assert re.fullmatch("[0-9a-f]{32}", file.md5)
    assert len({file.md5 for file in PNEUMONIAMNIST.values()}) == 4


def test_nothing_is_known_of_a_set_of_the_users_own() -> None:
    assert [known(source) for source in ("phantom", "folder", "csv")] == [None, None, None]


@pytest.mark.real_data
def test_the_real_kermany_files_are_what_is_known_of_them(real_data: Path) -> None:
    manifest = read_manifest(DataConfig(source="kaggle", root=str(real_data)))
    told = known("kaggle")
    assert told is not None
    assert Counter((row.split, row.label) for row in manifest.rows) == told.counts
    for split, num_patients in told.num_patients.items():
        assert len({row.patient for row in manifest.rows if row.split == split}) == num_patients
