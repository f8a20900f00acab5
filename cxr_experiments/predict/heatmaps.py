"""One picture per film: beside it the heat that the network found in it."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_experiments.config.compose import load_config
from cxr_experiments.errors import ConfigError, RunError

if TYPE_CHECKING:
    from cxr_experiments.record.run_folder import RunFolder


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
