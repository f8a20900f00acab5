"""The only door to MLflow.  Nothing is read back here to compute a result."""

from cxr_experiments.record.tracking.place import TrackingPlace, find_place, open_place, without_credentials
from cxr_experiments.record.tracking.runs import (
    RunCard,
    end_run,
    log_epoch,
    log_final,
    log_model,
    start_run,
)

__all__ = [
    "RunCard",
    "TrackingPlace",
    "end_run",
    "find_place",
    "log_epoch",
    "log_final",
    "log_model",
    "open_place",
    "start_run",
    "without_credentials",
]
