"""`pipeline=keras_directory`, the reference route: the split's files linked into train|val/CLASS, read by Keras.

Comes in: manifest and split.  Goes out: batches like `pipeline`'s, of the same files, cached in memory.  It exists to
be compared with, and does not feed `evaluate`.

Keras resizes without anti-aliasing, so pixels differ from the store's.  Measured in gray levels at 200 px, squash: 2.3
on average over full-size originals (4.2 in the worst image, 197 in the worst pixel), 0.6 over copies of 224 px (0.7,
33).  crop is as near; pad, which Keras lays out a little differently, 3.4 on average over originals.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf
from filelock import FileLock

from cxr_experiments.config.schema import DataConfig, ExperimentConfig
from cxr_experiments.config.seeds import Seeds, derive
from cxr_experiments.images.decode import encode_png
from cxr_experiments.images.manifest import ImageRow, Manifest, load_pixels, num_cores
from cxr_experiments.images.splits import Split
from cxr_experiments.learning.augmentation import Augmentation
from cxr_experiments.learning.tf_data import NUM_BATCHES, ready_ahead, without_autograph


def link_split(manifest: Manifest, split: Split, data: DataConfig, folder: Path) -> Path:
    """A tree train|val/CLASS of links to the split's files, made once; test is left out.

    Where the system cannot link, files are copied; phantoms are written as PNG.  Names begin with the row number, so
    that sorted names are manifest order.  The tree appears under its final name when it is whole.

    Returns:
        folder/<key>, the key being of the manifest, where its files lie, and the split.
    """
    key = hashlib.sha256(f"{manifest.digest} {manifest.root} {split.digest}".encode()).hexdigest()[:16]
    place, partial = folder / key, folder / f"{key}.partial"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):
        if place.is_dir():
            return place
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        for side, rows in (("train", split.train), ("val", split.val)):
            for name in manifest.classes:
                (partial / side / name).mkdir(parents=True)
            for number in rows.tolist():
                row = manifest.rows[number]
                _place_file(row, manifest, data, partial / side / manifest.classes[row.label] / f"{number:07d}")
        partial.rename(place)
    return place


def directory_batches(
    linked: Path, classes: tuple[str, str], config: ExperimentConfig, seeds: Seeds, augment: Augmentation
) -> tuple[Callable[[int], tf.data.Dataset], tf.data.Dataset]:
    """(train over all epochs from one on, val in one pass): load, cache, shuffle, rebatch, augment, prefetch.

    Each element is (images (b, size, size, 1) uint8, labels (b, 1) float32).
    """
    batch_size, num_epochs = config.training.batch_size, config.training.epochs
    train = load_directory(linked / "train", classes, config.data).cache()
    num_train = len(train)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        # The seed of this function's graph: else the shuffle would mix in the process-wide seed of an earlier training.
        tf.random.set_seed(1 + derive(seeds.order, "graph"))
        return train.shuffle(num_train, seed=seeds.order + epoch, reshuffle_each_iteration=False).batch(batch_size)

    @without_autograph
    def augmented(step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        seed = tf.stack([tf.constant(seeds.augmentation, tf.int32), tf.cast(step, tf.int32)])
        return augment(batch[0], seed), batch[1]

    def train_from(epoch: int) -> tf.data.Dataset:
        first_step = epoch * math.ceil(num_train / batch_size)
        batches = tf.data.Dataset.range(epoch, num_epochs).flat_map(one_epoch).enumerate(start=first_step)
        return ready_ahead(batches.map(augmented, num_parallel_calls=NUM_BATCHES))

    val = load_directory(linked / "val", classes, config.data).cache().batch(batch_size)
    return train_from, ready_ahead(val)


def load_directory(folder: Path, classes: tuple[str, str], data: DataConfig) -> tf.data.Dataset:
    """Keras' reading of one side, image by image in name order: ((size, size, 1) uint8, (1,) float32)."""
    images = keras.utils.image_dataset_from_directory(
        folder,
        label_mode="binary",
        class_names=list(classes),
        color_mode="grayscale",
        batch_size=None,
        image_size=(data.image_size_px, data.image_size_px),
        shuffle=False,
        crop_to_aspect_ratio=data.resize == "crop",
        pad_to_aspect_ratio=data.resize == "pad",
        verbose=False,
    )

    @without_autograph
    def to_uint8(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        gray = tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)
        return gray, tf.reshape(tf.cast(label, tf.float32), (1,))

    return images.map(to_uint8, num_parallel_calls=num_cores())


def _place_file(row: ImageRow, manifest: Manifest, data: DataConfig, stem: Path) -> None:
    """One image under `stem` + suffix: a link, else a copy; a phantom is written."""
    if not row.path:
        encode_png(stem.with_suffix(".png"), load_pixels(row, manifest, data))
        return
    target = stem.with_suffix(Path(row.path).suffix.lower())
    try:
        os.symlink(row.path, target)
    except OSError:
        shutil.copyfile(row.path, target)
