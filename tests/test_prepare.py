"""A film of any shape becomes the square that a model takes, and its content stays where it belongs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_experiments.errors import ConfigError
from cxr_experiments.images.prepare import RESIZES, prepare


@pytest.mark.parametrize("resize", RESIZES)
@given(height=st.integers(16, 300), width=st.integers(16, 300), size_px=st.integers(16, 64))
@settings(max_examples=40, deadline=None)
def test_any_film_becomes_a_square_of_its_own_gray(resize: str, height: int, width: int, size_px: int) -> None:
    square = prepare(np.full((height, width), 137, dtype=np.uint8), size_px=size_px, resize=resize)
    assert (square.shape, square.dtype) == ((size_px, size_px, 1), np.uint8)
    allowed = {0, 137} if resize == "pad" else {137}
    assert set(np.unique(square)) <= allowed
    assert 137 in square


@pytest.mark.parametrize("resize", RESIZES)
def test_a_film_of_the_right_size_is_untouched(resize: str) -> None:
    film = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    assert np.array_equal(prepare(film, size_px=32, resize=resize)[:, :, 0], film)


def test_squash_uses_the_whole_film() -> None:
    film = np.zeros((100, 200), dtype=np.uint8)
    film[:, :100] = 255
    square = prepare(film, size_px=50, resize="squash")[:, :, 0]
    assert (square[:, :24] == 255).all()
    assert (square[:, 26:] == 0).all()


def test_pad_keeps_the_aspect_ratio_between_equal_black_bars() -> None:
    tall = prepare(np.full((200, 100), 255, dtype=np.uint8), size_px=50, resize="pad")[:, :, 0]
    columns = np.flatnonzero(tall.all(axis=0))
    assert (columns[0], columns[-1]) == (12, 36)
    assert tall.sum() == 255 * 50 * 25
    wide = prepare(np.full((100, 200), 255, dtype=np.uint8), size_px=50, resize="pad")[:, :, 0]
    assert np.array_equal(wide, tall.T)


def test_crop_keeps_the_centre_and_drops_the_ends() -> None:
    film = np.zeros((100, 300), dtype=np.uint8)
    film[:, 100:200] = 200
    assert (prepare(film, size_px=50, resize="crop") == 200).all()
    assert (prepare(film.T, size_px=50, resize="crop") == 200).all()


def test_shrinking_is_anti_aliased() -> None:
    checkerboard = (np.indices((400, 400)).sum(axis=0) % 2 * 255).astype(np.uint8)
    square = prepare(checkerboard, size_px=100, resize="squash")
    assert np.abs(square.astype(int) - 127).max() <= 2, "picking single pixels would give 0 and 255"


def test_an_unknown_word_names_those_allowed() -> None:
    with pytest.raises(ConfigError, match=r"data\.resize=stretch is unknown; it is one of squash, pad, crop"):
        prepare(np.zeros((20, 20), dtype=np.uint8), size_px=20, resize="stretch")
