"""AugmentationConfig -> one function on a batch: one composed warp, then contrast and brightness.

Comes in: uint8 batches and a seed of two numbers.  Goes out: uint8 batches of the same shape.  Rotation, translation,
zoom, flip and crop are multiplied into one matrix, so that each pixel is interpolated once.  Everything is computed in
float32, then rounded, clipped and cast: a bare cast would wrap 260.0 to 4.  Stateless: the same seed gives the same
batch, eagerly and inside tf.data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from cxr_experiments.config.schema import AugmentationConfig

Augmentation = Callable[..., tf.Tensor]  # (images, seed) or (images, seed, side_px), see make_augmentation

# Row of the table of draws that each choice reads: switching one choice on leaves the draws of the others alone.
_ROTATION, _SHIFT_X, _SHIFT_Y, _ZOOM, _FLIP, _AREA, _ASPECT, _CROP_X, _CROP_Y, _CONTRAST, _BRIGHTNESS = range(11)


@dataclass(frozen=True)
class Warp:
    """What happens to the geometry of each image of a batch; every field is a float32 tensor (n,).

    rotation_radians turns counter-clockwise as seen; shift_x, shift_y move the picture right and down, in fractions of
    the side; scale > 1 magnifies; mirror is -1.0 or 1.0; crop_width, crop_height are fractions of the sides, in (0, 1],
    and crop_x, crop_y in [0, 1] place the crop between the left (top) border and the right (bottom) one.
    """

    rotation_radians: tf.Tensor
    shift_x: tf.Tensor
    shift_y: tf.Tensor
    scale: tf.Tensor
    mirror: tf.Tensor
    crop_width: tf.Tensor
    crop_height: tf.Tensor
    crop_x: tf.Tensor
    crop_y: tf.Tensor


def make_augmentation(config: AugmentationConfig) -> Augmentation:
    """The random change of one batch that `config` describes.

    Returns:
        A function (images (n, height, width, 1) uint8, seed (2,) int32, side_px) -> uint8 of the same shape, or
        (n, side_px, side_px, 1) with a scalar int32 instead of None: scaling is part of the warp.  When every range of
        `config` is empty and side_px is None it returns its argument itself.
    """
    warps, shades = _changes_geometry(config), config.contrast_fraction > 0 or config.brightness_fraction > 0

    def augment(images: tf.Tensor, seed: tf.Tensor, side_px: tf.Tensor | None = None) -> tf.Tensor:
        if side_px is None and not warps and not shades:
            return images
        draws = tf.random.stateless_uniform((11, tf.shape(images)[0]), seed, alg="philox")
        changed = tf.cast(images, tf.float32)
        if warps or side_px is not None:
            changed = apply_warp(changed, _draw_warp(config, draws), fill_mode=config.fill_mode, side_px=side_px)
        if shades:
            contrast = _between(draws[_CONTRAST], 1 - config.contrast_fraction, 1 + config.contrast_fraction)
            brightness = _between(draws[_BRIGHTNESS], -config.brightness_fraction, config.brightness_fraction)
            changed = shade(changed, contrast, 255 * brightness)
        changed = tf.cast(tf.clip_by_value(tf.round(changed), 0.0, 255.0), tf.uint8)
        return tf.ensure_shape(changed, images.shape if side_px is None else (images.shape[0], None, None, 1))

    return augment


def apply_warp(images: tf.Tensor, warp: Warp, *, fill_mode: str, side_px: tf.Tensor | None = None) -> tf.Tensor:
    """The images after `warp`, bilinear, float32 (n, height, width, 1) in the range of the input.

    Args:
        images: (n, height, width, 1) float32.
        warp: One entry per image.
        fill_mode: What stands outside the film: `constant` (black), `nearest` or `reflect`.
        side_px: Scalar int32; the result is (n, side_px, side_px, 1), scaled within the same interpolation.  At half
            the side each pixel is the mean of four; below that bilinear reading leaves some out.
    """
    shape = tf.shape(images)[1:3]
    sides = tf.cast(shape, tf.float32)
    matrices = warp_matrices(warp, sides[0], sides[1])
    if side_px is not None:
        shape = tf.stack([side_px, side_px])
        matrices = _from_smaller(matrices, sides / tf.cast(shape, tf.float32))
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=matrices,
        output_shape=shape,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill_mode.upper(),
    )


def warp_matrices(warp: Warp, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Rows (a0, a1, a2, b0, b1, b2, 0, 0) that send an output pixel (x, y) to the input pixel it is read from.

    The picture is cropped and mirrored, scaled, turned about its middle, then shifted; read backwards from the output
    pixel p: source = crop middle + (mirror, 1) * crop * R(-rotation) (p - middle - shift) / scale.

    Args:
        warp: (n,) per field.
        height, width: Scalars, float32, pixels.

    Returns:
        (n, 8) float32.
    """
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    cos, sin = tf.cos(warp.rotation_radians) / warp.scale, tf.sin(warp.rotation_radians) / warp.scale
    # y points down, so a turn that is counter-clockwise to the eye reads backwards with +sin in the second row's x
    across_x, across_y = warp.mirror * warp.crop_width * cos, -warp.mirror * warp.crop_width * sin
    down_x, down_y = warp.crop_height * sin, warp.crop_height * cos
    crop_middle_x = middle_x + (warp.crop_x - 0.5) * (1 - warp.crop_width) * width
    crop_middle_y = middle_y + (warp.crop_y - 0.5) * (1 - warp.crop_height) * height
    from_x, from_y = middle_x + warp.shift_x * width, middle_y + warp.shift_y * height
    offset_x = crop_middle_x - across_x * from_x - across_y * from_y
    offset_y = crop_middle_y - down_x * from_x - down_y * from_y
    zero = tf.zeros_like(cos)
    return tf.stack([across_x, across_y, offset_x, down_x, down_y, offset_y, zero, zero], axis=1)


def _from_smaller(matrices: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Warp matrices (n, 8) for an output grid whose pixels are `scale` (height, width) times as large.

    The middle of small pixel x lies at (x + 1/2) scale - 1/2 of the large grid.
    """
    a0, a1, a2, b0, b1, b2, c0, c1 = tf.unstack(matrices, axis=1)
    down, across = scale[0], scale[1]
    offset_x, offset_y = (across - 1) / 2, (down - 1) / 2
    a2, b2 = a2 + a0 * offset_x + a1 * offset_y, b2 + b0 * offset_x + b1 * offset_y
    return tf.stack([a0 * across, a1 * down, a2, b0 * across, b1 * down, b2, c0, c1], axis=1)


def shade(images: tf.Tensor, contrast: tf.Tensor, brightness: tf.Tensor) -> tf.Tensor:
    """Each image times `contrast` about its own mean, plus `brightness` gray levels; neither rounded nor clipped.

    Args:
        images: (n, height, width, 1) float32 in [0, 255].
        contrast: (n,) float32 factors.
        brightness: (n,) float32 gray levels.
    """
    contrast = contrast[:, None, None, None]
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    return images * contrast + (mean * (1 - contrast) + brightness[:, None, None, None])


def _changes_geometry(config: AugmentationConfig) -> bool:
    moves = (config.rotation_degrees, config.translation_fraction, config.zoom_fraction)
    crops = (*config.crop_area, *config.crop_aspect) != (1.0, 1.0, 1.0, 1.0)
    return any(move > 0 for move in moves) or config.horizontal_flip or crops


def _draw_warp(config: AugmentationConfig, draws: tf.Tensor) -> Warp:
    """The warp that the table of draws (11, n) in [0, 1) gives under `config`."""
    turn, shift, zoom = math.radians(config.rotation_degrees), config.translation_fraction, config.zoom_fraction
    area = _between(draws[_AREA], *config.crop_area)
    # logarithm: a crop twice as wide as high is as likely as one twice as high as wide
    aspect = tf.exp(_between(draws[_ASPECT], math.log(config.crop_aspect[0]), math.log(config.crop_aspect[1])))
    flipped = draws[_FLIP] < (0.5 if config.horizontal_flip else 0.0)
    return Warp(
        rotation_radians=_between(draws[_ROTATION], -turn, turn),
        shift_x=_between(draws[_SHIFT_X], -shift, shift),
        shift_y=_between(draws[_SHIFT_Y], -shift, shift),
        scale=_between(draws[_ZOOM], 1 - zoom, 1 + zoom),
        mirror=tf.where(flipped, -1.0, 1.0),
        crop_width=tf.minimum(tf.sqrt(area * aspect), 1.0),
        crop_height=tf.minimum(tf.sqrt(area / aspect), 1.0),
        crop_x=draws[_CROP_X],
        crop_y=draws[_CROP_Y],
    )


def _between(draws: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """Uniform draws in [0, 1) stretched to [low, high)."""
    return low + draws * (high - low)
