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
from cxr_experiments.errors import CxrError


class FailedJob(CxrError):
    """A job of a sweep failed and has said why."""


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
    path = job_file(folder, job.number)
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps({**asdict(job), "overrides": bare}, indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def job_file(folder: Path, number: int) -> Path:
    """Where a job's end is kept, whether it has ended or not."""
    return folder / f"job_{number}.json"


def log_files(folder: Path, number: int) -> dict[str, Path]:
    """Where a job on another machine leaves its lines: stdout, stderr -> file."""
    return {"stdout": folder / f"job_{number}.out", "stderr": folder / f"job_{number}.err"}


def read_jobs(folder: Path) -> list[JobEnd]:
    """The jobs that have ended, in the order of the sweep."""
    return sorted(map(_read, folder.glob("job_*.json")), key=lambda job: job.number)


def read_job(folder: Path, number: int) -> JobEnd | None:
    """How one job has ended; None when it has not, or could not say."""
    path = job_file(folder, number)
    return _read(path) if path.is_file() else None


def _read(path: Path) -> JobEnd:
    values = json.loads(path.read_text(encoding="utf-8"))
    return JobEnd(**{**values, "overrides": tuple(values["overrides"])})


def failures_told(jobs: Sequence[JobEnd]) -> str:
    """How many of the jobs failed, then each of these in a line, by what sets it apart, with its reason."""
    named = zip(labels(jobs), jobs, strict=True)
    lines = [f"  FAILED {label}: {job.failure}" for label, job in named if job.failure]
    head = f"{len(lines)} of {len(jobs)} jobs failed, the others went on; the same command runs what is missing"
    return "\n".join([head, *lines])


def labels(jobs: Sequence[JobEnd]) -> list[str]:
    """What to call each job: the overrides that not all share, or all of its overrides where that leaves none."""
    told = [" ".join(f"{key}={value}" for key, value in own.items()) for own in varying(jobs)]
    return [label or " ".join(job.overrides) or f"job {job.number}" for label, job in zip(told, jobs, strict=True)]


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
