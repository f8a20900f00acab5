"""The command: `python -m cxr_experiments.evaluate run=ID` or `experiment_name=NAME`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.commands import EvaluateConfig
from cxr_experiments.config.compose import CONF_DIR, home, load_config, register
from cxr_experiments.errors import ConfigError, RunError, TrackingError

if TYPE_CHECKING:
    from cxr_experiments.record.run_folder import RunFolder

register("evaluate_schema", EvaluateConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="evaluate", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, score."""
    run_job(composed, EvaluateConfig, evaluate_runs)


def evaluate_runs(config: EvaluateConfig) -> None:
    """Score the runs that `run` or `experiment_name` names, one after another or together as one network.

    Each has its results in its own folder and MLflow run; so have an ensemble and a run with augmented copies.

    Raises:
        ConfigError: neither is given; the text lists the runs there are.
        RunError: no such run, or it has not finished.
        DataError: the images are not those of training.
        TrackingError: MLflow was not told; raised after every run has been scored.
    """
    folders, untold = chosen_runs(config), list[str]()
    if config.ensemble or config.tta:
        from cxr_experiments.evaluate.together import evaluate_together

        for chosen in [folders] if config.ensemble else [[folder] for folder in folders]:
            evaluate_together(chosen, config)
        return
    if config.validation_only:
        raise ConfigError(
            "validation_only=true is for ensemble=true and tta=N: a run's own validation scores stand in its scores.csv"
        )
    from cxr_experiments.evaluate.one_run import evaluate_run, tell_mlflow  # SciPy, once there is something to score
    from cxr_experiments.record import console, run_folder, shortcut_gate

    for folder in folders:
        evidence, is_headline = evaluate_run(folder, config)
        console.say(f"run {folder.run_id} ({folder.experiment_name})")
        console.say_scores(evidence)
        shortcut_gate.say_gate(folder, config.shortcuts, synthetic=evidence.synthetic)
        console.say_leakage(folder, synthetic=evidence.synthetic)
        digest = str(run_folder.read_json(folder.file("identity.json")).get("dataset_digest"))
        console.say_data_state(digest, load_config(folder.file("config.yaml")).data)
        console.say_where(folder, run_folder.mlflow_link(folder))
        try:
            if is_headline:
                tell_mlflow(folder, config, evidence)
        except TrackingError as error:
            untold.append(f"run {folder.run_id}: {error}")
    if untold:
        raise TrackingError("; ".join(untold))


def chosen_runs(config: EvaluateConfig) -> list[RunFolder]:
    """The finished runs that the config names, in the order of their start."""
    from cxr_experiments.record import run_folder

    runs = home() / "runs"
    if config.run:
        words = [word.strip() for word in config.run.split(",") if word.strip()] or [config.run]
        found = [run_folder.find_run(runs, word, config.experiment_name) for word in words]
        for folder in found:
            state = run_folder.read_state(folder)
            if state.status != run_folder.FINISHED:
                raise RunError(f"run {folder.run_id} is {state.status} ({state.reason or 'no reason'}): train it first")
        return list(dict.fromkeys(found))
    folders = [one for one in run_folder.all_runs(runs) if run_folder.read_state(one).status == run_folder.FINISHED]
    if not config.experiment_name:
        known = "".join(f"\n  run={one.run_id}  experiment_name={one.experiment_name}" for one in folders)
        raise ConfigError(f"give run=ID or experiment_name=NAME; finished runs: {known or 'none yet'}")
    named = [one for one in folders if one.experiment_name == config.experiment_name]
    if not named:
        names = ", ".join(sorted({one.experiment_name for one in folders})) or "none yet"
        raise RunError(f"experiment_name={config.experiment_name} has no finished run under {runs}; there are: {names}")
    return named


if __name__ == "__main__":
    run_command(main, "evaluate", EvaluateConfig)
