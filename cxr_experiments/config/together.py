"""What no single field of a config can say: values that contradict each other, or that a choice would pass over."""

from __future__ import annotations

from dataclasses import fields

from cxr_experiments.config.schema import BatchNormConfig, DataConfig, ExperimentConfig
from cxr_experiments.errors import ConfigError


def check_together(config: ExperimentConfig) -> None:
    """A run's config, its data included.

    Raises:
        ConfigError: names the keys, and what to do.
    """
    area, aspect = config.augmentation.crop_area, config.augmentation.crop_aspect
    for name, (low, high) in (("crop_area", area), ("crop_aspect", aspect)):
        if low > high:
            raise ConfigError(f"augmentation.{name}=[{low}, {high}]: the first number may not exceed the second")
    if len(config.depth.filters) != len(config.depth.convolutions) or not config.depth.filters:
        raise ConfigError(
            f"depth.filters has {len(config.depth.filters)} blocks and depth.convolutions "
            f"{len(config.depth.convolutions)}: give both one entry per block"
        )
    check_data(config.data)
    if config.schedule.warmup_epochs >= config.training.epochs:
        raise ConfigError(
            f"schedule.warmup_epochs={config.schedule.warmup_epochs} leaves nothing of "
            f"training.epochs={config.training.epochs}"
        )
    _check_resolution(config)
    _check_devices(config)
    _check_batch_norm(config)
    if config.data.num_folds == 1 or config.data.fold >= max(1, config.data.num_folds):
        raise ConfigError(
            f"data.fold={config.data.fold} of data.num_folds={config.data.num_folds}: "
            "expected 0 folds with fold 0, or 2 folds and more with fold below their number"
        )
    if config.choices.get("model", "custom" if config.model.builder else "") == "custom":
        if config.model.builder is None:
            raise ConfigError("model=custom: expected model.builder=FILE.py:FUNCTION beside it")
    elif config.model.builder is not None:
        raise ConfigError(f"model.builder={config.model.builder} needs model=custom beside it")
    if (
        not config.experiment_name
        or set(config.experiment_name) & set('/\\:*?"<>|')
        or config.experiment_name[0] == "."
    ):
        raise ConfigError(f"experiment_name={config.experiment_name!r}: expected a plain folder name, without / or :")


def _check_resolution(config: ExperimentConfig) -> None:
    """Images of changing size fit neither a flattened map nor Keras' own loader."""
    if config.resolution.kind == "full":
        return
    if config.model.builder is None and config.pooling.kind not in ("gap", "gmp"):
        raise ConfigError(
            f"resolution=progressive is not possible with pooling={config.pooling.kind}, whose dense layer fits one "
            "image size: use pooling=gap or pooling=gmp, or resolution=full"
        )
    if config.pipeline.kind != "store":
        raise ConfigError("resolution=progressive needs pipeline=store: Keras' own loader gives one size")


def _check_devices(config: ExperimentConfig) -> None:
    """Several devices share whole batches of the store."""
    training = config.training
    if training.strategy == "none" and training.num_devices != 0:
        raise ConfigError(
            f"training.num_devices={training.num_devices} has no effect with training.strategy=none: "
            "add training.strategy=mirrored"
        )
    if training.strategy == "mirrored" and config.pipeline.kind != "store":
        raise ConfigError(
            "training.strategy=mirrored needs pipeline=store: Keras' own loader may leave a device no image"
        )
    check_batch_size(training.batch_size, training.num_devices)


def _check_batch_norm(config: ExperimentConfig) -> None:
    """Statistics are measured by one device, of images of the store."""
    num_images = config.batch_norm.num_images
    if config.batch_norm.kind == "running" and num_images != BatchNormConfig().num_images:
        raise ConfigError(
            f"batch_norm.num_images={num_images} has no effect with batch_norm=running: add batch_norm=precise"
        )
    if config.batch_norm.kind == "precise" and config.pipeline.kind != "store":
        raise ConfigError("batch_norm=precise needs pipeline=store: Keras' own loader gives augmented images alone")
    if config.batch_norm.kind == "precise" and config.training.strategy != "none":
        raise ConfigError("batch_norm=precise needs training.strategy=none: several devices do not measure together")


def check_batch_size(batch_size: int, num_devices: int) -> None:
    """Each device takes an equal part of a batch; 0 devices are not known yet.

    Raises:
        ConfigError: the batch cannot be divided so.
    """
    if num_devices and batch_size % num_devices:
        nearest = max(1, round(batch_size / num_devices)) * num_devices
        raise ConfigError(
            f"training.batch_size={batch_size} cannot be shared evenly by {num_devices} devices: "
            f"choose a multiple of {num_devices}, such as {nearest}"
        )


def check_data(data: DataConfig) -> None:
    """What no single field of a data set can say, and what its source would pass over."""
    if data.classes[0] == data.classes[1]:
        raise ConfigError(f"data.classes={list(data.classes)}: the two classes must differ")
    if data.source == "phantom" and data.root is not None:
        raise ConfigError(
            f"data.root={data.root} has no effect with data=phantom: add data=kaggle or data=folder for real images"
        )
    if data.patient_regex is not None and data.source not in ("folder", "csv"):
        raise ConfigError(
            f"data.patient_regex has no effect with data={data.source}: it is for data=folder and data=csv"
        )
    usual = DataConfig()
    typed = [one.name for one in fields(data) if getattr(data, one.name) != getattr(usual, one.name)]
    if data.source != "csv" and (unread := next((name for name in typed if name.startswith("csv_")), None)):
        raise ConfigError(
            f"data.{unread}={getattr(data, unread)} has no effect with data={data.source}: it is for data=csv"
        )
    if data.source == "csv" and data.csv_file is None:
        raise ConfigError("data=csv needs data.csv_file=FILE, the list of images; docs/data.md shows some")
    if data.npz_size_px not in (28, 64, 128, 224):
        raise ConfigError(f"data.npz_size_px={data.npz_size_px}: expected 28, 64, 128 or 224 px")
    if data.marker != "none" and data.source != "phantom":
        raise ConfigError(f"data.marker={data.marker} has no effect with data={data.source}: it is for data=phantom")
