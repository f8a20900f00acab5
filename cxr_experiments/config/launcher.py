"""`hydra/launcher=process`: each job of a sweep in a fresh process of its own, `n_jobs` of them at once.

What ends one of them (a crash in compiled code, the system's want of memory) costs that job alone: it is told, kept in
the sweep's folder as failed, and the others go on.  What a job does is in `job`, how processes are held in `processes`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from cxr_experiments.config.processes import Child, ending, run_all
from cxr_experiments.config.sweep import FailedJob, JobEnd, job_file, keep_job, labels, read_job
from cxr_experiments.errors import ConfigError


@dataclass(frozen=True)
class JobRequest:
    """All that a fresh process must know to run a job; the config is composed there, from the same words."""

    config_name: str
    name: str
    sweep_dir: str
    number: int
    hydra_overrides: list[str]
    overrides: list[str]


@dataclass
class ProcessLauncherConf:
    """hydra.launcher.* of this launcher."""

    _target_: str = "hydra_plugins.cxr_process_launcher.ProcessLauncher"
    n_jobs: int = 1


class ProcessLauncher(Launcher):
    """Hydra's side of it; `names` (one per job) may be set before `launch`, to call the jobs something shorter."""

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = n_jobs
        self.names: Sequence[str] = ()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra.

        Raises:
            ConfigError: less than one job at once.
        """
        if self.n_jobs < 1:
            raise ConfigError(f"hydra.launcher.n_jobs={self.n_jobs}: expected 1 or more jobs at once")
        self.task_function, self.config = task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; what each returned or why it failed, in their order, whatever the order of their ends."""
        folder = Path(str(self.config.hydra.sweep.dir)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [JobEnd(initial_job_idx + n, tuple(words), "", "", "") for n, words in enumerate(job_overrides)]
        for job in jobs:
            job_file(folder, job.number).unlink(missing_ok=True)  # of an earlier sweep into the same folder
        names = list(self.names) or labels(jobs)
        children = [self._child(job, folder, name) for job, name in zip(jobs, names, strict=True)]

        def ended(place: int, status: int) -> None:
            job, why = jobs[place], ending(status)
            if read_job(folder, job.number) is None:
                print(f"FAILED {names[place]}: {why}", file=sys.stderr, flush=True)
                keep_job(folder, replace(job, failure=why))

        run_all(children, num_at_once=self.n_jobs, ended=ended)
        return [_returned(read_job(folder, job.number) or job) for job in jobs]

    def _child(self, job: JobEnd, folder: Path, name: str) -> Child:
        request = JobRequest(
            config_name=self.config.hydra.job.config_name,
            name=self.config.hydra.job.name,
            sweep_dir=str(folder),
            number=job.number,
            hydra_overrides=list(self.config.hydra.overrides.hydra),
            overrides=list(job.overrides),
        )
        # the overrides are in the request; here they tell whoever lists processes which is which
        command = (sys.executable, "-m", _module_of(self.task_function), *job.overrides)
        return Child(command, json.dumps(asdict(request)), f"[{name}] " if self.n_jobs > 1 else "")


def _module_of(function: TaskFunction) -> str:
    """The module that runs the function when it is started by `-m`, by `run_command` or `run_launched`.

    Raises:
        ConfigError: this process was started by the name of a file.
    """
    name = function.__module__
    spec = sys.modules[name].__spec__ if name == "__main__" else None
    if name == "__main__" and spec is None:
        raise ConfigError("hydra/launcher=process starts processes by -m: start the command as python -m MODULE")
    return spec.name if spec else name


def _returned(job: JobEnd) -> JobReturn:
    status = JobStatus.FAILED if job.failure else JobStatus.COMPLETED
    value: Any = FailedJob(job.failure) if job.failure else job.returned
    return JobReturn(overrides=list(job.overrides), status=status, _return_value=value)
