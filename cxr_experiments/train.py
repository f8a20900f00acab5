"""python -m cxr_experiments.train: one run, told from config to record on one page.  Reads training and validation images only."""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.compose import CONF_DIR, home, register
from cxr_experiments.config.schema import ExperimentConfig

register("schema", ExperimentConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="config", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, run."""
    run_job(composed, ExperimentConfig, run_experiment)


def run_experiment(config: ExperimentConfig) -> str:
    """Train one network, keep everything that it leaves, and return the run's id.

    A finished run with the same identity is named instead of being trained again; `rerun=true` makes a replicate.
    """
    from cxr_experiments.config.identity import identify
    from cxr_experiments.config.seeds import resolve_seeds
    from cxr_experiments.images.manifest import read_manifest
    from cxr_experiments.images.splits import make_split
    from cxr_experiments.images.store import open_store

    seeds = resolve_seeds(config)
    store = open_store(read_manifest(config.data), config.data, folder=home() / "runs" / ".stores")
    split = make_split(store.manifest, config.data, seed=seeds.split)
    identity = identify(config, store.manifest.digest, split.digest)
    ...
    return ""


if __name__ == "__main__":
    run_command(main, "config", ExperimentConfig)
