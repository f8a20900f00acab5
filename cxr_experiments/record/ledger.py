"""The test ledger: one line per opening of a test split, written before the first test image is read, never taken back.

It lies in `test_ledger.jsonl` under the project's home; a project that publishes its ledger keeps it as
`results/test_ledger.jsonl`, which is read beside it.  Lines are keyed by the digest of the test split.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from cxr_experiments.config.compose import PACKAGE_DIR
from cxr_experiments.evidence.calibration import Threshold
from cxr_experiments.record.run_folder import RunFolder, append_json_line, read_json_lines, write_json


def record_look(home: Path, folder: RunFolder, opening: Mapping[str, Any], threshold: Threshold) -> int:
    """One run's look at its test split: a ledger line, and test_opening.json in the run; how many looks are known."""
    run = {"run_id": folder.run_id, "experiment_name": folder.experiment_name}
    told = {name: value for name, value in opening.items() if name != "test_digest"}
    judged = {"threshold": threshold.value, "threshold_rule": f"{threshold.rule} {threshold.target:g}"}
    openings = record_opening(home, str(opening["test_digest"]), {**run, **told, **judged})
    write_json(folder.file("test_opening.json"), opening)
    return openings


def record_opening(home: Path, test_digest: str, entry: Mapping[str, Any]) -> int:
    """Append a line and return how many openings of this test split are known, this one included."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / "test_ledger.jsonl"
    with FileLock(home / "test_ledger.jsonl.lock"):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        append_json_line(path, {"time": stamp, "test_digest": test_digest, **entry})
    return count_openings(home, test_digest)


def is_recorded(home: Path, test_digest: str, entry: Mapping[str, Any]) -> bool:
    """Whether a ledger has this very opening already."""
    told = {"test_digest": test_digest, **entry}
    return any(_without_time(line) == told for line in _ledger_lines(home))


def record_lock(home: Path, lock: Mapping[str, Any]) -> bool:
    """Write a study's protocol into results/test_ledger.jsonl before the test split is opened; True for the first.

    The lock is keyed by `dataset_digest`.  The very same protocol again is the same lock and adds no line; another
    protocol on the same data is written too, and is not the first: what it finds is exploratory.
    """
    path = home / "results" / "test_ledger.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name("test_ledger.jsonl.lock")):
        locks = [_without_time(line) for line in locks_on(home, str(lock["dataset_digest"]))]
        if lock not in locks:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            append_json_line(path, {"time": stamp, **lock})
    return not locks or locks[0] == lock


def locks_on(home: Path, dataset_digest: str) -> list[dict[str, Any]]:
    """The locks on record for a data set, oldest first, each once."""
    locks = [line for line in _ledger_lines(home) if line.get("lock") and line.get("dataset_digest") == dataset_digest]
    return sorted(locks, key=lambda line: str(line.get("time", "")))


def _without_time(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "time"}


def count_openings(home: Path, test_digest: str) -> int:
    """Openings of the test split with this digest, in the home's ledger and the published ones.

    A line may stand for several (`openings`), as those from before the ledger do; a line that was copied from one
    ledger to the other counts once.
    """
    of_this = [line for line in _ledger_lines(home) if line.get("test_digest") == test_digest and not line.get("lock")]
    return sum(int(line.get("openings", 1)) for line in of_this)


def openings_on(home: Path, dataset_digest: str) -> int:
    """How many openings of a data set's test split are known, however that was cut."""
    lines = _ledger_lines(home)
    of_this = [line for line in lines if line.get("dataset_digest") == dataset_digest]
    tests = {str(line["test_digest"]) for line in of_this if "test_digest" in line}
    return sum(count_openings(home, digest) for digest in tests)


def _ledger_lines(home: Path) -> list[dict[str, Any]]:
    """Every line of the home's ledger and the published ones, each once."""
    places = {home, home / "results", PACKAGE_DIR.parent / "results"}
    ledgers = [place / "test_ledger.jsonl" for place in sorted(places)]
    lines = [line for path in ledgers if path.is_file() for line in read_json_lines(path)]
    return list({json.dumps(line, sort_keys=True): line for line in lines}.values())
