"""Whom `run=` names: a run of this home by its id, the best of an experiment, or a version in the model registry."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cxr_experiments.config.commands import PredictConfig
from cxr_experiments.config.compose import home, load_config
from cxr_experiments.errors import ConfigError, RunError

if TYPE_CHECKING:
    from cxr_experiments.record.network import Network
    from cxr_experiments.record.run_folder import RunFolder

REGISTRY = "models:"


def in_registry(config: PredictConfig) -> bool:
    """Whether the network is asked for by its name in the registry."""
    return (config.run or "").startswith(REGISTRY)


def registered_network(config: PredictConfig) -> Network:
    """The network behind `models:/NAME@ALIAS` or `models:/NAME/VERSION`; nothing that came with it is executed.

    Raises:
        ConfigError: no such name can be, or it is asked for what only a run of this home has.
        TrackingError: the registry does not have it, or does not answer.
        RunError: what it has is no network that `register` wrote.
    """
    from cxr_experiments.record import tracking

    if config.engine != "keras" or config.heatmap is not None:
        raise ConfigError(f"{config.run} has neither heat maps nor engine=litert: name the run itself, run=ID")
    version = tracking.parse_version(str(config.run))
    with tracking.fetched(tracking.registry_of(config.tracking, home()), version, home()) as place:
        from cxr_experiments.learning.trainer import load_model, logit_function
        from cxr_experiments.record.registered import read_registered

        return read_registered(place, lambda path: logit_function(load_model(path)))


def asked_network(folder: RunFolder, engine: str) -> Network:
    """The run's network by Keras, or by LiteRT when it was exported."""
    from cxr_experiments.record.exported import read_export
    from cxr_experiments.record.network import Network

    if engine == "litert":
        return read_export(folder)
    from cxr_experiments.learning.trainer import load_model, logit_function
    from cxr_experiments.record.results import read_threshold

    data, threshold = load_config(folder.file("config.yaml")).data, read_threshold(folder).value
    predict = logit_function(load_model(folder.file("model.keras")))
    about = data.image_size_px, data.resize, data.classes, threshold, folder.run_id
    return Network(predict, *about, synthetic=is_synthetic(folder))


def is_synthetic(folder: RunFolder) -> bool:
    """Whether the run was trained on phantoms."""
    return load_config(folder.file("config.yaml")).data.source == "phantom"


def chosen_run(config: PredictConfig) -> RunFolder:
    """The run named by id, or the best of an experiment by validation log loss."""
    from cxr_experiments.record import run_folder

    runs = home() / "runs"
    if not config.run:
        raise ConfigError("no run is named: run=ID, or run=best experiment_name=NAME")
    if config.run != "best":
        folder = run_folder.find_run(runs, config.run, config.experiment_name)
        if run_folder.read_state(folder).status != run_folder.FINISHED:
            raise RunError(
                f"run {folder.run_id} is {run_folder.read_state(folder).status}: only a finished run predicts"
            )
        return folder
    if not config.experiment_name:
        raise ConfigError("run=best needs experiment_name=NAME: best among which runs?")
    from cxr_experiments.evidence.evaluation import read_scores

    folders = [one for one in run_folder.all_runs(runs) if run_folder.read_state(one).status == run_folder.FINISHED]
    losses = {
        folder: next(one for one in read_scores(folder.file("scores.csv")) if one.name == "val_log_loss")
        for folder in folders
        if folder.experiment_name == config.experiment_name
    }
    if not losses:
        names = ", ".join(sorted({one.experiment_name for one in folders})) or "none yet"
        raise RunError(f"experiment_name={config.experiment_name} has no finished run under {runs}; there are: {names}")
    best = min(losses, key=lambda folder: losses[folder].value)
    loss, mark = losses[best], "SYNTHETIC " if is_synthetic(best) else ""
    interval = f"{loss.value:.4f} [{loss.low:.4f}, {loss.high:.4f}], n {loss.num_images}"
    print(f"{mark}run {best.run_id}: lowest validation log loss ({interval}) among {len(losses)} runs", file=sys.stderr)
    return best
