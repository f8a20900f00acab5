"""The only door to MLflow.  Nothing is read back here to compute a result."""

from cxr_experiments.record.tracking.carried import carry_over
from cxr_experiments.record.tracking.known import has_answered, named_before
from cxr_experiments.record.tracking.place import (
    TrackingPlace,
    find_place,
    load_client,
    open_place,
    opening_lock,
    reach,
    wait_longer,
)
from cxr_experiments.record.tracking.registry import (
    Entry,
    Kept,
    Version,
    fetched,
    find_version,
    keep_version,
    parse_version,
    registry_of,
)
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
from cxr_experiments.record.tracking.told import Own, ToldRun, remove_doubles, told_run

__all__ = [
    "Entry",
    "Kept",
    "Own",
    "RunCard",
    "Summary",
    "ToldRun",
    "TrackingPlace",
    "Version",
    "carry_over",
    "end_run",
    "fetched",
    "find_place",
    "find_version",
    "has_answered",
    "headlines",
    "keep_summaries",
    "keep_version",
    "keep_view",
    "load_client",
    "log_epoch",
    "log_files",
    "log_final",
    "log_model",
    "named_before",
    "open_place",
    "opening_lock",
    "parse_version",
    "reach",
    "registry_of",
    "remove_doubles",
    "reopen_run",
    "start_run",
    "tag_run",
    "told_run",
    "wait_longer",
]
