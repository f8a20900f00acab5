"""Batches: which images, in which order, under which seed; and the reference route against the store."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import (
    AugmentationConfig,
    BatchNormConfig,
    DataConfig,
    ExperimentConfig,
    ImbalanceConfig,
    PipelineConfig,
    ResolutionConfig,
    TrainingConfig,
)
from cxr_experiments.config.seeds import Seeds, resolve_seeds
from cxr_experiments.errors import ConfigError
from cxr_experiments.images.manifest import read_manifest
from cxr_experiments.images.splits import Split, make_split
from cxr_experiments.images.store import Store, open_store
from cxr_experiments.learning.augmentation import make_augmentation
from cxr_experiments.learning.keras_directory import link_split, load_directory
from cxr_experiments.learning.pipeline import (
    Pipeline,
    Source,
    epoch_order,
    evaluation_batches,
    make_pipeline,
    training_batches,
    training_sides,
)

STILL = AugmentationConfig(0.0, 0.0, 0.0, contrast_fraction=0.0)
CONFIG = ExperimentConfig(augmentation=STILL, training=TrainingConfig(epochs=3, batch_size=8))
SEEDS = resolve_seeds(CONFIG)
# 50 images whose gray level is their row number; every fourth is NORMAL; 35 rows are in use
LABELS = (np.arange(50) % 4 > 0).astype(np.int8)
IMAGES = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None, None], (50, 6, 6, 1))
SOURCE = Source(IMAGES, LABELS, np.arange(10, 45))


def batches_of(config: ExperimentConfig = CONFIG, seeds: Seeds = SEEDS, first_step: int = 0) -> list[NDArray[np.uint8]]:
    dataset = training_batches(SOURCE, config, seeds, make_augmentation(config.augmentation), first_step=first_step)
    return [images for images, _ in dataset.as_numpy_iterator()]


def rows_by_epoch(config: ExperimentConfig = CONFIG, seeds: Seeds = SEEDS) -> list[list[int]]:
    batches = [batch[:, 0, 0, 0].tolist() for batch in batches_of(config, seeds)]
    return [list(chain(*batches[start : start + 5])) for start in range(0, len(batches), 5)]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExperimentConfig, Store, Split]:
    data = DataConfig(num_patients=12, image_size_px=48)
    store = open_store(read_manifest(data), data, folder=tmp_path_factory.mktemp("stores"))
    return replace(CONFIG, data=data), store, make_split(store.manifest, data, seed=SEEDS.split)


def pipeline_of(made: tuple[ExperimentConfig, Store, Split], folder: Path, **changed: object) -> Pipeline:
    config, store, split = made
    return make_pipeline(replace(config, **changed), store, split, SEEDS, folder)


def test_every_image_comes_once_per_epoch_and_the_last_short_batch_is_kept() -> None:
    assert [len(batch) for batch in batches_of()] == 3 * [8, 8, 8, 8, 3]
    for rows in rows_by_epoch():
        assert sorted(rows) == list(range(10, 45))


def test_order_differs_between_epochs_and_between_seeds_and_repeats_with_the_seed() -> None:
    first = rows_by_epoch()
    assert first[0] != first[1]
    assert first == rows_by_epoch()
    assert first != rows_by_epoch(seeds=replace(SEEDS, order=SEEDS.order + 1))
    assert first == rows_by_epoch(seeds=replace(SEEDS, augmentation=1, init=2, dropout=3, split=4))


def test_images_to_measure_are_whole_batches_of_training_images_as_they_will_be_used(
    phantoms: tuple[ExperimentConfig, Store, Split], tmp_path: Path
) -> None:
    _, store, split = phantoms
    augmented = AugmentationConfig(rotation_degrees=10.0)
    made = pipeline_of(phantoms, tmp_path, augmentation=augmented, batch_norm=BatchNormConfig("precise", 13))
    assert made.as_used is not None
    (batch,) = [images for images, _ in made.as_used.as_numpy_iterator()]  # 13 are one batch of 8
    films = {image.tobytes() for image in store.images[split.train]}
    measured = {image.tobytes() for image in batch}
    assert (len(batch), len(measured), measured - films) == (8, 8, set())
    few = pipeline_of(phantoms, tmp_path, batch_norm=BatchNormConfig("precise", 3)).as_used
    assert few is not None
    assert [len(images) for images, _ in few.as_numpy_iterator()] == [8]  # one batch at the least
    assert pipeline_of(phantoms, tmp_path).as_used is None


def test_small_images_come_first_and_the_last_epochs_are_whole() -> None:
    """10 epochs of 128 px from a half on, whole after 0.7: 64 + 64 e / 7, to the nearest multiple of 16."""
    config = replace(
        CONFIG,
        data=DataConfig(image_size_px=128),
        training=TrainingConfig(epochs=10),
        resolution=ResolutionConfig("progressive"),
    )
    sides = training_sides(config)
    assert sides is not None
    assert sides.tolist() == [64, 80, 80, 96, 96, 112, 112, 128, 128, 128]
    assert training_sides(replace(config, resolution=ResolutionConfig())) is None


def test_sides_never_fall_below_what_the_blocks_can_halve() -> None:
    config = replace(CONFIG, data=DataConfig(image_size_px=40), resolution=ResolutionConfig("progressive", 0.1))
    sides = training_sides(config)
    assert sides is not None
    assert sides.tolist() == [32, 32, 40]


def test_growing_images_reach_the_batches_with_the_rows_of_ever() -> None:
    images = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None, None], (50, 64, 64, 1))
    config = replace(CONFIG, data=DataConfig(image_size_px=64), resolution=ResolutionConfig("progressive"))
    dataset = training_batches(
        Source(images, LABELS, np.arange(10, 45)), config, SEEDS, make_augmentation(config.augmentation)
    )
    batches = [batch for batch, _ in dataset.as_numpy_iterator()]
    assert [batch.shape[1:] for batch in batches[::5]] == [(32, 32, 1), (48, 48, 1), (64, 64, 1)]
    assert [batch[:, 0, 0, 0].tolist() for batch in batches] == [batch[:, 0, 0, 0].tolist() for batch in batches_of()]


def test_labels_travel_with_their_images() -> None:
    for images, labels in training_batches(SOURCE, CONFIG, SEEDS, make_augmentation(STILL)).as_numpy_iterator():
        assert labels.dtype == np.float32
        assert np.array_equal(labels[:, 0], LABELS[images[:, 0, 0, 0]])


def test_training_can_begin_at_any_step_with_the_same_batches_to_come() -> None:
    config = replace(CONFIG, augmentation=AugmentationConfig())
    whole = batches_of(config)
    for first_step in (0, 1, 7, 14):
        rest = batches_of(config, first_step=first_step)
        assert len(rest) == len(whole) - first_step
        assert all(np.array_equal(one, two) for one, two in zip(whole[first_step:], rest, strict=True))


def test_augmentation_differs_between_epochs_and_follows_its_own_seed() -> None:
    config = replace(CONFIG, augmentation=replace(STILL, brightness_fraction=0.5))
    other = batches_of(config, replace(SEEDS, augmentation=1))
    assert not np.array_equal(batches_of(config)[0], other[0])
    brightness = [batch.astype(int)[:, 0, 0, 0] for batch in batches_of(config)]
    rows = [batch[:, 0, 0, 0] for batch in batches_of()]
    assert not np.array_equal(brightness[0] - rows[0], brightness[5] - rows[5])


def test_batches_do_not_depend_on_the_process_wide_seed(
    phantoms: tuple[ExperimentConfig, Store, Split], tmp_path: Path
) -> None:
    for kind in ("store", "keras_directory"):
        seen = []
        for seed in (1, 2):
            tf.random.set_seed(seed)
            train = pipeline_of(phantoms, tmp_path, pipeline=PipelineConfig(kind)).train
            seen.append(np.concatenate([images for images, _ in train.as_numpy_iterator()]))
        assert np.array_equal(*seen)


def test_batches_are_in_order_and_not_autotuned(
    phantoms: tuple[ExperimentConfig, Store, Split], tmp_path: Path
) -> None:
    """Autotuning makes the end of an iterator wait, for seconds now and then."""
    config, store, split = phantoms
    for kind in ("store", "keras_directory"):
        routed = replace(config, pipeline=PipelineConfig(kind))
        found = make_pipeline(routed, store, split, resolve_seeds(config), tmp_path)
        for batches in (found.train, found.val):
            assert batches.options().deterministic is True
            assert batches.options().autotune.enabled is False


def test_element_shapes_are_known_but_for_the_batch() -> None:
    images, labels = training_batches(SOURCE, CONFIG, SEEDS, make_augmentation(AugmentationConfig())).element_spec
    assert images == tf.TensorSpec((None, 6, 6, 1), tf.uint8)
    assert labels == tf.TensorSpec((None, 1), tf.float32)


def test_evaluation_gives_the_rows_in_order_once() -> None:
    indices = np.array([3, 1, 40, 7, 7])
    seen = list(evaluation_batches(IMAGES, LABELS, indices, 2).as_numpy_iterator())
    assert [len(images) for images, _ in seen] == [2, 2, 1]
    assert np.concatenate([images[:, 0, 0, 0] for images, _ in seen]).tolist() == indices.tolist()
    assert np.concatenate([labels[:, 0] for _, labels in seen]).tolist() == LABELS[indices].tolist()


def test_balanced_draws_both_classes_equally_often_and_as_many_images_as_ever() -> None:
    for epoch in range(4):
        rows = epoch_order(LABELS, SOURCE.indices, seed=5, epoch=epoch, imbalance="balanced")
        assert len(rows) == 35
        assert set(rows) <= set(SOURCE.indices)
        positives = LABELS[rows].sum()
        assert positives == 17 + epoch % 2  # 35 is odd
        normal_counts = np.bincount(rows[LABELS[rows] == 0], minlength=50)[SOURCE.indices[LABELS[10:45] == 0]]
        assert set(normal_counts.tolist()) <= {1, 2}  # 9 NORMAL rows fill 17 or 18 places
        assert np.bincount(rows[LABELS[rows] == 1]).max() == 1


def test_balanced_leaves_out_a_different_part_each_epoch() -> None:
    drawn = [
        {
            int(row)
            for row in epoch_order(LABELS, SOURCE.indices, seed=5, epoch=epoch, imbalance="balanced")
            if LABELS[row]
        }
        for epoch in range(12)
    ]
    assert drawn[0] != drawn[1]
    assert set.union(*drawn) == {int(row) for row in SOURCE.indices if LABELS[row]}


def test_balanced_reaches_the_batches() -> None:
    dataset = training_batches(
        SOURCE, replace(CONFIG, imbalance=ImbalanceConfig("balanced")), SEEDS, make_augmentation(STILL)
    )
    labels = np.concatenate([labels for _, labels in dataset.as_numpy_iterator()])
    assert labels.mean() == pytest.approx(0.5, abs=0.02)


def test_balanced_with_one_class_alone_is_refused_before_training() -> None:
    source = replace(SOURCE, labels=np.ones(50, np.int8))
    with pytest.raises(ConfigError, match="imbalance=balanced needs training images of both classes"):
        training_batches(
            source, replace(CONFIG, imbalance=ImbalanceConfig("balanced")), SEEDS, make_augmentation(STILL)
        )


def test_images_are_read_from_the_map_batch_by_batch(tmp_path: Path) -> None:
    """An array that counts what is asked of it: never more than one batch at once."""
    np.save(tmp_path / "images.npy", IMAGES)
    asked: list[int] = []

    class Counted(np.memmap):  # type: ignore[type-arg]
        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            asked.append(len(key))
            return super().__getitem__(key)

    counted = np.load(tmp_path / "images.npy", mmap_mode="r").view(Counted)
    dataset = training_batches(replace(SOURCE, images=counted), CONFIG, SEEDS, make_augmentation(STILL))
    assert sum(len(images) for images, _ in dataset) == sum(asked) == 3 * 35
    assert max(asked) == 8


def test_both_routes_give_the_same_number_of_batches_of_the_same_form(
    phantoms: tuple[ExperimentConfig, Store, Split], tmp_path: Path
) -> None:
    _, store, split = phantoms
    for kind in ("store", "keras_directory"):
        pipeline = pipeline_of(phantoms, tmp_path, pipeline=PipelineConfig(kind), augmentation=AugmentationConfig())
        assert pipeline.train.element_spec[0] == tf.TensorSpec((None, 48, 48, 1), tf.uint8)
        train, val = (list(side.as_numpy_iterator()) for side in (pipeline.train, pipeline.val))
        assert len(train) == 3 * pipeline.steps_per_epoch
        assert sum(len(images) for images, _ in train) == 3 * len(split.train) == 3 * pipeline.num_train
        assert sum(len(images) for images, _ in val) == len(split.val) == pipeline.num_val
        positives = sum(labels.sum() for _, labels in train) / 3
        assert (pipeline.num_train - positives, positives) == pipeline.class_counts
        assert pipeline.class_counts[1] == store.manifest.labels[split.train].sum()


def test_nothing_is_linked_for_the_store_route(phantoms: tuple[ExperimentConfig, Store, Split], tmp_path: Path) -> None:
    pipeline_of(phantoms, tmp_path / "links")
    assert not (tmp_path / "links").exists()


def test_linked_tree_holds_train_and_val_alone_and_is_made_once(
    phantoms: tuple[ExperimentConfig, Store, Split], tmp_path: Path
) -> None:
    config, store, split = phantoms
    (tmp_path / "killed.partial").mkdir()
    linked = link_split(store.manifest, split, config.data, tmp_path)
    for side, rows in (("train", split.train), ("val", split.val)):
        names = {(path.parent.name, int(path.stem)) for path in (linked / side).rglob("*.png")}
        assert names == {(store.manifest.classes[store.manifest.labels[row]], int(row)) for row in rows}
    assert sorted(path.name for path in linked.iterdir()) == ["train", "val"]
    before = {path: path.stat().st_mtime_ns for path in linked.rglob("*")}
    assert link_split(store.manifest, split, config.data, tmp_path) == linked
    assert {path: path.stat().st_mtime_ns for path in linked.rglob("*")} == before


def test_half_written_tree_of_a_killed_process_is_replaced(
    phantoms: tuple[ExperimentConfig, Store, Split], tmp_path: Path
) -> None:
    config, store, split = phantoms
    linked = link_split(store.manifest, split, config.data, tmp_path)
    partial = linked.rename(linked.with_name(f"{linked.name}.partial"))
    (partial / "train" / "NORMAL" / "9999999.png").write_bytes(b"half")
    again = link_split(store.manifest, split, config.data, tmp_path)
    assert again == linked
    assert not partial.exists()
    assert not list(again.rglob("9999999.png"))


def test_keras_route_shuffles_each_epoch_anew(phantoms: tuple[ExperimentConfig, Store, Split], tmp_path: Path) -> None:
    pipeline = pipeline_of(phantoms, tmp_path, pipeline=PipelineConfig("keras_directory"))
    images = [image.tobytes() for batch, _ in pipeline.train.as_numpy_iterator() for image in batch]
    epochs = [images[start : start + pipeline.num_train] for start in range(0, len(images), pipeline.num_train)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]


def test_keras_route_refuses_balanced_draws(phantoms: tuple[ExperimentConfig, Store, Split], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="imbalance=balanced is not possible with pipeline=keras_directory"):
        pipeline_of(
            phantoms, tmp_path, pipeline=PipelineConfig("keras_directory"), imbalance=ImbalanceConfig("balanced")
        )


@pytest.mark.real_data
def test_keras_route_reads_the_same_real_files_within_three_gray_levels(real_data: Path, tmp_path: Path) -> None:
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for path in sorted((real_data / "train" / name).iterdir())[:60]:
            (tmp_path / "images" / name / path.name).symlink_to(path)
    data = DataConfig(source="folder", root=str(tmp_path / "images"))
    store = open_store(read_manifest(data), data, folder=tmp_path / "stores")
    split = make_split(store.manifest, data, seed=0)
    linked = link_split(store.manifest, split, data, tmp_path / "links")
    for side, rows in (("train", split.train), ("val", split.val)):
        ordered = sorted(rows.tolist(), key=lambda row: (store.manifest.labels[row], row))
        loaded = list(load_directory(linked / side, store.manifest.classes, data).as_numpy_iterator())
        assert [int(label[0]) for _, label in loaded] == store.manifest.labels[ordered].tolist()
        difference = np.abs(np.stack([image for image, _ in loaded]).astype(int) - store.images[ordered])
        assert difference.mean() < 3
        assert difference.mean(axis=(1, 2, 3)).max() < 6  # no single image is another one
