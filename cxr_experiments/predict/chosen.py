"""The network that is asked: a run's, by Keras or LiteRT, or a version in the model registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cxr_experiments.config.commands import PredictConfig
from cxr_experiments.config.compose import home
from cxr_experiments.errors import ConfigError

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

    if engine == "litert":
        return read_export(folder)
    from cxr_experiments.learning.trainer import load_model, logit_function
    from cxr_experiments.record.answers import network_of

    return network_of(folder, logit_function(load_model(folder.file("model.keras"))))
