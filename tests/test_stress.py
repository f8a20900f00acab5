"""Stress validation: each declared change against what its one line promises, computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from cxr_experiments.images.stress import CHANGES, stress

SIDE = 100


def changed(film: NDArray[np.uint8], change: str) -> NDArray[np.float64]:
    return stress(film[np.newaxis, ..., np.newaxis], change)[0, ..., 0].astype(np.float64)


def noise(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)


def spot(x: int, y: int) -> NDArray[np.uint8]:
    film = np.zeros((SIDE, SIDE), np.uint8)
    film[y - 1 : y + 2, x - 1 : x + 2] = 255
    return film


def centre_of(film: NDArray[np.float64]) -> tuple[float, float]:
    rows, columns = np.mgrid[: len(film), : len(film)]
    return float((film * columns).sum() / film.sum()), float((film * rows).sum() / film.sum())


def test_shift_is_8_px_right_and_6_up_and_black_follows() -> None:
    film = noise(0)
    moved = changed(film, "shift")
    assert np.array_equal(moved[:94, 8:], film[6:, :92])
    assert moved[94:].max() == moved[:, :8].max() == 0


def test_framing_keeps_85_of_100_px_from_column_3_75_and_row_11_25_on() -> None:
    """On a ramp every pixel tells where it came from: its centre lies at 0.85 times itself plus the corner."""
    ramp = np.tile(2 * np.arange(SIDE, dtype=np.uint8), (SIDE, 1))
    came_from = 0.85 * (np.arange(SIDE) + 0.5) + np.array([[3.75], [11.25]]) - 0.5
    assert changed(ramp, "framing")[50] == pytest.approx(2 * came_from[0], abs=1)
    assert changed(ramp.T.copy(), "framing")[:, 50] == pytest.approx(2 * came_from[1], abs=1)


def test_rotation_turns_8_degrees_counter_clockwise_about_the_centre() -> None:
    """A spot 30 px right of the centre rises by 30 sin 8 degrees (rows count downwards)."""
    x, y = centre_of(changed(spot(80, 50), "rotation"))
    radius, start = math.hypot(80.5 - 50, 50.5 - 50), math.atan2(-(50.5 - 50), 80.5 - 50)
    assert x == pytest.approx(49.5 + radius * math.cos(start + math.radians(8)), abs=0.1)
    assert y == pytest.approx(49.5 - radius * math.sin(start + math.radians(8)), abs=0.1)


def test_exposure_and_contrast_are_their_formulas() -> None:
    film = np.repeat(np.array([[100, 200]], np.uint8), SIDE // 2, 1).repeat(SIDE, 0)
    assert set(np.unique(changed(film, "exposure"))) == {145.0, 220.0}  # 255 (100/255)^0.6, 255 (200/255)^0.6
    assert set(np.unique(changed(film, "contrast"))) == {120.0, 180.0}  # 150 -+ 0.6 * 50


def test_blur_spreads_by_its_standard_deviation_and_keeps_the_mean() -> None:
    edge = np.zeros((SIDE, SIDE), np.uint8)
    edge[:, 50:] = 200
    blurred = changed(edge, "blur")
    spread = np.diff(blurred[50])  # of an edge: the kernel itself
    at = np.arange(len(spread))
    middle = (spread * at).sum() / spread.sum()
    assert np.sqrt((spread * (at - middle) ** 2).sum() / spread.sum()) == pytest.approx(1.2, rel=0.1)
    assert blurred.mean() == pytest.approx(edge.mean(), abs=1)


def test_noise_has_its_standard_deviation_and_depends_on_the_film_alone() -> None:
    film = np.full((200, 200), 128, np.uint8)
    assert (changed(film, "noise") - 128).std() == pytest.approx(15, rel=0.02)
    assert (changed(film[:100, :100], "noise") - 128).std() == pytest.approx(7.5, rel=0.05)  # at half the side
    other = noise(1)
    together = stress(np.stack([other, noise(2)])[..., np.newaxis], "noise")
    assert np.array_equal(together[0, ..., 0], changed(other, "noise"))


def test_jpeg_changes_a_film_as_a_low_quality_does() -> None:
    film = noise(3)
    error = np.abs(changed(film, "jpeg") - film)
    assert 20 < error.mean() < 60  # noise is what JPEG cannot keep
    flat = np.full((SIDE, SIDE), 128, np.uint8)
    assert np.array_equal(changed(flat, "jpeg"), flat)


@pytest.mark.parametrize("change", CHANGES)
def test_change_keeps_the_shape_leaves_its_input_and_repeats(change: str) -> None:
    films = np.stack([noise(4), noise(5)])[..., np.newaxis]
    before = films.copy()
    first = stress(films, change)
    assert (first.shape, first.dtype) == (films.shape, np.uint8)
    assert np.array_equal(films, before)
    assert np.array_equal(first, stress(films, change))
    assert not np.array_equal(first, films)
