"""What became of each job of a `-m` sweep, as it stands in the sweep's folder: one small JSON file per job.

A launcher may run jobs in other processes and on other machines, so that nothing but the folder knows them all.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cxr_experiments.config.credentials import without_credentials


@dataclass(frozen=True)
class JobEnd:
    """A job's number in the sweep, its overrides, what it returned ("" for nothing), and why it failed, if it did."""

    number: int
    overrides: tuple[str, ...]
    experiment_name: str
    returned: str
    failure: str


def new_folder(wanted: Path) -> Path:
    """Make the folder, or one beside it with a number: sweeps that start within one second have one each."""
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    return folder


def keep_job(folder: Path, job: JobEnd) -> None:
    """Write the job's file into the sweep's folder, under a temporary name, then rename it; no credentials."""
    folder.mkdir(parents=True, exist_ok=True)
    bare = tuple(without_credentials(word) for word in job.overrides)
    path = folder / f"job_{job.number}.json"
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps({**asdict(job), "overrides": bare}, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def read_jobs(folder: Path) -> list[JobEnd]:
    """The jobs that have ended, in the order of the sweep."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("job_*.json")]
    jobs = [JobEnd(**{**values, "overrides": tuple(values["overrides"])}) for values in found]
    return sorted(jobs, key=lambda job: job.number)


def varying(jobs: Sequence[JobEnd]) -> list[dict[str, str]]:
    """Of each job, the overrides (key -> value) that not all jobs share.

    Example:
        >>> jobs = [JobEnd(n, ("depth=deep", f"seed={n}"), "", "", "") for n in range(2)]
        >>> varying(jobs)
        [{'seed': '0'}, {'seed': '1'}]
    """
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if jobs else set()
    pairs = [[word.lstrip("+").partition("=") for word in job.overrides if word not in shared] for job in jobs]
    return [{key: value for key, _, value in own} for own in pairs]
