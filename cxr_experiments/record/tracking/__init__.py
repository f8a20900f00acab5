"""The only door to MLflow.  Nothing is read back here to compute a result."""

from cxr_experiments.record.tracking.place import TrackingPlace, find_place, open_place, without_credentials
from cxr_experiments.record.tracking.runs import (
    RunCard,
    end_run,
    log_epoch,
    log_final,
    log_model,
    reopen_run,
    start_run,
    tag_run,
)
from cxr_experiments.record.tracking.summaries import Summary, keep_summaries, keep_view

__all__ = [
    "RunCard",
    "Summary",
    "TrackingPlace",
    "end_run",
    "find_place",
    "keep_summaries",
    "keep_view",
    "log_epoch",
    "log_final",
    "log_model",
    "open_place",
    "reopen_run",
    "start_run",
    "tag_run",
    "without_credentials",
]
