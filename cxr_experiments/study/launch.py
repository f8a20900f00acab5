"""The missing cells of a plan go to Hydra's own launcher: `hydra/launcher=` takes whatever is installed."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode
from omegaconf import open_dict

from cxr_experiments.study.cell import cell_file, run_cell
from cxr_experiments.study.plan import Plan, PlannedCell
from cxr_experiments.study.table import watched


def train_missing(plan: Plan) -> dict[str, str]:
    """Train the cells of the plan that no cell file answers, with a live table; run id -> reason of the failed ones."""
    missing = [cell for cell in plan.cells if not cell_file(cell.card, cell.identity.run_id).is_file()]
    with watched(plan, missing):
        return launch(missing)


def launch(cells: Sequence[PlannedCell]) -> dict[str, str]:
    """Run the cells, in order as far as the launcher keeps one; run id -> reason of those that failed.

    Must be called inside a command's Hydra job, whose `hydra/launcher` and `hydra.launcher.*` it hands on.
    """
    if not cells:
        return {}
    loader = GlobalHydra.instance().config_loader()
    own = [word for word in HydraConfig.get().overrides.hydra if word.startswith(("hydra/launcher", "hydra.launcher"))]
    sweep = f"hydra.sweep.dir='{HydraConfig.get().sweep.dir}'"
    config = loader.load_configuration("config", overrides=[*own, sweep], run_mode=RunMode.MULTIRUN)
    with open_dict(config):
        config.hydra.job.name, config.hydra.job.config_name = "study", "config"
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    launcher = Plugins.instance().instantiate_launcher(context, run_cell, config)
    results = launcher.launch([list(cell.overrides) for cell in cells], initial_job_idx=0)
    return {cell.identity.run_id: reason for cell, one in zip(cells, results, strict=True) if (reason := _reason(one))}


def _reason(result: JobReturn) -> str:
    """Why a job failed; empty when it did not."""
    if result.status == JobStatus.COMPLETED:
        return ""
    try:
        return str(result.return_value)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
