"""Augmentation: identity, direction and amount of each change, range, and its seed, eagerly and inside tf.data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import AugmentationConfig
from cxr_experiments.learning.augmentation import Warp, apply_warp, make_augmentation, shade

STILL = AugmentationConfig(
    rotation_degrees=0.0, translation_fraction=0.0, zoom_fraction=0.0, contrast_fraction=0.0, brightness_fraction=0.0
)
CHOICES = {
    "no_flip": AugmentationConfig(),
    "flip": AugmentationConfig(horizontal_flip=True),
    "crop": AugmentationConfig(crop_area=(0.5, 1.0), crop_aspect=(0.75, 1.33), brightness_fraction=0.1),
    "strong": AugmentationConfig(rotation_degrees=20, zoom_fraction=0.3, contrast_fraction=0.4, fill_mode="nearest"),
}


def noise(num_images: int = 4, height: int = 24, width: int = 24) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (num_images, height, width, 1), dtype=np.uint8)


def seed(number: int = 0) -> tf.Tensor:
    return tf.constant([7, number], tf.int32)


def still_warp(num_images: int, **changed: float) -> Warp:
    """A warp that moves nothing but what is named."""
    values = {
        "rotation_radians": 0.0, "shift_x": 0.0, "shift_y": 0.0, "scale": 1.0, "mirror": 1.0,
        "crop_width": 1.0, "crop_height": 1.0, "crop_x": 0.5, "crop_y": 0.5, **changed,
    }  # fmt: skip
    return Warp(**{name: tf.fill([num_images], float(value)) for name, value in values.items()})


def warped(images: NDArray[np.uint8], fill_mode: str = "constant", **changed: float) -> NDArray[np.float32]:
    result = apply_warp(tf.cast(images, tf.float32), still_warp(len(images), **changed), fill_mode=fill_mode)
    return np.asarray(result.numpy())


def varied(config: AugmentationConfig, images: NDArray[np.uint8], number: int = 0) -> NDArray[np.uint8]:
    return np.asarray(make_augmentation(config)(tf.constant(images), seed(number)).numpy())


def test_empty_ranges_change_nothing_and_cost_no_operation() -> None:
    images = tf.constant(noise())
    assert make_augmentation(STILL)(images, seed()) is images


def test_still_warp_gives_every_pixel_back() -> None:
    images = noise(height=20, width=30)
    assert np.array_equal(warped(images), images)


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_rotation_turns_counter_clockwise_as_rot90_does(quarter_turns: int) -> None:
    images = noise()
    turned = warped(images, rotation_radians=quarter_turns * math.pi / 2)
    assert np.abs(turned - np.rot90(images, quarter_turns, axes=(1, 2))).max() <= 1


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 5), (-4, 2)])
def test_translation_moves_right_and_down_by_whole_pixels_and_leaves_black(right: int, down: int) -> None:
    images, side = noise(), 24
    expected = np.zeros_like(images)
    rows, columns = slice(max(down, 0), side + min(down, 0)), slice(max(right, 0), side + min(right, 0))
    source_rows, source_columns = (
        slice(max(-down, 0), side + min(-down, 0)),
        slice(max(-right, 0), side + min(-right, 0)),
    )
    expected[:, rows, columns] = images[:, source_rows, source_columns]
    assert np.abs(warped(images, shift_x=right / side, shift_y=down / side) - expected).max() <= 1


def test_half_the_side_is_the_mean_of_four_pixels_and_keeps_the_places() -> None:
    images = noise(height=20, width=20)
    small = make_augmentation(STILL)(tf.constant(images), seed(), tf.constant(10)).numpy()
    means = images.reshape(4, 10, 2, 10, 2, 1).astype(float).mean(axis=(2, 4))
    assert small.dtype == np.uint8
    assert np.abs(small - means).max() <= 0.5


def test_smaller_output_shows_the_same_warp() -> None:
    """A smooth picture, turned and moved at full size and scaled, or both at once."""
    across = np.linspace(0, 200, 32)
    picture = np.sqrt(np.outer(across, across)).astype(np.uint8)[None, :, :, None]
    warp = still_warp(1, rotation_radians=0.3, shift_x=0.05, scale=1.3, crop_width=0.8, crop_x=0.7)
    whole = apply_warp(tf.cast(picture, tf.float32), warp, fill_mode="nearest")
    once = apply_warp(tf.cast(picture, tf.float32), warp, fill_mode="nearest", side_px=tf.constant(16))
    assert np.abs(once.numpy() - tf.nn.avg_pool2d(whole, 2, 2, "VALID").numpy()).max() < 3.0


def test_mirror_is_the_picture_reversed_left_to_right() -> None:
    images = noise()
    assert np.array_equal(warped(images, mirror=-1.0), images[:, :, ::-1])


def test_scale_magnifies_about_the_middle() -> None:
    images = np.zeros((1, 41, 41, 1), np.uint8)
    images[0, 20, 30] = 255  # ten pixels right of the middle
    twice = warped(images, scale=2.0)[0, :, :, 0]
    assert np.unravel_index(twice.argmax(), twice.shape) == (20, 40)


def test_crop_shows_its_part_of_the_film_filling_the_frame() -> None:
    images = np.zeros((1, 40, 40, 1), np.uint8)
    images[0, :20, 20:] = 200  # the upper right quarter
    quarter = warped(images, fill_mode="nearest", crop_width=0.5, crop_height=0.5, crop_x=1.0, crop_y=0.0)
    assert (quarter[0, 1:-1, 1:] == 200).all()


def test_order_is_flip_then_scale_then_turn_then_shift() -> None:
    images = np.zeros((1, 41, 41, 1), np.uint8)
    images[0, 20, 25] = 255  # (5, 0) right of the middle; mirrored (-5, 0); doubled (-10, 0); turned (0, 10) down
    warp = {"mirror": -1.0, "scale": 2.0, "rotation_radians": math.pi / 2, "shift_x": 3 / 41, "shift_y": -4 / 41}
    moved = warped(images, **warp)[0, :, :, 0]
    assert np.unravel_index(moved.argmax(), moved.shape) == (20 + 10 - 4, 20 + 3)


@pytest.mark.parametrize(("fill_mode", "edge"), [("constant", 0), ("nearest", 10), ("reflect", 30)])
def test_fill_mode_says_what_stands_outside_the_film(fill_mode: str, edge: int) -> None:
    ramp = np.broadcast_to((10 * np.arange(1, 9, dtype=np.uint8))[None, None, :, None], (1, 8, 8, 1))
    assert warped(ramp, fill_mode=fill_mode, shift_x=3 / 8)[0, 4, 0, 0] == pytest.approx(edge, abs=0.01)


def test_contrast_spreads_about_the_image_s_own_mean_and_brightness_adds() -> None:
    images = tf.constant([[[[90.0], [110.0]]], [[[10.0], [30.0]]]])
    changed = shade(images, tf.constant([2.0, 0.5]), tf.constant([0.0, 7.0])).numpy()
    assert changed[:, 0, :, 0].tolist() == [[80.0, 120.0], [22.0, 32.0]]


def test_bright_images_are_clipped_not_wrapped() -> None:
    config = AugmentationConfig(0.0, 0.0, 0.0, contrast_fraction=0.0, brightness_fraction=0.5)
    white, black = np.full((64, 8, 8, 1), 255, np.uint8), np.zeros((64, 8, 8, 1), np.uint8)
    brighter, darker = varied(config, white), varied(config, black)
    raised = brighter[:, 0, 0, 0] == 255
    # the same draws: what is raised from white is what is raised from black
    assert 10 < raised.sum() < 54
    assert (darker[raised] < 128).all()
    assert (darker[~raised] == 0).all()
    assert (brighter[~raised] >= 127).all()


def test_values_are_rounded_to_the_nearest_level() -> None:
    """Against the same shading in NumPy, from the table of draws that the seed gives (row 9 is contrast)."""
    images = noise(16)
    factors = 0.5 + np.asarray(tf.random.stateless_uniform((11, 16), seed(), alg="philox"))[9].astype(np.float64)
    means = images.mean(axis=(1, 2, 3))[:, None, None, None]
    exact = (images - means) * factors[:, None, None, None] + means
    changed = varied(AugmentationConfig(0.0, 0.0, 0.0, contrast_fraction=0.5), images)
    assert np.abs(changed - np.clip(exact, 0, 255)).max() < 0.5 + 1e-3


@pytest.mark.parametrize("choice", list(CHOICES))
def test_every_choice_keeps_shape_and_type_and_changes_the_batch(choice: str) -> None:
    images = noise()
    changed = varied(CHOICES[choice], images)
    assert changed.shape == images.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, images)


@pytest.mark.parametrize("choice", list(CHOICES))
def test_same_seed_gives_the_same_batch_eagerly_and_inside_tf_data(choice: str) -> None:
    images, augment = noise(), make_augmentation(CHOICES[choice])
    eager = [augment(tf.constant(images), seed(number)).numpy() for number in range(3)]
    numbers = tf.data.Dataset.range(3)
    inside = numbers.map(
        lambda number: augment(tf.constant(images), tf.stack([7, tf.cast(number, tf.int32)])), num_parallel_calls=2
    )
    assert inside.element_spec.shape == images.shape
    for one, two in zip(eager, inside.as_numpy_iterator(), strict=True):
        assert np.array_equal(one, two)
    assert not np.array_equal(eager[0], eager[1])


def test_images_of_a_batch_are_changed_each_in_its_own_way() -> None:
    same = np.repeat(noise(1), 4, axis=0)
    changed = varied(AugmentationConfig(), same)
    assert len({image.tobytes() for image in changed}) == 4


def test_images_are_mirrored_only_when_asked() -> None:
    ramp = np.broadcast_to(np.arange(0, 240, 10, dtype=np.uint8)[None, None, :, None], (64, 24, 24, 1))
    slopes = {
        flip: varied(AugmentationConfig(horizontal_flip=flip), ramp).astype(float)[:, 12, 16, 0]
        - varied(AugmentationConfig(horizontal_flip=flip), ramp).astype(float)[:, 12, 8, 0]
        for flip in (False, True)
    }
    assert (slopes[False] > 0).all()
    assert 16 < (slopes[True] < 0).sum() < 48


def test_flip_leaves_the_other_draws_alone() -> None:
    plain, flipped = (varied(AugmentationConfig(horizontal_flip=flip), noise(32)) for flip in (False, True))
    kept = [bool(np.array_equal(one, two)) for one, two in zip(plain, flipped, strict=True)]
    assert 8 < sum(kept) < 24


def test_drawn_rotation_stays_within_its_range_and_uses_it() -> None:
    config = AugmentationConfig(10.0, 0.0, 0.0, contrast_fraction=0.0)
    images = np.zeros((200, 101, 101, 1), np.uint8)
    images[:, 50, 90] = 255  # forty pixels right of the middle
    rows = varied(config, images).reshape(200, -1).argmax(axis=1) // 101
    angles = np.degrees(np.arcsin((50 - rows) / 40))
    assert np.abs(angles).max() < 11
    assert angles.max() > 8
    assert angles.min() < -8


def test_random_crop_keeps_between_the_areas_asked_for() -> None:
    """A horizontal and a vertical ramp: their slopes tell width and height of what is seen."""
    config = AugmentationConfig(0.0, 0.0, 0.0, crop_area=(0.3, 0.6), crop_aspect=(0.8, 1.25), contrast_fraction=0.0)
    across = np.broadcast_to(np.arange(100, dtype=np.uint8)[None, None, :, None], (64, 100, 100, 1))
    seen_across = varied(config, across)[..., 0].astype(float)
    seen_down = varied(config, across.transpose(0, 2, 1, 3))[..., 0].astype(float)
    widths = (seen_across[:, 50, 99] - seen_across[:, 50, 0]) / 99
    heights = (seen_down[:, 99, 50] - seen_down[:, 0, 50]) / 99
    areas, aspects = widths * heights, widths / heights
    assert areas.min() > 0.3 - 0.03
    assert areas.max() < 0.6 + 0.03
    assert aspects.min() > 0.8 - 0.05
    assert aspects.max() < 1.25 + 0.05
    assert areas.max() - areas.min() > 0.2
