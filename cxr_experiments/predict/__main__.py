"""python -m cxr_experiments.predict: a finished run's probability and label for any image files."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job, words_as_images
from cxr_experiments.config.commands import PredictConfig
from cxr_experiments.config.compose import CONF_DIR, home, register
from cxr_experiments.errors import ConfigError, DataError
from cxr_experiments.predict.chosen import asked_network, in_registry, registered_network

register("predict_schema", PredictConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="predict", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, predict."""
    run_job(composed, PredictConfig, predict_images)


def predict_images(config: PredictConfig) -> None:
    """Print one answer per film, in the order given, or write them; draw its heat map where a folder is named.

    Raises:
        ConfigError: no run or no image is named, or heat maps of a network that has none, or a place for heat maps or
            answers that cannot be written.
        RunError: the run is not finished, or has no network for the engine.
        TrackingError: the model registry does not have what is asked for, or does not answer.
        DataError: some films could not be read; raised after all the others have been answered.
    """
    from cxr_experiments.predict.films import named_films
    from cxr_experiments.predict.telling import new_file, tell_csv, tell_lines
    from cxr_experiments.record.answers import answers, chosen_run

    refuse_contradictions(config)
    output = new_file(config.csv) if config.csv is not None else None
    folder = None if in_registry(config) else chosen_run(home() / "runs", config.run, config.experiment_name)
    films = named_films(config.images)
    network = asked_network(folder, config.engine) if folder else registered_network(config)
    mark = "SYNTHETIC " if network.synthetic else ""
    if mark:
        print(f"{mark}this run has seen phantoms only; its answers on real films mean nothing", file=sys.stderr)
    asked = answers(network, films)
    if config.heatmap is not None and folder is not None:
        from cxr_experiments.predict.heatmaps import with_heatmaps, writable_folder

        asked = with_heatmaps(folder, asked, writable_folder(config.heatmap))
    if output is None:
        num_failed = tell_lines(asked, as_json=config.json, mark=mark)
    else:
        num_failed = tell_csv(asked, output, len(films), mark=mark)
    if num_failed:
        raise DataError(f"{num_failed} of {len(films)} images could not be read")


def refuse_contradictions(config: PredictConfig) -> None:
    """What can be told before anything is looked for."""
    if not config.images:
        raise ConfigError("no image is named: python -m cxr_experiments.predict run=ID film.jpg more/*.png folder")
    if config.heatmap is not None and config.engine != "keras":
        raise ConfigError(f"heat maps need the gradients of engine=keras, not engine={config.engine}")
    if config.csv is not None and config.json:
        raise ConfigError("answers go to csv=FILE or, with json=true, to the terminal: use one of the two")


if __name__ == "__main__":
    run_command(main, "predict", PredictConfig, read_words=words_as_images)
