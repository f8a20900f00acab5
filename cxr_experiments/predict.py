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
from cxr_experiments.errors import BadImageError, ConfigError, DataError, RunError

if TYPE_CHECKING:
    from cxr_experiments.record.exported import Network
    from cxr_experiments.record.run_folder import RunFolder

register("predict_schema", PredictConfig)
BATCH_SIZE = 32


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
    folder = chosen_run(config)
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


def asked_network(folder: RunFolder, engine: str) -> Network:
    """The run's network by Keras, or by LiteRT when it was exported."""
    from cxr_experiments.record.exported import Network, read_export

    if engine == "litert":
        return read_export(folder)
    from cxr_experiments.learning.trainer import load_model, logit_function
    from cxr_experiments.record.results import read_threshold

    data, threshold = load_config(folder.file("config.yaml")).data, read_threshold(folder).value
    predict = logit_function(load_model(folder.file("model.keras")))
    return Network(predict, data.image_size_px, data.resize, data.classes, threshold, folder.run_id)


def answers(network: Network, images: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """One answer per image: probability, label, threshold and run, or the reason why there is none."""
    import numpy as np

    from cxr_experiments.evidence.metrics import sigmoid
    from cxr_experiments.images.prepare import prepare_file

    for start in range(0, len(images), BATCH_SIZE):
        prepared: dict[str, Any] = {}
        reasons: dict[str, str] = {}
        for image in images[start : start + BATCH_SIZE]:
            try:
                prepared[image] = prepare_file(Path(image), size_px=network.size_px, resize=network.resize)
            except BadImageError as error:
                reasons[image] = str(error)
        logits = network.predict(np.stack(list(prepared.values()))) if prepared else np.zeros(0)
        if not np.isfinite(logits).all():
            raise RunError(f"run {network.run_id} gives a logit that is not finite: its weights are not usable")
        probabilities = dict(zip(prepared, sigmoid(logits).tolist(), strict=True))
        for image in images[start : start + BATCH_SIZE]:
            if image in reasons:
                yield {"image": image, "error": reasons[image]}
                continue
            probability = probabilities[image]
            yield {
                "image": image,
                "probability": probability,
                "label": network.classes[int(probability >= network.threshold)],
                "threshold": network.threshold,
                "run": network.run_id,
            }


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
