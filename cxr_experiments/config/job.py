"""A job of a sweep in the process that one of our launchers started for it: its command's module, told what to do.

In: a JobRequest, one line of JSON on standard input, which the launcher holds open as long as it lives.  Out: the job's
file in the sweep's folder.
"""

from __future__ import annotations

import inspect
import io
import json
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict

from cxr_experiments.config.compose import CONF_DIR
from cxr_experiments.config.launcher import JobRequest
from cxr_experiments.config.processes import follow_parent, is_child
from cxr_experiments.config.sweep import JobEnd, keep_job, read_job
from cxr_experiments.errors import ConfigError, CxrError, Terminated, reason_of

# Slurm sends SIGUSR2, where submitit asked for it, to every process of a job whose time is up.
STOPS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR2") if hasattr(signal, name))


def run_requested(main: Callable[..., Any]) -> int:
    """Run `main` (also from under `@hydra.main`) as the job that standard input names; 0, or 1 when it failed.

    Raises:
        ConfigError: nobody has asked for a job.
    """
    if not is_child():
        raise ConfigError("this module runs a job of a sweep, and only hydra/launcher=process and its like start it")
    for one in STOPS:
        signal.signal(one, _stop_once)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what a crash would keep is what one wants to read then
    request = JobRequest(**json.loads(follow_parent()))
    return int(_run(inspect.unwrap(main), request) == JobStatus.FAILED)


def _stop_once(signum: int, frame: FrameType | None) -> None:
    """Both may come, and from two sides: the second may not disturb the marking of the run."""
    for one in STOPS:
        signal.signal(
            one, lambda signum, frame: None
        )  # SIG_IGN would tell, with a traceback, of one that waits already
    raise Terminated


def _run(function: Callable[[DictConfig], Any], request: JobRequest) -> JobStatus:
    """Compose the job's config from the words that Hydra's own launcher would take, and run the job as that does."""
    with initialize_config_dir(str(CONF_DIR), job_name=request.name, version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        words = [*request.hydra_overrides, *request.overrides]
        config = loader.load_configuration(request.config_name, overrides=words, run_mode=RunMode.RUN)
        with open_dict(config):
            config.hydra.sweep.dir = request.sweep_dir
            config.hydra.job.id = config.hydra.job.num = request.number
            config.hydra.job.config_name = request.config_name
        return run_job(
            hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks(config)),
            task_function=_kept(function, request),
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        ).status


def _kept(function: Callable[[DictConfig], Any], request: JobRequest) -> Callable[[DictConfig], Any]:
    """The function, leaving in the sweep's folder what it returned or why it failed, unless it does so itself."""
    folder = Path(request.sweep_dir)

    def keep(returned: str, failure: str) -> None:
        if read_job(folder, request.number) is None:
            keep_job(folder, JobEnd(request.number, tuple(request.overrides), "", returned, failure))

    def task(composed: DictConfig) -> Any:
        try:
            returned = function(composed)
        except Exception as error:
            if not isinstance(error, CxrError):
                traceback.print_exc()
            keep("", reason_of(error))
            raise
        keep("" if returned is None else str(returned), "")
        return returned

    return task
