"""`python on_devices.py FOLDER`: trains on one and on two devices, and writes what came out; for test_devices.

A process of its own, because the processor can be divided only before TensorFlow computes anything.  Training ends with
a batch of 5 images, which two devices share as 3 and 2, and validation with one of 7.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import test_trainer
from test_states import VARIED, WHOLE, Killed, told, trained

from cxr_experiments.config.schema import ExperimentConfig, ImbalanceConfig, OptimizerConfig
from cxr_experiments.learning.trainer import start_tensorflow

CASES: dict[str, dict[str, Any]] = {
    **VARIED,
    "classes weighed, weights decaying": {
        "imbalance": ImbalanceConfig("class_weight"),
        "optimizer": OptimizerConfig("adamw", weight_decay=0.1),
    },
}


def on_devices(config: ExperimentConfig, num_devices: int) -> ExperimentConfig:
    shared = {"strategy": "mirrored", "num_devices": num_devices} if num_devices > 1 else {"strategy": "none"}
    return replace(config, training=replace(config.training, **{"epochs": 3, **shared}))


def killed_and_taken_up(config: ExperimentConfig, states: Path) -> Any:
    try:
        trained(config, states, stop=(2, 1))
    except Killed:
        return told(*trained(config, states))
    raise AssertionError("the training was not stopped")


def main(folder: Path) -> None:
    (folder / "states").mkdir()
    test_trainer.NUM_TRAIN, test_trainer.NUM_VAL = 45, 15
    start_tensorflow(on_devices(WHOLE, 2))
    for case, changed in CASES.items():
        found: dict[str, Any] = {}
        for num_devices in (1, 2):
            config = on_devices(replace(WHOLE, **changed), num_devices)
            model, done = trained(config, None)
            np.savez(folder / f"{case}-{num_devices}.npz", *model.get_weights())
            found[str(num_devices)] = {
                "devices": done.num_devices,
                "metrics": [dict(record.metrics) for record in done.history],
                "kept": done.best_epoch,
            }
            if num_devices == 2:
                found["resumed equal"] = killed_and_taken_up(config, folder / "states" / case) == told(model, done)
                found["layers"] = sorted({type(layer).__module__.split(".")[0] for layer in model.layers})
        (folder / f"{case}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
