"""A film of any shape becomes the square that a model takes, and its content stays where it belongs."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cxr_experiments.config.compose import CONF_DIR, from_mapping, read_config, register
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.study_spec import StudySpec, arms_of, check_spec
from cxr_experiments.errors import ConfigError
from cxr_experiments.images.decode import decode_bytes, decode_reduced, encode_png
from cxr_experiments.images.prepare import RESIZES, prepare, prepare_bytes

register("schema", ExperimentConfig)


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


@pytest.mark.parametrize("resize", RESIZES)
@given(height=st.integers(16, 300), width=st.integers(16, 300))
@settings(max_examples=40, deadline=None)
def test_bars_and_what_is_cut_off_are_the_share_that_the_sides_say(resize: str, height: int, width: int) -> None:
    """docs/resize.md reckons with 1 - shorter / longer side for both."""
    film = np.full((height, width), 255, dtype=np.uint8)
    film[:: max(1, height - 1)] = film[:, :: max(1, width - 1)] = 254  # the outermost pixels
    square = prepare(film, size_px=max(height, width), resize=resize)[:, :, 0]
    share = 1 - min(film.shape) / max(film.shape)
    assert (square == 0).mean() == pytest.approx(share if resize == "pad" else 0.0, abs=1e-9)
    if resize == "crop":
        side = min(height, width)
        kept = prepare(film, size_px=side, resize="crop")[:, :, 0]
        assert 1 - kept.size / film.size == pytest.approx(share)


def film_like(height: int, width: int, seed: int) -> Image.Image:
    """Broad shapes, an edge and grain: what a film is made of, no film."""
    rng = np.random.default_rng(seed)
    broad = Image.fromarray(rng.integers(30, 220, (7, 9), dtype=np.uint8)).resize((width, height), 3)
    gray = np.asarray(broad, dtype=float) + rng.normal(0, 4, (height, width))
    gray[height // 3 :, width // 2 : width // 2 + max(2, width // 50)] += 60
    return Image.fromarray(gray.clip(0, 255).astype(np.uint8))


def as_jpeg(film: Image.Image, **options: object) -> bytes:
    held = BytesIO()
    film.save(held, format="JPEG", quality=90, **options)
    return held.getvalue()


@pytest.mark.parametrize("resize", RESIZES)
@given(height=st.integers(64, 1300), width=st.integers(64, 1300), size_px=st.sampled_from([32, 50, 64]))
@settings(max_examples=60, deadline=None)
def test_jpeg_decoded_at_a_fraction_becomes_the_same_square_within_a_gray_level(
    resize: str, height: int, width: int, size_px: int
) -> None:
    data = as_jpeg(film_like(height, width, seed=height * width))
    full = prepare(decode_bytes(data), size_px=size_px, resize=resize).astype(int)
    reduced = prepare_bytes(data, size_px=size_px, resize=resize).astype(int)
    assert np.abs(full - reduced).mean() <= 1.5
    assert abs((reduced - full).mean()) <= 0.5, "neither brighter nor darker"
    # not moved either: a step of one pixel to any side fits worse
    for axis in (0, 1):
        for step in (-1, 1):
            moved = np.roll(reduced, step, axis=axis)[2:-2, 2:-2]
            assert np.abs(full[2:-2, 2:-2] - moved).mean() >= np.abs(full - reduced)[2:-2, 2:-2].mean()


def test_jpeg_of_less_than_four_times_the_size_and_every_png_are_decoded_in_full() -> None:
    film, held = film_like(255, 300, seed=1), BytesIO()
    film.save(held, format="PNG")
    for data, size_px in ((as_jpeg(film), 64), (held.getvalue(), 16)):
        expected = prepare(decode_bytes(data), size_px=size_px, resize="squash")
        assert np.array_equal(prepare_bytes(data, size_px=size_px, resize="squash"), expected)


@pytest.mark.parametrize(("side_px", "reduction"), [(255, 1), (256, 2), (383, 2), (384, 4), (767, 4), (768, 8)])
def test_reduction_by_how_far_the_film_is_shrunk(side_px: int, reduction: int) -> None:
    film = decode_reduced(as_jpeg(film_like(side_px, side_px + 40, seed=2)), size_px=64, side=min)
    assert (film.height, film.width, film.reduction) == (side_px, side_px + 40, reduction)
    assert film.pixels.shape == (-(-side_px // reduction), -(-(side_px + 40) // reduction))


def test_jpeg_that_is_to_be_turned_is_decoded_in_full() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: a quarter turn
    data = as_jpeg(film_like(800, 1000, seed=3), exif=exif)
    film = decode_reduced(data, size_px=32, side=min)
    assert (film.height, film.width, film.reduction) == (1000, 800, 1)
    assert np.array_equal(film.pixels, decode_bytes(data))


STUDY = """\
question: Does it matter how an oblong film becomes square?
baseline:
  - data=folder
  - data.root={root}
  - data.classes=[WELL,ILL]
  - data.patient_regex='(p[0-9]+)'
  - data.image_size_px=32
  - augmentation=none
  - depth.filters=[8,16]
  - depth.convolutions=[1,1]
  - training.epochs=1
factors:
  data.resize: [pad, crop]
seeds: [0, 1, 2]
margin: 0.3
"""


def test_the_resize_rule_is_a_factor_like_any_other() -> None:
    spec = from_mapping({"factors": {"data.resize": ["pad", "crop"]}, "margin": 0.01}, StudySpec)
    check_spec(spec)
    arms = {arm.name: arm.overrides for arm in arms_of(spec)}
    assert arms == {"baseline": (), "pad": ("data.resize=pad",), "crop": ("data.resize=crop",)}
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        for name, overrides in arms.items():
            composed = compose("config", list(overrides), return_hydra_config=True)
            config = read_config(composed, ExperimentConfig)
            assert config.data.resize == {"baseline": "squash"}.get(name, name)


@pytest.mark.long
def test_a_study_plans_with_it_one_store_for_each_rule(tmp_path: Path, command: Command) -> None:
    films = np.random.default_rng(0).integers(1, 256, (60, 48, 64), dtype=np.uint8)
    for number, film in enumerate(films):
        path = tmp_path / "films" / ("WELL", "ILL")[number % 2] / f"p{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        encode_png(path, film)
    (tmp_path / "conf/study").mkdir(parents=True)
    (tmp_path / "conf/study/shapes.yaml").write_text(STUDY.replace("{root}", str(tmp_path / "films")))
    said = command(
        *("study", "study=shapes", "dry_run=true"),
        *(f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "tracking=disabled"),
        home=tmp_path,
    )
    assert said.status == 0, said.err
    for arm in ("pad", "crop"):
        assert f"{arm} changes the prepared films" in said.out
    stores = [path for path in (tmp_path / "runs/.stores").iterdir() if path.is_dir()]
    assert len(stores) == 3
