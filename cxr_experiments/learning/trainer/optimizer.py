"""Configuration -> Keras' optimizer under its learning-rate schedule, and the class weights of the loss."""

from __future__ import annotations

import keras

from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.errors import ConfigError


def make_optimizer(config: ExperimentConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Keras' optimizer of `optimizer.kind` under `schedule`; it also keeps the average that `averaging` asks for.

    Weight decay is decoupled from the gradient under every kind (Loshchilov and Hutter, 2019) and, as Keras does by
    default, applies to every trainable weight, biases and normalization included.

    Raises:
        ConfigError: Momentum for an optimizer that has none; a warm-up as long as the training.
    """
    optimizer, rate = config.optimizer, make_learning_rate(config, steps_per_epoch)
    if optimizer.kind in ("adam", "adamw") and optimizer.momentum > 0:
        raise ConfigError(
            f"optimizer.momentum={optimizer.momentum} has no effect with optimizer.kind={optimizer.kind}: "
            "set it to 0, or use optimizer=sgd or optimizer=rmsprop"
        )
    averaged = {"use_ema": config.averaging.kind == "ema", "ema_momentum": config.averaging.decay}
    if optimizer.kind == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=optimizer.weight_decay, **averaged)
    decay = optimizer.weight_decay or None  # Keras' None is no decay
    if optimizer.kind == "adam":
        return keras.optimizers.Adam(rate, weight_decay=decay, **averaged)
    if optimizer.kind == "sgd":
        return keras.optimizers.SGD(rate, momentum=optimizer.momentum, weight_decay=decay, **averaged)
    return keras.optimizers.RMSprop(rate, momentum=optimizer.momentum, weight_decay=decay, **averaged)


def make_learning_rate(
    config: ExperimentConfig, steps_per_epoch: int
) -> float | keras.optimizers.schedules.CosineDecay:
    """The learning rate by step: constant or falling as a cosine, after a linear rise from 0 over `warmup_epochs`."""
    peak, schedule = config.optimizer.learning_rate, config.schedule
    if schedule.kind == "constant" and schedule.warmup_epochs == 0:
        return peak
    if schedule.warmup_epochs >= config.training.epochs:
        raise ConfigError(
            f"schedule.warmup_epochs={schedule.warmup_epochs} leaves nothing of "
            f"training.epochs={config.training.epochs}: make the warm-up shorter than the training"
        )
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else peak,
        decay_steps=max(1, config.training.epochs * steps_per_epoch - warmup_steps),
        alpha=schedule.final_fraction if schedule.kind == "cosine" else 1.0,  # a cosine from 1 to 1 is constant
        warmup_target=peak if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def class_weights(class_counts: tuple[int, int]) -> dict[int, float]:
    """Weight of each label, n / (2 n_label): both classes weigh alike in the loss and the mean weight of an image is 1.

    Raises:
        ConfigError: A class has no training image.

    Example:
        >>> class_weights((1, 3))
        {0: 2.0, 1: 0.6666666666666666}
    """
    if min(class_counts) == 0:
        raise ConfigError("imbalance=class_weight needs training images of both classes, and one class has none")
    return {label: sum(class_counts) / (2 * count) for label, count in enumerate(class_counts)}
