"""Which runs may be asked: the finished ones, newest first."""

from __future__ import annotations

from pathlib import Path

from cxr_experiments.errors import RunError
from cxr_experiments.record.run_folder import FINISHED, RunFolder, all_runs, read_json_lines, read_state

NUM_LISTED = 40  # more would be a list that nobody reads, and each one's folder is looked through


def newest_runs(runs: Path, experiment_name: str | None = None) -> list[RunFolder]:
    """Up to NUM_LISTED finished runs, the one finished last first; runs that cannot be read are left out."""
    found: list[RunFolder] = []
    for folder in sorted(all_runs(runs, experiment_name), key=ended_s, reverse=True):
        try:
            if read_state(folder).status == FINISHED:
                found.append(folder)
        except RunError:
            continue
        if len(found) == NUM_LISTED:
            break
    return found


def ended_s(folder: RunFolder) -> float:
    """When the run's last event was, in seconds since 1970; 0.0 when it does not tell."""
    try:
        *_, last = read_json_lines(folder.file("events.jsonl"))
        return float(last["time_s"])
    except (RunError, KeyError, TypeError, ValueError, OverflowError):
        return 0.0
