"""What a config does to training, looked at before anything is trained: graph, batch, optimizer, options, images.

A config and a few prepared images in, plain facts out that two configs can be compared by.  No run executes this.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.config.seeds import resolve_seeds
from cxr_experiments.learning.augmentation import make_augmentation
from cxr_experiments.learning.model import build_model
from cxr_experiments.learning.trainer import make_learning_rate, make_optimizer

STEPS_PER_EPOCH = 100  # any fixed number: schedules are compared, not run
SEED = 0


@dataclass(frozen=True, eq=False)
class Effects:
    """What training would see: each part is equal exactly when the two configs do the same there.

    `graph` is a digest over layers, their settings and shapes; `batch` (n, size, size, 1) uint8 the films augmented
    under one seed; `optimizer`, `schedule` and `training` are settings by name; `films` a digest of the prepared films.
    """

    graph: str
    num_parameters: int
    batch: NDArray[np.uint8]
    optimizer: dict[str, Any]
    schedule: tuple[float, ...]
    training: dict[str, Any]
    films: str


def effects(config: ExperimentConfig, films: NDArray[np.uint8]) -> Effects:
    """Build what `config` names, without training it.

    Args:
        config: of a run.
        films: (n, size, size, 1) uint8, prepared as `config` says.

    Raises:
        ConfigError: the network or the optimizer cannot be built.
    """
    keras.backend.clear_session()
    model = build_model(config, resolve_seeds(config))
    augment = make_augmentation(config.augmentation)
    batch = augment(tf.constant(films), tf.constant([SEED, SEED], tf.int32)).numpy()
    optimizer = make_optimizer(config, STEPS_PER_EPOCH).get_config()
    rate = make_learning_rate(config, STEPS_PER_EPOCH)
    steps = np.linspace(0, config.training.epochs * STEPS_PER_EPOCH - 1, 25).astype(int)
    schedule = tuple(float(rate(int(step))) if callable(rate) else float(rate) for step in steps)
    options = {f"training.{name}": value for name, value in asdict(config.training).items()}
    options |= {"imbalance": config.imbalance.kind, "pipeline": config.pipeline.kind}
    options |= {f"resolution.{name}": value for name, value in asdict(config.resolution).items()}
    options |= {f"averaging.{name}": value for name, value in asdict(config.averaging).items()}
    options |= {f"batch_norm.{name}": value for name, value in asdict(config.batch_norm).items()}
    options |= {f"threshold.{name}": value for name, value in asdict(config.threshold).items()}
    return Effects(
        graph=_graph(model),
        num_parameters=int(model.count_params()),
        batch=batch,
        optimizer={name: value for name, value in optimizer.items() if name not in ("name", "learning_rate")}
        | {"kind": config.optimizer.kind},
        schedule=schedule,
        training=options,
        films=hashlib.sha256(films.tobytes() + str(films.shape).encode()).hexdigest(),
    )


def _graph(model: keras.Model) -> str:
    """Layers in order with settings, shapes and what they are fed by; names that Keras counts up are left out."""
    told = []
    for layer in model.layers:
        settings = {name: value for name, value in layer.get_config().items() if name not in ("name", "sparse")}
        told.append([type(layer).__name__, settings, str(layer.output.shape)])
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
