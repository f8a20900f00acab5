"""python -m cxr_experiments.predict: a finished run's probability and label for any image files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job, words_as_images
from cxr_experiments.config.commands import PredictConfig
from cxr_experiments.config.compose import CONF_DIR, home, load_config, register
from cxr_experiments.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from cxr_experiments.record.exported import Network
    from cxr_experiments.record.run_folder import RunFolder

register("predict_schema", PredictConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="predict", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, predict."""
    run_job(composed, PredictConfig, predict_images)


def predict_images(config: PredictConfig) -> None:
    """Print one answer per image, in the order given, and draw its heat map where a folder for them is named.

    Raises:
        ConfigError: no run or no image is named, or heat maps of an engine that has none, or for a folder that
            cannot be written.
        RunError: the run is not finished, or has no network for the engine.
        DataError: some images could not be read; raised after all the others have been answered.
    """
    if not config.images:
        raise ConfigError("no image is named: python -m cxr_experiments.predict run=ID film.jpg more/*.png")
    if config.heatmap is not None and config.engine != "keras":
        raise ConfigError(f"heat maps need the gradients of engine=keras, not engine={config.engine}")
    from cxr_experiments.record.answers import answers, chosen_run, is_synthetic

    folder = chosen_run(home() / "runs", config.run, config.experiment_name)
    mark = "SYNTHETIC " if is_synthetic(folder) else ""
    if mark:
        print(f"{mark}this run has seen phantoms only; its answers on real films mean nothing", file=sys.stderr)
    asked = answers(asked_network(folder, config.engine), config.images)
    if config.heatmap is not None:
        asked = with_heatmaps(folder, asked, writable_folder(config.heatmap))
    num_failed = 0
    for answer in asked:
        num_failed += "error" in answer
        print(json.dumps(answer) if config.json else mark + table_row(answer), flush=True)
    if num_failed:
        raise DataError(f"{num_failed} of {len(config.images)} images could not be read")


def asked_network(folder: RunFolder, engine: str) -> Network:
    """The run's network by Keras, or by LiteRT when it was exported."""
    from cxr_experiments.record.exported import read_export

    if engine == "litert":
        return read_export(folder)
    from cxr_experiments.learning.trainer import load_model, logit_function
    from cxr_experiments.record.answers import network_of

    return network_of(folder, logit_function(load_model(folder.file("model.keras"))))


def writable_folder(named: str) -> Path:
    """The folder for heat maps, made when it is not there.

    Raises:
        ConfigError: it cannot be made or written.
    """
    place = Path(named).expanduser().absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return place
    except OSError as error:
        raise ConfigError(
            f"heatmap={named}: cannot write to the folder {place}: {error.strerror}; name another"
        ) from error


def with_heatmaps(folder: RunFolder, asked: Iterator[dict[str, Any]], place: Path) -> Iterator[dict[str, Any]]:
    """The answers, each with the path of its film beside the heat that the network found in it.

    Raises:
        RunError: the network has no heat map, or a picture cannot be written.
    """
    from cxr_experiments.images.decode import decode_bytes, read_image_bytes
    from cxr_experiments.images.prepare import prepare_bytes
    from cxr_experiments.learning import heatmap
    from cxr_experiments.learning.trainer import load_model
    from cxr_experiments.record.answers import is_synthetic
    from cxr_experiments.record.explanations import read_worth
    from cxr_experiments.record.figures import Caption, ExplainedFilm, draw_explained
    from cxr_experiments.record.results import read_threshold

    data, worth = load_config(folder.file("config.yaml")).data, read_worth(folder, heatmap.METHOD)
    threshold, synthetic = read_threshold(folder).value, is_synthetic(folder)
    caption = Caption(worth.words, data.classes[1], threshold, synthetic=synthetic)
    print(f"{'SYNTHETIC ' if synthetic else ''}heat maps: {worth.words}", file=sys.stderr)
    heat = heatmap.heat_function(load_model(folder.file("model.keras")))
    for answer in asked:
        if "error" in answer:
            yield answer
            continue
        content = read_image_bytes(Path(answer["image"]))
        film, square = decode_bytes(content), prepare_bytes(content, size_px=data.image_size_px, resize=data.resize)
        found = heat(square[None])[0]
        name = f"{Path(answer['image']).name}\nrun {folder.run_id}"
        one = ExplainedFilm(film, found, data.resize, answer["probability"], answer["label"], name)
        path = place / heatmap_name(answer["image"], folder.run_id)
        try:
            draw_explained(path, one, caption)
        except OSError as error:
            raise RunError(f"the heat map {path} cannot be written: {error.strerror}") from error
        yield {**answer, "heatmap": str(path)}


def heatmap_name(image: str, run_id: str) -> str:
    """A file name that no other image and no other run has: `film-306ec37f53b6-1f2e3d4c.png`.

    The same image asked of the same run again replaces its own picture, and nothing else.

    Example:
        >>> heatmap_name("/a/film 1.jpg", "306ec37f53b6")[:20]
        'film_1-306ec37f53b6-'
    """
    place = hashlib.sha256(os.fsencode(Path(image).absolute())).hexdigest()[:8]
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(image).stem)[:80].lstrip(".-") or "film"
    return f"{stem}-{run_id}-{place}.png"


def table_row(answer: dict[str, Any]) -> str:
    """An answer as one line of a table."""
    if "error" in answer:
        return f"{'-':>8}  {'could not be read':<17}  {answer['image']}: {answer['error']}"
    drawn = f"  -> {answer['heatmap']}" if "heatmap" in answer else ""
    return f"{answer['probability']:8.4f}  {answer['label']:<17}  {answer['image']}{drawn}"


if __name__ == "__main__":
    run_command(main, "predict", PredictConfig, read_words=words_as_images)
