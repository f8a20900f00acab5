"""Model + pipeline -> compile, fit, stop -> history, and the weights of the best epoch in the model.

Comes in: an uncompiled model and the batches of all epochs.  Goes out: one record per epoch and the trained model,
which `save_model` writes and `logit_function` turns into a plain NumPy function.  It knows nothing of run folders or of
tracking: those listen through `on_epoch_end`.
"""

from __future__ import annotations

from cxr_experiments.learning.trainer.fitting import Patience, start_tensorflow, train_model
from cxr_experiments.learning.trainer.optimizer import class_weights, make_learning_rate, make_optimizer
from cxr_experiments.learning.trainer.records import EpochRecord, StepRecord, Trained
from cxr_experiments.learning.trainer.saved_model import LogitFunction, load_model, logit_function, save_model

__all__ = [
    "EpochRecord",
    "LogitFunction",
    "Patience",
    "StepRecord",
    "Trained",
    "class_weights",
    "load_model",
    "logit_function",
    "make_learning_rate",
    "make_optimizer",
    "save_model",
    "start_tensorflow",
    "train_model",
]
