"""What training tells: per step, per epoch, and at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StepRecord:
    """One training step: epoch and step within it, both from 0; loss and speed over the epoch so far."""

    epoch: int
    step: int
    steps_per_epoch: int
    loss: float
    images_per_s: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, from 0: Keras' metrics and `learning_rate`, its time with validation, its speed without."""

    epoch: int
    metrics: Mapping[str, float]
    duration_s: float
    images_per_s: float


@dataclass(frozen=True)
class Trained:
    """What training left behind; best_epoch is the one whose weights were kept.

    images_per_s is the median over the epochs after the first, which also compiles.
    """

    history: tuple[EpochRecord, ...]
    best_epoch: int
    stopped_early: bool
    images_per_s: float
    duration_s: float
    num_devices: int
