"""One frozen dataclass per kind of choice: type, unit, allowed range and default of every field.

The defaults together are the default composition, the seed study; a test holds this file and `conf/` to each other.
Hydra fills these classes (`config.compose`), `check` refuses values outside their range, and from there on plain frozen
values travel.  Nothing here imports NumPy or TensorFlow, so a wrong value is told in well under a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def number(default: Any, low: float, high: float, unit: str = "", doc: str = "") -> Any:
    """A numeric field (or a tuple of numbers) whose every entry lies in [low, high]."""
    return field(default=default, metadata={"low": low, "high": high, "unit": unit, "doc": doc})


def choice(default: str, of: tuple[str, ...], doc: str = "") -> Any:
    """A field that takes one of a few words."""
    return field(default=default, metadata={"of": of, "doc": doc})


def free(default: Any, doc: str = "") -> Any:
    """A field whose range the type alone states: text, paths, switches."""
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True)
class DataConfig:
    """Which images, how they are prepared, and how they are divided."""

    source: str = choice(
        "phantom", ("phantom", "kaggle", "folder", "csv", "pneumoniamnist"), "where the images come from"
    )
    root: str | None = free(None, "folder (or .npz) of the images; null: CXR_DATA (kaggle), then what `download` left")
    classes: tuple[str, str] = free(("NORMAL", "PNEUMONIA"), "class folders: negative (0), positive (1)")
    image_size_px: int = number(200, 16, 1024, "px", "side of the prepared square image")
    resize: str = choice("squash", ("squash", "pad", "crop"), "how an oblong film becomes square")
    on_bad_file: str = choice("stop", ("stop", "skip"), "what an unreadable file does")
    patient_rule: str = choice("strict", ("strict", "loose", "none"), "which patient key may not cross official splits")
    patient_regex: str | None = free(None, "data=folder, csv: expression whose first group in the path is the patient")
    val_fraction: float = number(0.15, 0.01, 0.5, "fraction", "share of the training images held out for validation")
    num_folds: int = number(0, 0, 20, "folds", "0 holds out val_fraction; else validation is fold `fold` of so many")
    fold: int = number(0, 0, 19, "", "which fold validates, from 0; every image of the pool validates in one of them")
    test_fraction: float = number(
        0.15, 0.01, 0.5, "fraction", "share held out for test, where no official test is kept"
    )
    test_seed: int = number(0, 0, 2**31 - 1, "", "draws that test split, whatever `seed` is")
    num_patients: int = number(400, 8, 1_000_000, "patients", "data=phantom: patients drawn, all splits together")
    difficulty: float = number(0.5, 0.0, 1.0, "", "data=phantom: 0 plain opacities, 1 nearly invisible ones")
    phantom_seed: int = number(0, 0, 2**31 - 1, "", "data=phantom: draws the data set, whatever `seed` is")
    marker: str = choice("none", ("none", "label"), "data=phantom: plant a corner mark tied to the label, not in test")
    npz_size_px: int = number(224, 28, 224, "px", "data=pneumoniamnist: which of the files, 28, 64, 128 or 224")
    csv_file: str | None = free(None, "data=csv: the list of images; a relative path starts at data.root")
    csv_path: str = free("path", "data=csv: column of the file, or several as '{Folder}/{Image}.dcm'")
    csv_label: str = free("label", "data=csv: column of the label")
    csv_patient: str | None = free(
        None, "data=csv: column of the patient; null: patient_regex, else DICOM's; '': not known"
    )
    csv_split: str | None = free(None, "data=csv: column with train, val or test; null: splits are drawn")
    csv_positive: tuple[str, ...] = free(("1", "PNEUMONIA"), "data=csv: label values that mean the second class")
    csv_negative: tuple[str, ...] = free(("0", "NORMAL"), "data=csv: label values that mean the first class")
    csv_separator: str | None = free(None, "data=csv: what stands between several labels in one cell, such as |")
    csv_unlisted: str = choice("stop", ("stop", "drop"), "data=csv: what a row with other label values does")


@dataclass(frozen=True)
class SplitConfig:
    """Who trains, validates and tests."""

    kind: str = choice(
        "official",
        ("official", "patient_grouped", "image_level"),
        "official: the source's own test, by patient where it has none; the others divide all images anew",
    )


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of a training image: one composed warp, then intensity."""

    rotation_degrees: float = number(10.0, 0.0, 180.0, "degrees", "angle drawn from [-x, x]")
    translation_fraction: float = number(0.05, 0.0, 0.5, "fraction of the side", "shift drawn from [-x, x], each axis")
    zoom_fraction: float = number(0.10, 0.0, 0.9, "fraction", "scale drawn from [1 - x, 1 + x]")
    crop_area: tuple[float, float] = number((1.0, 1.0), 0.01, 1.0, "fraction", "area of the random crop: low, high")
    crop_aspect: tuple[float, float] = number((1.0, 1.0), 0.1, 10.0, "ratio", "width / height of the crop: low, high")
    horizontal_flip: bool = free(False, "mirror half of the images")
    contrast_fraction: float = number(0.10, 0.0, 0.99, "fraction", "factor drawn from [1 - x, 1 + x] about the mean")
    brightness_fraction: float = number(0.0, 0.0, 1.0, "fraction of 255", "offset drawn from [-x, x]")
    fill_mode: str = choice("constant", ("constant", "nearest", "reflect"), "what stands outside the film")


@dataclass(frozen=True)
class DepthConfig:
    """Convolution blocks; each is n x (Conv2D 3x3 same, BatchNormalization, ReLU), then MaxPooling 2."""

    filters: tuple[int, ...] = number((16, 32, 64, 128, 256), 1, 4096, "filters", "one entry per block")
    convolutions: tuple[int, ...] = number((2, 2, 2, 2, 3), 1, 16, "layers", "one entry per block")


@dataclass(frozen=True)
class PoolingConfig:
    """How the last feature map becomes a vector, and the dense head behind it."""

    kind: str = choice("gap", ("gap", "flatten", "flatten_matched", "gmp"), "gap, gmp: global average, global maximum")
    dense_units: int = number(256, 1, 8192, "units", "width of the hidden dense layer")
    dropout: float = number(0.5, 0.0, 0.95, "probability", "dropout before the logit")


@dataclass(frozen=True)
class ModelConfig:
    """A network of the user's own in place of depth + pooling."""

    builder: str | None = free(None, "model=custom: FILE.py:FUNCTION, on the command line only")


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its step."""

    kind: str = choice("adam", ("adam", "adamw", "sgd", "rmsprop"))
    learning_rate: float = number(0.001, 1e-8, 10.0, "", "peak learning rate")
    weight_decay: float = number(0.0, 0.0, 1.0, "", "decoupled weight decay")
    momentum: float = number(0.0, 0.0, 0.9999, "", "sgd, rmsprop: momentum")


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the epochs."""

    kind: str = choice("constant", ("constant", "cosine"))
    warmup_epochs: float = number(0.0, 0.0, 1000.0, "epochs", "linear rise from 0 to the peak")
    final_fraction: float = number(0.0, 0.0, 1.0, "fraction of the peak", "cosine: where it ends")


@dataclass(frozen=True)
class ResolutionConfig:
    """The side of a training image over the epochs; validation and every later use see data.image_size_px."""

    kind: str = choice("full", ("full", "progressive"), "progressive: small images first, which train faster")
    start_fraction: float = number(0.5, 0.1, 1.0, "fraction of the side", "progressive: side in the first epoch")
    full_after: float = number(0.7, 0.0, 1.0, "fraction of the epochs", "progressive: from here on at full size")


@dataclass(frozen=True)
class AveragingConfig:
    """Whether validation and the kept model use the weights themselves or their average over the last steps."""

    kind: str = choice("none", ("none", "ema"), "ema: exponential moving average of the weights")
    decay: float = number(0.99, 0.0, 0.99999, "per step", "ema: weight of the past; 0.99 averages some 100 steps")


@dataclass(frozen=True)
class BatchNormConfig:
    """Which statistics batch normalization has wherever the network is used: in validation and ever after."""

    kind: str = choice("running", ("running", "precise"), "precise: measured anew before each validation")
    num_images: int = number(1024, 1, 1_000_000, "images", "precise: so many training images, unaugmented, full size")


@dataclass(frozen=True)
class TrainingConfig:
    """How long, in which batches, in which precision, against which targets, and which epoch is kept."""

    epochs: int = number(40, 1, 10_000, "epochs", "at most so many")
    batch_size: int = number(32, 1, 4096, "images")
    patience: int = number(6, 0, 10_000, "epochs", "stop after so many without progress; 0 never stops early")
    precision: str = choice("float32", ("float32", "mixed_bfloat16"))
    label_smoothing: float = number(0.0, 0.0, 0.5, "", "targets become x / 2 and 1 - x / 2; val_loss is taken so too")
    keep: str = choice("best", ("best", "last"), "weights kept: of the lowest validation loss, or of the last epoch")
    deterministic: bool = free(True, "TensorFlow's op determinism: bitwise the same run on the same machine")
    strategy: str = choice("none", ("none", "mirrored"), "mirrored: several devices of one machine share each batch")
    num_devices: int = number(
        0, 0, 64, "devices", "mirrored: so many GPUs, or parts of the CPU without one; 0: all GPUs"
    )


@dataclass(frozen=True)
class ImbalanceConfig:
    """What is done about unequal classes."""

    kind: str = choice("none", ("none", "class_weight", "balanced"), "balanced: each epoch draws both classes alike")


@dataclass(frozen=True)
class PipelineConfig:
    """The route from files to batches."""

    kind: str = choice("store", ("store", "keras_directory"), "keras_directory: Keras' own loader, as a reference")


@dataclass(frozen=True)
class ThresholdConfig:
    """Where P(PNEUMONIA) becomes the label PNEUMONIA: chosen on validation rows, frozen before test."""

    rule: str = choice("sensitivity_at", ("sensitivity_at", "youden", "fixed"))
    value: float = number(0.95, 0.0, 1.0, "", "sensitivity_at: the sensitivity wanted; fixed: the threshold itself")


@dataclass(frozen=True)
class TrackingConfig:
    """Where MLflow keeps the runs."""

    kind: str = choice("local", ("local", "server", "disabled"))
    uri: str | None = free(None, "tracking=server: http(s)://host:port")


@dataclass(frozen=True)
class SeedsConfig:
    """Overrides of the seeds that derive from `seed`; null derives."""

    split: int | None = number(None, 0, 2**31 - 1)
    init: int | None = number(None, 0, 2**31 - 1)
    order: int | None = number(None, 0, 2**31 - 1)
    dropout: int | None = number(None, 0, 2**31 - 1)
    augmentation: int | None = number(None, 0, 2**31 - 1)


@dataclass(frozen=True)
class ExperimentConfig:
    """One run, whole.  Field order is the order of the printed config."""

    experiment_name: str = free("seed_study", "folder under runs/ and MLflow experiment")
    seed: int = number(0, 0, 2**31 - 1, "", "split, initialisation, order, dropout and augmentation derive from it")
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    data: DataConfig = field(default_factory=DataConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)
    pooling: PoolingConfig = field(default_factory=PoolingConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    resolution: ResolutionConfig = field(default_factory=ResolutionConfig)
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    batch_norm: BatchNormConfig = field(default_factory=BatchNormConfig)
    imbalance: ImbalanceConfig = field(default_factory=ImbalanceConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    rerun: bool = free(False, "train a new replicate although a finished run with this identity exists")
    tags: dict[str, str] = field(default_factory=dict)  # what a study calls the run: MLflow shows it, nothing reads it
    choices: dict[str, str] = field(default_factory=dict)  # group -> option chosen, filled by compose; never typed
