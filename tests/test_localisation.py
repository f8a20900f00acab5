"""Scores of heat maps, against hand-computed cases, a slow second implementation, and maps that know nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from cxr_experiments.evidence.localisation import heat_inside, localise, overlap, pointing, rank_correlation

SIZE = 24


def lesions(num_images: int, seed: int = 0, *, fixed: bool = False) -> np.ndarray:
    """(n, 24, 24) bool: a disc of radius 4 somewhere, or always at one place."""
    rng = np.random.default_rng(seed)
    centres = np.full((num_images, 2), 12.0) if fixed else rng.uniform(4, SIZE - 4, (num_images, 2))
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return (rows - centres[:, :1, None]) ** 2 + (columns - centres[:, 1:, None]) ** 2 <= 16


def noise(num_images: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((num_images, SIZE, SIZE)).astype(np.float32)


def patients(num_images: int, each: int = 2) -> np.ndarray:
    return np.array([f"p{number // each}" for number in range(num_images)])


def test_pointing_counts_the_hottest_pixel_and_shares_ties() -> None:
    heat = np.array([[[0, 3], [1, 0]], [[3, 3], [3, 3]], [[0, 0], [0, 0]], [[5, 0], [0, 5]]], dtype=np.float32)
    masks = np.array([[[0, 1], [0, 0]], [[1, 0], [0, 0]], [[1, 1], [1, 1]], [[0, 1], [1, 0]]], dtype=bool)
    assert pointing(heat, masks).tolist() == [1.0, 0.25, 0.0, 0.0]


def test_heat_inside_and_overlap_by_hand() -> None:
    heat = np.array([[[4, 3], [1, 0]], [[0, 0], [0, 0]]], dtype=np.float32)
    masks = np.array([[[1, 0], [1, 0]], [[1, 1], [0, 0]]], dtype=bool)
    np.testing.assert_allclose(heat_inside(heat, masks), [5 / 8, 0.0])
    np.testing.assert_allclose(overlap(heat, masks), [1 / 3, 0.0])


def test_scores_agree_with_a_slow_second_implementation() -> None:
    heat, masks = noise(6), lesions(6)
    for number, (one, inside) in enumerate(zip(heat, masks, strict=True)):
        pixels = sorted(
            ((float(one[r, c]), bool(inside[r, c])) for r in range(SIZE) for c in range(SIZE)), reverse=True
        )
        size = sum(is_in for _, is_in in pixels)
        hits = sum(is_in for _, is_in in pixels[:size])
        assert pointing(heat, masks)[number] == float(pixels[0][1])
        np.testing.assert_allclose(overlap(heat, masks)[number], hits / (2 * size - hits))
        share = sum(value for value, is_in in pixels if is_in) / sum(value for value, _ in pixels)
        np.testing.assert_allclose(heat_inside(heat, masks)[number], share, rtol=1e-5)


def test_rank_correlation_is_spearmans_with_ties() -> None:
    rng = np.random.default_rng(3)
    one = rng.integers(0, 5, (SIZE, SIZE)).astype(np.float32)
    other = one + rng.integers(0, 5, (SIZE, SIZE)).astype(np.float32)
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)
    assert rank_correlation(one, -one) == pytest.approx(-1.0)
    assert rank_correlation(one, np.zeros_like(one)) == 0.0


def test_maps_that_know_the_lesion_pass_and_carry_intervals_over_patients() -> None:
    masks = lesions(48)
    found = localise(masks + noise(48), noise(16, 2), masks, patients(48))
    assert found.passed
    assert found.pointing.value == 1.0
    assert found.pointing.low < 1.0
    assert found.inside.low < found.inside.value < found.inside.high
    assert (found.num_images, found.num_patients) == (48, 24)
    assert found.area == pytest.approx(masks.mean())
    wide = localise(masks + noise(48), noise(16, 2), masks, patients(48, each=8))
    assert wide.pointing.low < found.pointing.low, "fewer patients tell less"


def test_maps_that_know_nothing_do_not_pass() -> None:
    masks = lesions(48)
    assert not localise(noise(48), noise(16, 2), masks, patients(48)).passed
    assert not localise(np.zeros_like(noise(48)), noise(16, 2), masks, patients(48)).passed


def test_maps_that_only_know_where_lesions_usually_are_do_not_pass() -> None:
    masks = lesions(48, fixed=True)
    masks[::4] = lesions(12, 5)
    found = localise(lesions(48, fixed=True).astype(np.float32), noise(16, 2), masks, patients(48))
    assert found.pointing.value >= 0.75
    assert found.pointing.chance == pytest.approx(found.pointing.value, abs=0.03)
    assert not found.passed


def test_chance_never_looks_at_the_patients_own_lesion() -> None:
    masks = np.zeros((2, SIZE, SIZE), dtype=bool)
    masks[0, :4, :4] = masks[1, 12:20, 12:20] = True
    found = localise(masks.astype(np.float32), noise(2), masks, np.array(["a", "b"]))
    assert found.pointing.chance == pytest.approx(masks.mean())


def test_maps_that_training_did_not_change_do_not_pass() -> None:
    masks = lesions(48)
    heat = masks + 0.5 * noise(48)
    assert localise(heat, noise(16, 2), masks, patients(48)).passed
    found = localise(heat, heat[:16], masks, patients(48))
    assert found.randomised == pytest.approx(1.0)
    assert not found.passed


def test_pass_is_rare_where_maps_point_at_random() -> None:
    passes = sum(
        localise(noise(24, seed), noise(4, 999), lesions(24, seed), patients(24)).pointing.beats_chance
        for seed in range(100)
    )
    assert passes <= 5
