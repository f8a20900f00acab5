"""A `-m` sweep that has ended: its finished runs by cell, their table, and their summaries in MLflow.

In: the sweep's folder, where each job has left what became of it, and the run folders.  A job that a run from before
answered counts that run.  Failed jobs are named and left out; which cell is better is not said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_experiments.config.compose import load_config
from cxr_experiments.config.identity import run_name
from cxr_experiments.config.schema import ExperimentConfig, TrackingConfig
from cxr_experiments.config.sweep import read_jobs, varying
from cxr_experiments.errors import CxrError
from cxr_experiments.evidence.comparison import Arm, Cell, Rows
from cxr_experiments.evidence.evaluation import read_predictions
from cxr_experiments.record import console
from cxr_experiments.record.run_folder import FINISHED, RunFolder, read_json, read_state
from cxr_experiments.record.summary import CellRuns, cell_lines, summarise, tell_cells

# What a repetition changes: these overrides tell runs of one cell apart, not cells.
REPEATED = ("seed", "seeds.", "data.fold")


@dataclass(frozen=True, eq=False)
class FinishedJob:
    """A job's run: its folder, what it is (identity.json and config), and the overrides that others lack."""

    folder: RunFolder
    identity: dict[str, Any]
    config: ExperimentConfig
    overrides: dict[str, str]

    @property
    def key(self) -> str:
        """The same for all runs of one setting on one data set, with one version of the code."""
        parts = ("dataset_digest", "versions", "source_digest", "builder_digest")
        config = {name: value for name, value in self.identity["config"].items() if name != "data.fold"}
        told = [self.folder.experiment_name, config, *(self.identity[part] for part in parts)]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def repetition(self) -> str:
        """Which of the cell's repetitions it is; a replicate of another run is the same one."""
        return json.dumps([self.identity["seeds"], self.identity["config"].get("data.fold")], sort_keys=True)


def tell_sweep(sweep: Path, runs: Path, where: TrackingConfig) -> None:
    """Print the sweep's cells in the order of its jobs, and write a summary run of each into MLflow.

    Args:
        sweep: its folder.
        runs: runs/ under the home.
        where: MLflow's place.
    """
    jobs = read_jobs(sweep)
    found = finished_jobs(sweep, runs)
    for experiment_name in dict.fromkeys(one.folder.experiment_name for one in found):
        cells = []
        for group in by_cell([one for one in found if one.folder.experiment_name == experiment_name]):
            try:
                cells.append(summarise(_runs_of(group)))
            except CxrError as error:
                console.say(f"{_name(group[0])} is left out: {error}")
        if not cells:
            continue
        print()
        console.say("\n".join(cell_lines(cells)), synthetic=experiment_name.startswith("phantom-"))
        if failed := sum(bool(job.failure) for job in jobs):
            console.say(f"{failed} of {len(jobs)} jobs failed and are left out")
        if link := tell_cells(where, runs.parent, experiment_name, cells):
            console.say(f"compare these cells: make ui, then http://127.0.0.1:5000/{link}")


def finished_jobs(sweep: Path, runs: Path) -> list[FinishedJob]:
    """The finished runs of a sweep, in the order of its jobs, each once."""
    jobs = read_jobs(sweep)
    found: dict[Path, FinishedJob] = {}
    for job, overrides in zip(jobs, varying(jobs), strict=True):
        for mark in ("", "phantom-"):
            folder = RunFolder(runs / f"{mark}{job.experiment_name}" / job.returned)
            if job.returned and folder.file("events.jsonl").is_file() and read_state(folder).status == FINISHED:
                config = load_config(folder.file("config.yaml"))
                one = FinishedJob(folder, read_json(folder.file("identity.json")), config, overrides)
                found.setdefault(folder.path, one)
    return list(found.values())


def by_cell(jobs: Sequence[FinishedJob]) -> list[list[FinishedJob]]:
    """The jobs that differ in seeds and folds alone, together, in the order given; each repetition counts once."""
    cells: dict[str, dict[str, FinishedJob]] = {}
    for job in jobs:
        cells.setdefault(job.key, {}).setdefault(job.repetition, job)
    return [list(repetitions.values()) for repetitions in cells.values()]


def _runs_of(group: Sequence[FinishedJob]) -> CellRuns:
    first = group[0]
    folds = {job.identity["config"].get("data.fold") for job in group} if first.config.data.num_folds else set()
    return CellRuns(
        name=_name(first),
        key=first.key,
        arms={"val": Arm(_name(first), tuple(_cell(job, place) for place, job in enumerate(group)))},
        num_seeds=len({json.dumps(job.identity["seeds"], sort_keys=True) for job in group}),
        num_folds=len(folds),
        params=_telling(first),
        source=first.config.data.source,
    )


def _telling(job: FinishedJob) -> dict[str, str]:
    """The overrides that tell its cell from others of the sweep."""
    return {key: value for key, value in job.overrides.items() if not key.startswith(REPEATED)}


def _name(job: FinishedJob) -> str:
    """`augmentation=flip depth=deep`, or what its runs are called where they are the only cell."""
    words = " ".join(f"{key}={value}" for key, value in _telling(job).items())
    return words or run_name(job.config, 0).removesuffix(f"-s{job.config.seed}")


def _cell(job: FinishedJob, place: int) -> Cell:
    rows = read_predictions(job.folder.predictions("val"))
    return Cell(
        run_id=job.folder.run_id,
        seed=place,
        split="val",
        rows=Rows.of(rows),
        dataset_digest=rows.dataset_digest,
        synthetic=job.config.data.source == "phantom",
    )
