"""The missing cells of a plan go to Hydra's own launcher: `hydra/launcher=` takes whatever is installed."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import open_dict

from cxr_experiments.config.compose import searchpath
from cxr_experiments.config.hydra_errors import interruptions_kept
from cxr_experiments.config.launcher import JobLauncher
from cxr_experiments.errors import RunError, Terminated, reason_of
from cxr_experiments.study.cell import cell_file, run_cell
from cxr_experiments.study.plan import Plan, PlannedCell
from cxr_experiments.study.table import watched


@dataclass(frozen=True)
class Outcome:
    """What became of a job: the run's id, or why it failed."""

    run_id: str
    reason: str


def train_missing(plan: Plan) -> dict[str, str]:
    """Train the cells of the plan that no cell file answers, with a live table; label -> reason of the failed ones."""
    missing = unanswered(plan)
    try:
        with interruptions_kept(), watched(plan, missing):
            outcomes = launch(missing)
    except (KeyboardInterrupt, Terminated):
        done = len(plan.cells) - len(unanswered(plan))
        print(f"{plan.name}: stopped with {done} of {len(plan.cells)} cells done; the same command goes on", flush=True)
        raise
    return {cell.label: one.reason for cell, one in zip(missing, outcomes, strict=True) if one.reason}


def unanswered(plan: Plan) -> list[PlannedCell]:
    """The cells that no file under results/ answers."""
    return [cell for cell in plan.cells if not cell_file(cell.card, cell.identity.run_id).is_file()]


def launch(cells: Sequence[PlannedCell]) -> list[Outcome]:
    """Run the cells, in order as far as the launcher keeps one; what became of each.

    Must be called inside a command's Hydra job, whose `hydra/launcher` and `hydra.launcher.*` it hands on.
    """
    if not cells:
        return []
    loader = GlobalHydra.instance().config_loader()
    own = [word for word in HydraConfig.get().overrides.hydra if word.startswith(("hydra/launcher", "hydra.launcher"))]
    own += searchpath()
    sweep = f"hydra.sweep.dir='{HydraConfig.get().sweep.dir}'"
    config = loader.load_configuration("config", overrides=[*own, sweep], run_mode=RunMode.MULTIRUN)
    with open_dict(config):
        config.hydra.job.name, config.hydra.job.config_name = "study", "config"
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    launcher = Plugins.instance().instantiate_launcher(context, run_cell, config)
    if isinstance(launcher, JobLauncher):
        launcher.names = [cell.label for cell in cells]
    try:
        results = launcher.launch([list(cell.overrides) for cell in cells], initial_job_idx=0)
    except BrokenProcessPool as error:
        why = str(error).partition("\n")[0]
        raise RunError(f"a process that trained a cell was killed, the same command goes on: {why}") from error
    return [_outcome(one) for one in results]


def _outcome(result: JobReturn) -> Outcome:
    if result.status == JobStatus.COMPLETED:
        return Outcome(str(result.return_value), "")
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the cell has said why; Hydra would list its overrides
            return Outcome("", str(result.return_value))  # reading it raises what the job raised
    except Exception as error:
        return Outcome("", reason_of(error))
