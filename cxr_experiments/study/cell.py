"""One cell of a study, as a launcher runs it: train, then leave the cell under results/.

It may run in this process or in another one, here or on a cluster: everything it needs comes with its config, and
everything it leaves lies on disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cxr_experiments import train
from cxr_experiments.config.command_line import run_launched
from cxr_experiments.config.compose import home, read_config
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.errors import reason_of
from cxr_experiments.record.cells import CellCard, keep_cell
from cxr_experiments.record.console import printing_to
from cxr_experiments.record.run_folder import RunFolder
from cxr_experiments.study.plan import card_of, label_of


def cell_file(card: CellCard, run_id: str) -> Path:
    """The JSON of a cell, whether it is there yet or not."""
    return home() / "results" / card.study / card.stage / f"{run_id}.json"


def run_of(experiment_name: str, run_id: str) -> RunFolder:
    """The folder of a study's run: on phantoms its experiment is called phantom-<study>."""
    plain, synthetic = (RunFolder(home() / "runs" / f"{mark}{experiment_name}" / run_id) for mark in ("", "phantom-"))
    return synthetic if synthetic.path.is_dir() else plain


def run_cell(composed: DictConfig) -> str:
    """Train the network that `composed` describes, keep its cell, and return the run's id.

    What training prints goes to console.log in the job's folder; a failure is told at once.

    Raises:
        CxrError: training failed; the launcher goes on with the next cell.
    """
    config = read_config(composed, ExperimentConfig)
    card, err = card_of(config.tags), sys.stderr
    try:
        with printing_to(Path(HydraConfig.get().runtime.output_dir) / "console.log"):
            run_id = train.run_experiment(config)
        folder = run_of(config.experiment_name, run_id)
        keep_cell(folder, cell_file(card, run_id).parent, card)
    except Exception as error:
        print(f"FAILED {label_of(card, config)}: {reason_of(error)}", file=err, flush=True)
        raise
    return run_id


if __name__ == "__main__":  # in a process of its own, under hydra/launcher=process
    run_launched(run_cell, ExperimentConfig)
