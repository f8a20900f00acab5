"""The only door to MLflow.  Nothing is read back here to compute a result."""

from cxr_experiments.record.tracking.known import named_before
from cxr_experiments.record.tracking.place import TrackingPlace, find_place, open_place
from cxr_experiments.record.tracking.runs import (
    RunCard,
    end_run,
    headlines,
    log_epoch,
    log_files,
    log_final,
    log_model,
    reopen_run,
    start_run,
    tag_run,
)
from cxr_experiments.record.tracking.summaries import Summary, keep_summaries, keep_view
from cxr_experiments.record.tracking.told import ToldRun, told_run

__all__ = [
    "RunCard",
    "Summary",
    "ToldRun",
    "TrackingPlace",
    "end_run",
    "find_place",
    "headlines",
    "keep_summaries",
    "keep_view",
    "log_epoch",
    "log_files",
    "log_final",
    "log_model",
    "named_before",
    "open_place",
    "reopen_run",
    "start_run",
    "tag_run",
    "told_run",
]
