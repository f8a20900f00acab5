"""`hydra/launcher=ray`: each job of a sweep is a Ray task, on a cluster of this machine's own or on one that runs.

Ray decides where a job runs; the job itself is a fresh process beside Ray's worker (`worker`).  A task is never tried
again by Ray: a job that died is told as failed, and the same command takes its run up where it was.

The published hydra-ray-launcher is not used: it asks for cloudpickle < 3 and boto3, its jobs share Ray's worker
processes and are tried again in silence, and the first that dies for good ends the sweep.
"""

from __future__ import annotations

import math
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cxr_experiments.config.compose import home
from cxr_experiments.config.launcher import Ended, JobLauncher, checked, require
from cxr_experiments.config.processes import GRACE_S
from cxr_experiments.config.quiet import stderr_held_back
from cxr_experiments.config.schema import free, number
from cxr_experiments.config.worker import Errand, Outcome, do_errand, lines_passed_on
from cxr_experiments.errors import ConfigError, RunError, one_line

_GIB = 2**30
# The least that Ray allows: jobs carry a few words, and images come from the store.
_OBJECT_STORE_BYTES = 80_000_000
_LOOK_S = 0.5
# Read by Ray when it is imported.  Nothing is reported to its makers; a job sees the accelerators that it would see
# alone, unless num_gpus says otherwise.
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def _own_settings() -> dict[str, str]:
    """Of a cluster of this machine's own: it listens on 127.0.0.1 alone, on Linux too, and knows who started it.

    Without a token of the sweep's own Ray would keep one in the home directory, for everyone to read.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


@dataclass(frozen=True)
class RayOptions:
    """hydra.launcher.* of this launcher."""

    address: str | None = free(None, "null: a cluster on this machine for the sweep; auto or HOST:PORT: one that runs")
    n_jobs: int = number(1, 1, 100_000, "jobs", "so many at once at most; the cluster's room decides too")
    num_cpus: float = number(1, 0, 1024, "cores", "reserved per job; a job uses all that it finds on its node")
    num_gpus: float = number(0, 0, 64, "GPUs", "reserved per job, which sees no others; 0 leaves what it sees as it is")
    memory_gb: float = number(0, 0, 100_000, "GiB", "reserved per job; 0 reserves none")
    resources: dict[str, Any] = field(default_factory=dict)  # more of what nodes offer, by name: {v100: 1}


class RayLauncher(JobLauncher):
    """Jobs as Ray tasks."""

    def check(self) -> None:
        """Raises: ConfigError: a wrong option, or Ray is not installed."""
        self.asked = checked(self.options, RayOptions)
        require("ray", "ray", "ray")

    def run(self, errands: Sequence[Errand], ended: Ended) -> None:
        """As `JobLauncher.run`.

        Raises:
            ConfigError: a job asks for more than this machine has.
            RunError: no cluster answers.
        """
        with _cluster(self.asked) as ray, lines_passed_on(errands):
            _see_room(ray, self.asked)
            _run_tasks(ray, self.asked, errands, ended)


@contextmanager
def _cluster(asked: RayOptions) -> Iterator[Any]:
    """Ray, connected; a cluster of this machine's own has room for n_jobs, and ends with the block."""
    own = asked.address is None
    for name, value in {**_SETTINGS, **(_own_settings() if own else {})}.items():
        os.environ.setdefault(name, value)
    local: dict[str, Any] = {}
    if own:
        room = max(os.cpu_count() or 1, math.ceil(asked.n_jobs * asked.num_cpus))
        local = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES, "num_cpus": room}
    handler = signal.getsignal(signal.SIGTERM)
    import ray

    try:
        with stderr_held_back():
            ray.init(address=asked.address or "local", configure_logging=False, log_to_driver=False, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"hydra.launcher.address={asked.address}" if asked.address else "a Ray cluster on this machine"
        raise RunError(f"{where} does not answer: {one_line(error)}") from error
    signal.signal(signal.SIGTERM, handler)  # Ray's own exits with another status
    try:
        yield ray
    finally:
        ray.shutdown()


def _needs(asked: RayOptions) -> dict[str, float]:
    """What one job reserves, in Ray's words."""
    named = {"CPU": asked.num_cpus, "GPU": asked.num_gpus, "memory": asked.memory_gb * _GIB, **asked.resources}
    return {name: float(amount) for name, amount in named.items() if amount}


def _see_room(ray: Any, asked: RayOptions) -> None:
    """Ray waits for ever for a node that can hold a job: one may be added to a cluster, but not to this machine."""
    needs = _needs(asked)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= amount for name, amount in needs.items()) for node in nodes):
        return
    told = ", ".join(f"{name} {amount:g}" for name, amount in needs.items())
    if asked.address is None:
        raise ConfigError(f"a job asks for {told}, which this machine has not: ask for less in hydra.launcher.*")
    print(f"no node of the cluster has room for a job ({told}) yet: waiting for one", file=sys.stderr, flush=True)


def _run_tasks(ray: Any, asked: RayOptions, errands: Sequence[Errand], ended: Ended) -> None:
    needs = _needs(asked)
    resources = {name: amount for name, amount in needs.items() if name not in ("CPU", "GPU", "memory")}
    task = ray.remote(_work).options(
        num_cpus=asked.num_cpus,
        num_gpus=asked.num_gpus or None,
        memory=needs.get("memory"),
        resources=resources,
        max_retries=0,  # Ray's own three retries would hide what killed a job
    )
    carried, waiting, running = _environment(), list(enumerate(errands)), dict[Any, int]()
    try:
        while waiting or running:
            while waiting and len(running) < asked.n_jobs:
                place, errand = waiting.pop(0)
                running[task.remote(errand, os.getcwd(), carried)] = place
            for one in ray.wait(list(running), timeout=_LOOK_S)[0]:
                place = running.pop(one)
                _tell(ray, one, place, ended)
    finally:
        for one in running:
            ray.cancel(one)  # Ctrl-C for the worker, which stops its job as it would here
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=GRACE_S + 2)


def _tell(ray: Any, task: Any, place: int, ended: Ended) -> None:
    try:
        outcome: Outcome = ray.get(task)
    except ray.exceptions.RayTaskError as error:  # what our own code raised there
        ended(place, f"it could not be started on its node: {one_line(error.cause)}")
    except ray.exceptions.RayError as error:  # the worker or its node is gone, or Ray killed it for its memory
        ended(place, f"its Ray worker is gone: {one_line(str(error).partition(chr(10))[0])}")
    else:
        ended(place, outcome.why, outcome.end)


def _environment() -> dict[str, str | None]:
    """What a job reads from its environment, as it stands here: a running cluster has one of its own.

    No secret is carried: who tells a server that asks for a password starts the cluster with it.
    Ray sets the number of OpenMP's threads to the cores reserved, which would change what a run computes.
    """
    names = [name for name in os.environ if name.startswith(("CXR_", "TF_")) or name == "PYTHONPATH"]
    return {name: os.environ[name] for name in names} | {
        "CXR_HOME": str(home()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }


def _work(errand: Errand, folder: str, environment: Mapping[str, str | None]) -> Outcome:
    """In Ray's worker: the job in a process beside it, in the folder and the environment of the launcher."""
    os.chdir(folder)
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    return do_errand(errand)
