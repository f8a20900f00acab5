"""`hydra/launcher=submitit_slurm` and `submitit_local`: each job of a sweep is a job of Slurm's, or of submitit here.

submitit writes what it carries as pickles into `.submitit` of the sweep's folder, and reads them there: they are this
user's own, and hold text alone.  The job itself is a fresh process beside submitit's (`worker`).  When its time is up,
or it is preempted, it is stopped as by SIGTERM, so that its run is marked KILLED, submitit queues it again, and it goes
on behind its last epoch.

hydra-submitit-launcher, whose options these are, is not used: the first job that dies ends its sweep while the others
go on unheard, and a preempted run would count as failed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from cxr_experiments.config.launcher import Ended, JobLauncher, checked, require
from cxr_experiments.config.processes import GRACE_S
from cxr_experiments.config.schema import free, number
from cxr_experiments.config.worker import Errand, Outcome, do_errand, lines_passed_on
from cxr_experiments.errors import ConfigError, RunError, Terminated, one_line

_LOOK_S = 1.0


@dataclass(frozen=True)
class LocalOptions:
    """hydra.launcher.* of submitit_local."""

    array_parallelism: int = number(1, 1, 10_000, "jobs", "so many at once; submitit by itself starts all")
    timeout_min: int = number(1440, 1, 525_600, "min", "then the job is stopped, and goes on in a new one")
    max_num_timeout: int = number(5, 0, 5, "attempts", "how often a job that ran out of time is begun again")
    gpus_per_node: int = number(0, 0, 64, "GPUs", "0 hides them all")


@dataclass(frozen=True)
class SlurmOptions:
    """hydra.launcher.* of submitit_slurm: sbatch's own words, and submitit's."""

    array_parallelism: int = number(16, 1, 10_000, "jobs", "so many of the array at once")
    timeout_min: int = number(240, 1, 525_600, "min", "of one attempt; the next one goes on where it was stopped")
    max_num_timeout: int = number(20, 0, 10_000, "attempts", "how often a job that ran out of time is queued again")
    signal_delay_s: int = number(120, 30, 3600, "s", "before its time is up a job is asked to stop")
    name: str = free("cxr", "of the jobs in the queue")
    partition: str | None = free(None, "sbatch --partition")
    qos: str | None = free(None, "sbatch --qos")
    account: str | None = free(None, "sbatch --account")
    constraint: str | None = free(None, "sbatch --constraint")
    exclude: str | None = free(None, "sbatch --exclude: nodes to avoid")
    comment: str | None = free(None, "sbatch --comment")
    cpus_per_task: int = number(4, 1, 1024, "cores", "a job uses all that it is given")
    mem_gb: float | None = free(None, "GB of a node's memory for a job; null: the partition's default")
    gres: str | None = free(None, "sbatch --gres, as gpu:1")
    gpus_per_node: int | None = free(None, "sbatch --gpus-per-node")
    setup: tuple[str, ...] = free((), "lines of shell before the job: module load, a store to copy, ...")
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # more of sbatch: {mail-type: END}


class SubmittedJob:
    """What submitit carries: called on the worker, and asked by submitit for what to queue when it is stopped."""

    def __init__(self, errand: Errand) -> None:
        self.errand = errand

    def __call__(self) -> Outcome:
        """Do the errand; asked to stop, stop the job first and then leave the rest to submitit or to Slurm.

        SIGUSR2 is submitit's word that the time is up: the job is queued again by its own handler, which leaves from
        here.  SIGTERM alone is Slurm's, and SIGKILL follows: whether the job is queued again is not for us to say.
        """
        queue_again, asked = signal.getsignal(signal.SIGUSR2), list[int]()

        def ask(signum: int, frame: FrameType | None) -> None:
            asked.append(signum)
            if len(asked) == 1:
                raise Terminated

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # submitit's controller sends it a second before SIGKILL
        for one in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(one, ask)
        try:
            return do_errand(self.errand)
        except Terminated:
            while signal.SIGUSR2 not in asked:
                if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
                    sys.exit(128 + signal.SIGTERM)
                time.sleep(_LOOK_S)
        assert callable(queue_again)
        queue_again(signal.SIGUSR2, None)
        raise Terminated

    def checkpoint(self) -> Any:
        """The same errand once more: the run knows its last epoch."""
        return _submitit().helpers.DelayedSubmission(SubmittedJob(self.errand))


class LocalLauncher(JobLauncher):
    """Jobs of submitit's local executor: for trying on one machine what will go to Slurm."""

    def check(self) -> None:
        """Raises: ConfigError: a wrong option, or submitit is not installed."""
        self.asked = checked(self.options, LocalOptions)
        require("submitit", "submitit_local", "slurm")

    def run(self, errands: Sequence[Errand], ended: Ended) -> None:
        """As `JobLauncher.run`."""
        executor = _executor("local", errands, self.asked.max_num_timeout)
        executor.update_parameters(timeout_min=self.asked.timeout_min, gpus_per_node=self.asked.gpus_per_node)
        _run_jobs(executor, errands, self.asked.array_parallelism, ended)


class SlurmLauncher(JobLauncher):
    """Jobs as one Slurm array."""

    def check(self) -> None:
        """Raises: ConfigError: a wrong option, or submitit or Slurm is not there."""
        self.asked = checked(self.options, SlurmOptions)
        require("submitit", "submitit_slurm", "slurm")
        if shutil.which("srun") is None:
            raise ConfigError("hydra/launcher=submitit_slurm: there is no srun here: start it where sbatch works")

    def run(self, errands: Sequence[Errand], ended: Ended) -> None:
        """As `JobLauncher.run`.

        Raises:
            RunError: sbatch refused the jobs.
        """
        executor = _executor("slurm", errands, self.asked.max_num_timeout)
        executor.update_parameters(**slurm_parameters(self.asked))
        _run_jobs(executor, errands, len(errands), ended)


def slurm_parameters(asked: SlurmOptions) -> dict[str, Any]:
    """The options in the words of submitit's AutoExecutor.

    A job may be queued again, whatever the cluster's default; and srun is told the number of cores, which it has not
    taken over from sbatch since Slurm 22.05: without it a job would run on one.
    """
    given = {key: value for key, value in asdict(asked).items() if value is not None and key != "max_num_timeout"}
    given["setup"] = list(asked.setup)
    given["additional_parameters"] = {"requeue": True, **asked.additional_parameters}
    given["srun_args"] = [f"--cpus-per-task={asked.cpus_per_task}"]
    shared = {"name", "timeout_min", "cpus_per_task", "mem_gb", "gpus_per_node"}
    return {key if key in shared else f"slurm_{key}": value for key, value in given.items()}


def _submitit() -> Any:
    """submitit is an extra: it may be absent, and has no types."""
    import submitit

    return submitit


def _executor(cluster: str, errands: Sequence[Errand], max_num_timeout: int) -> Any:
    folder = Path(errands[0].folder) / ".submitit" / "%j"
    return _submitit().AutoExecutor(folder, cluster, **{f"{cluster}_max_num_timeout": max_num_timeout})


def _run_jobs(executor: Any, errands: Sequence[Errand], at_once: int, ended: Ended) -> None:
    waiting, running = list(enumerate(errands)), dict[int, Any]()
    with lines_passed_on(errands):
        try:
            while waiting or running:
                some, waiting = waiting[: at_once - len(running)], waiting[at_once - len(running) :]
                running |= zip(
                    (place for place, _ in some), _submitted(executor, [one for _, one in some]), strict=True
                )
                time.sleep(_LOOK_S)
                for place, job in list(running.items()):
                    if job.done():
                        del running[place]
                        _tell(job, place, ended)
        finally:
            _cancel(list(running.values()))


def _submitted(executor: Any, errands: Sequence[Errand]) -> list[Any]:
    """The jobs, as one array where there are several."""
    if not errands:
        return []
    try:
        with _interrupts_held_back(), contextlib.redirect_stderr(io.StringIO()), executor.batch():
            return [executor.submit(SubmittedJob(errand)) for errand in errands]
    except _submitit().core.utils.FailedJobError as error:
        raise RunError(f"the jobs were refused: {one_line(error)}") from error  # sbatch's own words


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """What is started meanwhile never hears of Ctrl-C in the terminal: the launcher does, as soon as this is over.

    A controller of submitit's would end with a traceback, and kill its job after a second.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _tell(job: Any, place: int, ended: Ended) -> None:
    errors = _submitit().core.utils
    try:
        outcome: Outcome = job.result()
    except errors.FailedJobError as error:  # its trace: what our own code, or submitit, raised there
        told = re.findall(r"^[\w.]+: (.+)$", str(error), re.MULTILINE) or [str(error)]
        ended(place, one_line(told[-1]))
    except errors.UncompletedJobError:
        ended(place, f"its job {job.job_id} ended without a result ({job.state}); see {job.paths.stderr}")
    else:
        ended(place, outcome.why, outcome.end)


def _cancel(jobs: Sequence[Any]) -> None:
    """Stop what runs and take what waits out of the queue."""
    if not jobs:
        return
    print(
        f"cancelling {len(jobs)} job{'s' * (len(jobs) > 1)}, keeping the last epoch of each",
        file=sys.stderr,
        flush=True,
    )
    if not hasattr(jobs[0], "_process"):
        first = {job.job_id.partition("_")[0]: job for job in jobs}
        for array, job in first.items():
            type(job)(job.paths.folder, array).cancel(check=False)
        return
    families = [_family(int(job.job_id)) for job in jobs]
    for family in families:
        for controller in family[:1]:  # hands it on to submitit's process, which stops its job and ends
            controller.terminate()
    for left in psutil.wait_procs([one for family in families for one in family], timeout=GRACE_S + 2)[1]:
        left.kill()


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []
