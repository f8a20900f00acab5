"""Store + split -> tf.data batches: the one input route of every run.

Comes in: the memory-mapped uint8 images, row numbers, seeds.  Goes out: (images (b, size, size, 1) uint8, labels (b, 1)
float32) batches.  Everything about a training step (which images, which augmentation) is a pure function of the seeds
and the step number, so training can begin at any step, and a second run in the same process sees the same batches.
Pages of the store are read batch by batch and never held.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.seeds import Seeds
from cxr_experiments.errors import ConfigError
from cxr_experiments.images.splits import Split
from cxr_experiments.images.store import Store
from cxr_experiments.learning.augmentation import Augmentation, make_augmentation
from cxr_experiments.learning.devices import check_last_batch, num_replicas, validation_batch_size
from cxr_experiments.learning.keras_directory import directory_batches, link_split
from cxr_experiments.learning.tf_data import NUM_BATCHES, ready_ahead, without_autograph


@dataclass(frozen=True)
class Source:
    """Images to draw batches from: images (n, size, size, 1) uint8, labels (n,) 0 or 1, indices (k,) rows in use."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int8]
    indices: NDArray[np.int64]


@dataclass(frozen=True)
class Pipeline:
    """What `trainer` reads: `train_from` gives the batches of all epochs from one on, `val` is one pass in order."""

    train_from: Callable[[int], tf.data.Dataset]
    val: tf.data.Dataset
    steps_per_epoch: int
    num_train: int
    num_val: int
    class_counts: tuple[int, int]  # training images labelled 0, labelled 1
    as_used: tf.data.Dataset | None = (
        None  # batch_norm=precise: whole batches of training images as validation sees them
    )

    @property
    def train(self) -> tf.data.Dataset:
        """The batches of all epochs."""
        return self.train_from(0)


def make_pipeline(config: ExperimentConfig, store: Store, split: Split, seeds: Seeds, folder: Path) -> Pipeline:
    """The batches of a run by the route that `pipeline.kind` names.

    Args:
        config: Checked configuration; `pipeline`, `augmentation`, `imbalance`, `training`, `data` are read.
        store: The prepared images.
        split: Rows of train and val; test is not touched.
        seeds: `order` and `augmentation` are read.
        folder: Where `pipeline=keras_directory` keeps its links; nothing is written there otherwise.

    Raises:
        ConfigError: `imbalance=balanced` with one class alone, or with the keras_directory route; a batch that cannot
            be shared by the devices.
    """
    labels = store.manifest.labels
    batch_size, augment = config.training.batch_size, make_augmentation(config.augmentation)
    steps_per_epoch = math.ceil(len(split.train) / batch_size)
    if config.pipeline.kind == "store":
        source = Source(store.images, labels, split.train)
        epoch_order(labels, split.train, seed=seeds.order, epoch=0, imbalance=config.imbalance.kind)  # told here, if so
        train_from = _batches_from(source, config, seeds, augment)
        devices = num_replicas(config.training)
        check_last_batch(len(split.train), batch_size, devices)
        val_batch_size = validation_batch_size(len(split.val), batch_size, devices)
        val = evaluation_batches(store.images, labels, split.val, val_batch_size)
    else:
        if config.imbalance.kind == "balanced":
            raise ConfigError(
                "imbalance=balanced is not possible with pipeline=keras_directory, which reads each file once per "
                "epoch: use pipeline=store, or imbalance=class_weight"
            )
        linked = link_split(store.manifest, split, config.data, folder)
        train_from, val = directory_batches(linked, store.manifest.classes, config, seeds, augment)
    positives = int(labels[split.train].sum())
    measured = rows_to_measure(split.train, config, seeds) if config.batch_norm.kind == "precise" else None
    return Pipeline(
        train_from=train_from,
        val=val,
        steps_per_epoch=steps_per_epoch,
        num_train=len(split.train),
        num_val=len(split.val),
        class_counts=(len(split.train) - positives, positives),
        as_used=None if measured is None else evaluation_batches(store.images, labels, measured, batch_size),
    )


def epoch_order(
    labels: NDArray[np.int8], indices: NDArray[np.int64], *, seed: int, epoch: int, imbalance: str
) -> NDArray[np.int64]:
    """The rows of one epoch, in order: a pure function of its arguments.

    Args:
        labels: (n,) 0 or 1.
        indices: (k,) rows to draw from.
        seed: The run's order seed.
        epoch: 0-based.
        imbalance: `balanced` draws both classes equally often, k rows in all: of the rarer class some rows come once
            more than others, of the other class a different part is left out each epoch.  Anything else takes each
            row once.

    Returns:
        (k,) rows.

    Raises:
        ConfigError: `balanced` and one class has no row.
    """
    generator = np.random.default_rng([seed, epoch])
    if imbalance != "balanced":
        return generator.permutation(indices)
    groups = [indices[labels[indices] == label] for label in (0, 1)]
    if min(len(group) for group in groups) == 0:
        raise ConfigError("imbalance=balanced needs training images of both classes, and one class has none")
    # an odd epoch gives its last image to either class in turn
    num_positive = (len(indices) + epoch % 2) // 2
    sizes = (len(indices) - num_positive, num_positive)
    drawn = [_draw_evenly(group, size, generator) for group, size in zip(groups, sizes, strict=True)]
    return generator.permutation(np.concatenate(drawn))


def rows_to_measure(indices: NDArray[np.int64], config: ExperimentConfig, seeds: Seeds) -> NDArray[np.int64]:
    """Training rows that batch_norm=precise measures: `num_images` drawn once a run, less what fills no batch."""
    num_images, batch_size = min(config.batch_norm.num_images, len(indices)), config.training.batch_size
    drawn = np.random.default_rng([seeds.order, 0, 1]).permutation(indices)  # no epoch's order: [seed, epoch]
    return drawn[: max(num_images // batch_size, 1) * batch_size]


def training_sides(config: ExperimentConfig) -> NDArray[np.int32] | None:
    """Side in px of the training images of each epoch, (epochs,); None where it is always that of the store.

    Under resolution=progressive it grows evenly from `start_fraction` of the full side to all of it at `full_after` of
    the epochs, in multiples of 16 px: sizes that four poolings halve without a rest, and few enough of them.
    """
    resolution, full = config.resolution, config.data.image_size_px
    if resolution.kind == "full":
        return None
    reached = np.arange(config.training.epochs) / max(1.0, resolution.full_after * config.training.epochs)
    reached[-1] = 1.0  # the last epoch is whole, whatever was asked: validation is
    wanted = full * np.minimum(1.0, resolution.start_fraction + (1 - resolution.start_fraction) * reached)
    smallest = 2 ** len(config.depth.filters)  # each block halves the image
    sides = np.maximum(16 * np.round(wanted / 16), smallest)
    return np.where(wanted >= full, full, np.minimum(sides, full)).astype(np.int32)


def training_batches(
    source: Source, config: ExperimentConfig, seeds: Seeds, augment: Augmentation, *, first_step: int = 0
) -> tf.data.Dataset:
    """All batches of all epochs, from step `first_step` on; the last, shorter batch of an epoch is kept.

    Batch number `step` (counted over epochs) holds a piece of `epoch_order` of its epoch, augmented under the seed
    (seeds.augmentation, step), at the side that `training_sides` gives its epoch.

    Returns:
        Dataset of (images (b, size, size, 1) uint8, labels (b, 1) float32).
    """
    steps_per_epoch = math.ceil(len(source.indices) / config.training.batch_size)
    batch_size = config.training.batch_size

    @functools.lru_cache(maxsize=2)  # prefetching may stand one epoch ahead
    def order(epoch: int) -> NDArray[np.int64]:
        return epoch_order(
            source.labels, source.indices, seed=seeds.order, epoch=epoch, imbalance=config.imbalance.kind
        )

    order(0)  # a class without images is told here, not from inside tf.data

    def rows_of(step: int) -> NDArray[np.int64]:
        epoch, step_in_epoch = divmod(step, steps_per_epoch)
        return order(epoch)[step_in_epoch * batch_size : (step_in_epoch + 1) * batch_size]

    sides = training_sides(config)

    @without_autograph
    def augmented(step: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seed = tf.stack([tf.constant(seeds.augmentation, tf.int32), tf.cast(step, tf.int32)])
        return augment(images, seed, None if sides is None else tf.gather(sides, step // steps_per_epoch)), labels

    steps = tf.data.Dataset.range(first_step, config.training.epochs * steps_per_epoch)
    gathered = _gather(steps, source, rows_of)
    return ready_ahead(gathered.map(augmented, num_parallel_calls=NUM_BATCHES))


def _batches_from(
    source: Source, config: ExperimentConfig, seeds: Seeds, augment: Augmentation
) -> Callable[[int], tf.data.Dataset]:
    """Epoch -> all batches from its first on."""
    steps_per_epoch = math.ceil(len(source.indices) / config.training.batch_size)

    def train_from(epoch: int) -> tf.data.Dataset:
        return training_batches(source, config, seeds, augment, first_step=epoch * steps_per_epoch)

    return train_from


def evaluation_batches(
    images: NDArray[np.uint8], labels: NDArray[np.int8], indices: NDArray[np.int64], batch_size: int
) -> tf.data.Dataset:
    """One pass over the rows `indices`, in their order, unaugmented; elements as in training."""
    steps = tf.data.Dataset.range(math.ceil(len(indices) / batch_size))
    gathered = _gather(
        steps, Source(images, labels, indices), lambda step: indices[step * batch_size : (step + 1) * batch_size]
    )
    return ready_ahead(gathered.map(without_autograph(lambda step, batch, batch_labels: (batch, batch_labels))))


def _draw_evenly(rows: NDArray[np.int64], size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`size` rows: every row size // len(rows) times, and a random part of them once more."""
    repeats, rest = divmod(size, len(rows))
    return np.concatenate([np.tile(rows, repeats), generator.permutation(rows)[:rest]])


def _gather(steps: tf.data.Dataset, source: Source, rows_of: Callable[[int], NDArray[np.int64]]) -> tf.data.Dataset:
    """Steps -> (step, images, labels): the batch is copied out of the memory map, the map itself never is."""
    side_px = source.images.shape[1:]

    def read(step: np.int64) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        rows = rows_of(int(step))
        return np.ascontiguousarray(source.images[rows]), source.labels[rows].astype(np.float32)[:, None]

    @without_autograph
    def gathered(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # Stateless, and said so: behind a stateful map, op determinism makes every later stage wait for the model.
        images, labels = tf.numpy_function(read, [step], (tf.uint8, tf.float32), stateful=False)
        return step, tf.ensure_shape(images, (None, *side_px)), tf.ensure_shape(labels, (None, 1))

    return steps.map(gathered)
