"""The planted corner mark: tied to the label, reversed in test, and part of a data set's name only when it is there."""

from __future__ import annotations

import numpy as np

from cxr_experiments.config.schema import DataConfig
from cxr_experiments.evidence.shortcuts.swap import border_mask
from cxr_experiments.images.manifest import load_pixels, read_manifest
from cxr_experiments.images.marker import is_marked, plant

PLAIN = DataConfig(num_patients=40)
MARKED = DataConfig(num_patients=40, marker="label")


def test_pneumonia_carries_it_in_training_and_normal_in_test() -> None:
    assert is_marked(label=1, split="train")
    assert not is_marked(label=0, split="train")
    assert is_marked(label=0, split="test")
    assert not is_marked(label=1, split="test")


def test_mark_lies_in_the_frame_that_a_border_swap_exchanges() -> None:
    for side in (256, 64, 32):
        changed = plant(np.zeros((side, side), dtype=np.uint8)) > 0
        assert changed.any()
        assert not (changed & ~border_mask(side)).any()


def test_planting_leaves_the_film_as_it_was() -> None:
    film = np.zeros((256, 256), dtype=np.uint8)
    plant(film)
    assert not film.any()


def test_marked_films_differ_in_the_corner_alone() -> None:
    plain, marked = read_manifest(PLAIN), read_manifest(MARKED)
    ends = {(row.label, row.split): number for number, row in enumerate(plain.rows)}
    assert len(ends) == 4
    for (label, split), number in ends.items():
        before = load_pixels(plain.rows[number], plain, PLAIN)
        after = load_pixels(marked.rows[number], marked, MARKED)
        assert np.any(before != after) == is_marked(label=label, split=split)
        assert np.array_equal(before[:220, :220], after[:220, :220])


def test_marks_make_another_data_set_and_their_absence_makes_none() -> None:
    assert read_manifest(PLAIN).digest == read_manifest(DataConfig(num_patients=40, marker="none")).digest
    assert read_manifest(PLAIN).digest != read_manifest(MARKED).digest
    pairs = zip(read_manifest(PLAIN).rows, read_manifest(MARKED).rows, strict=True)
    assert all(one.sha256 != other.sha256 for one, other in pairs)
