"""Each job of a sweep in a fresh process of its own: what all our launchers share, and `hydra/launcher=process`.

What ends one job (a crash in compiled code, the system's want of memory, a node that goes) costs that job alone: it is
told, kept in the sweep's folder as failed, and the others go on.  What a job does is in `job`, how processes are held
in `processes`, how jobs reach other machines in `ray_launcher` and `submitit_launcher`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from cxr_experiments.config.compose import from_mapping
from cxr_experiments.config.processes import Child, ending, run_all
from cxr_experiments.config.sweep import FailedJob, JobEnd, job_file, keep_job, labels, log_files, read_job
from cxr_experiments.config.worker import Errand
from cxr_experiments.errors import ConfigError

Options = TypeVar("Options")


@dataclass(frozen=True)
class JobRequest:
    """All that a fresh process must know to run a job; the config is composed there, from the same words."""

    config_name: str
    name: str
    sweep_dir: str
    number: int
    hydra_overrides: list[str]
    overrides: list[str]


class Ended(Protocol):
    """Called when a job has ended: its place, why if it could not say so, and its end where that came by other ways."""

    def __call__(self, place: int, why: str, end: JobEnd | None = None) -> None: ...


class JobLauncher(Launcher):
    """Hydra's side of a launcher; `names` (one per job) may be set before `launch`, to call the jobs something shorter.

    A class, since Hydra takes nothing else; each kind says in `check` what it needs, and in `run` where jobs run.
    """

    def __init__(self, **options: Any) -> None:
        self.options = {key: _plain(value) for key, value in options.items()}
        self.names: Sequence[str] = ()

    def check(self) -> None:
        """Look at the options before anything runs.

        Raises:
            ConfigError: a wrong option, or the engine is not installed.
        """
        raise NotImplementedError

    def run(self, errands: Sequence[Errand], ended: Ended) -> None:
        """Run the jobs, each in a fresh process; left early, by an exception or a signal, it stops them."""
        raise NotImplementedError

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra.

        Raises:
            ConfigError: as `check` says.
        """
        self.task_function, self.config = task_function, config
        self.check()

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; what each returned or why it failed, in their order, whatever the order of their ends."""
        folder = Path(str(self.config.hydra.sweep.dir)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [JobEnd(initial_job_idx + n, tuple(words), "", "", "") for n, words in enumerate(job_overrides)]
        for job in jobs:  # what an earlier sweep into the same folder has left
            for path in (job_file(folder, job.number), *log_files(folder, job.number).values()):
                path.unlink(missing_ok=True)
        names = list(self.names) or labels(jobs)
        errands = [self._errand(job, folder, name) for job, name in zip(jobs, names, strict=True)]

        def ended(place: int, why: str, end: JobEnd | None = None) -> None:
            if read_job(folder, jobs[place].number) is not None:
                return
            if end is None:
                print(f"FAILED {names[place]}: {why}", file=sys.stderr, flush=True)
            keep_job(folder, end or replace(jobs[place], failure=why))

        self.run(errands, ended)
        return [_returned(read_job(folder, job.number) or job) for job in jobs]

    def _errand(self, job: JobEnd, folder: Path, name: str) -> Errand:
        request = JobRequest(
            config_name=self.config.hydra.job.config_name,
            name=self.config.hydra.job.name,
            sweep_dir=str(folder),
            number=job.number,
            hydra_overrides=list(self.config.hydra.overrides.hydra),
            overrides=list(job.overrides),
        )
        # the overrides are in the request; here they tell whoever lists processes which is which
        command = (sys.executable, "-m", module_of(self.task_function), *job.overrides)
        return Errand(str(folder), job.number, Child(command, json.dumps(asdict(request)), f"[{name}] "))


@dataclass
class ProcessLauncherConf:
    """hydra.launcher.* of this launcher."""

    _target_: str = "hydra_plugins.cxr_process_launcher.ProcessLauncher"
    n_jobs: int = 1


class ProcessLauncher(JobLauncher):
    """On this machine, `n_jobs` at once; what a job prints comes as it is printed."""

    def check(self) -> None:
        """Raises: ConfigError: less than one job at once."""
        if self.options["n_jobs"] < 1:
            raise ConfigError(f"hydra.launcher.n_jobs={self.options['n_jobs']}: expected 1 or more jobs at once")

    def run(self, errands: Sequence[Errand], ended: Ended) -> None:
        """As `JobLauncher.run`; one job at a time needs no label before its lines."""
        n_jobs = self.options["n_jobs"]
        labelled = [one.child if n_jobs > 1 else replace(one.child, prefix="") for one in errands]
        run_all(labelled, num_at_once=n_jobs, ended=lambda place, status: ended(place, ending(status)))


def checked(options: dict[str, Any], schema: type[Options]) -> Options:
    """hydra.launcher.* of an engine, as its frozen, range-checked dataclass.

    Raises:
        ConfigError: an unknown key, a wrong type, a value out of range.
    """
    return from_mapping(options, schema, "hydra.launcher.")


def require(package: str, launcher: str, extra: str) -> None:
    """See that an engine is there, without importing it.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"hydra/launcher={launcher} needs {package}, which is not installed: pip install 'cxr-experiments[{extra}]'"
        )


def module_of(function: TaskFunction) -> str:
    """The module that runs the function when it is started by `-m`, by `run_command` or `run_launched`.

    Raises:
        ConfigError: this process was started by the name of a file.
    """
    name = function.__module__
    spec = sys.modules[name].__spec__ if name == "__main__" else None
    if name == "__main__" and spec is None:
        raise ConfigError("this hydra/launcher starts processes by -m: start the command as python -m MODULE")
    return spec.name if spec else name


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _returned(job: JobEnd) -> JobReturn:
    status = JobStatus.FAILED if job.failure else JobStatus.COMPLETED
    value: Any = FailedJob(job.failure) if job.failure else job.returned
    return JobReturn(overrides=list(job.overrides), status=status, _return_value=value)
