"""What a finished run says of image files: which run is asked, and its answers; the same for a command and for a page.

A network comes in as a function, so that neither Keras nor LiteRT is known here; SciPy and matplotlib, which an
exported network does without, are imported where they are needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cxr_experiments.config.compose import load_config
from cxr_experiments.errors import BadImageError, ConfigError, RunError
from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.images.decode import Gray, read_image_bytes
from cxr_experiments.images.manifest import num_cores
from cxr_experiments.images.prepare import prepare_bytes
from cxr_experiments.images.threads import in_order
from cxr_experiments.record import run_folder
from cxr_experiments.record.network import LogitFunction, Network
from cxr_experiments.record.run_folder import RunFolder

BATCH_SIZE = 32  # half of what `in_order` prepares ahead: the next batch is ready when the network is


def is_synthetic(folder: RunFolder) -> bool:
    """Whether the run was trained on phantoms."""
    return load_config(folder.file("config.yaml")).data.source == "phantom"


def chosen_run(runs: Path, run: str | None, experiment_name: str | None) -> RunFolder:
    """The run named by id, or with `best` that of an experiment with the lowest validation log loss.

    Raises:
        ConfigError: no run is named, or `best` of no experiment.
        RunError: there is no such run, or it is not finished.
    """
    if not run:
        raise ConfigError("no run is named: run=ID, or run=best experiment_name=NAME")
    if run != "best":
        folder = run_folder.find_run(runs, run, experiment_name)
        if run_folder.read_state(folder).status != run_folder.FINISHED:
            raise RunError(
                f"run {folder.run_id} is {run_folder.read_state(folder).status}: only a finished run predicts"
            )
        return folder
    if not experiment_name:
        raise ConfigError("run=best needs experiment_name=NAME: best among which runs?")
    from cxr_experiments.evidence.evaluation import read_scores

    folders = [one for one in run_folder.all_runs(runs) if run_folder.read_state(one).status == run_folder.FINISHED]
    losses = {
        folder: next(one for one in read_scores(folder.file("scores.csv")) if one.name == "val_log_loss")
        for folder in folders
        if folder.experiment_name == experiment_name
    }
    if not losses:
        names = ", ".join(sorted({one.experiment_name for one in folders})) or "none yet"
        raise RunError(f"experiment_name={experiment_name} has no finished run under {runs}; there are: {names}")
    best = min(losses, key=lambda folder: losses[folder].value)
    loss, mark = losses[best], "SYNTHETIC " if is_synthetic(best) else ""
    interval = f"{loss.value:.4f} [{loss.low:.4f}, {loss.high:.4f}], n {loss.num_images}"
    print(f"{mark}run {best.run_id}: lowest validation log loss ({interval}) among {len(losses)} runs", file=sys.stderr)
    return best


def network_of(folder: RunFolder, predict: LogitFunction) -> Network:
    """The run's own network, with how its images are prepared, its classes and the threshold that validation froze.

    Raises:
        ConfigError, RunError: the run's config or threshold cannot be read.
    """
    from cxr_experiments.record.results import read_threshold

    data = load_config(folder.file("config.yaml")).data
    threshold = read_threshold(folder).value
    about = data.image_size_px, data.resize, data.classes, threshold, folder.run_id
    return Network(predict, *about, synthetic=is_synthetic(folder))


def answers(network: Network, films: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One answer per film, in order: probability, label, threshold and run, or the reason why there is none.

    Reading and decoding free the interpreter lock, and so does the network: both use all cores at the same time.

    Raises:
        RunError: a logit is not finite.
    """
    with closing(in_order(partial(_square, network, read_file), films, num_threads=num_cores())) as squares:
        named = zip(films, squares, strict=True)
        while batch := list(islice(named, BATCH_SIZE)):
            logits = _logits(network, [square for _, square in batch])
            yield from (answer_of(network, film, found) for (film, _), found in zip(batch, logits, strict=True))


def read_file(image: str) -> bytes:
    """The bytes of the image file with this path.

    Raises:
        BadImageError: it cannot be read, or is none that could hold a radiograph.
    """
    return read_image_bytes(Path(image))


def asked_logits(network: Network, images: Sequence[str], read: Callable[[str], bytes]) -> dict[str, float | str]:
    """Image -> its logit, or the reason why there is none; all that can be read go through the network at once.

    Args:
        network: the run's.
        images: their names.
        read: name -> the bytes of its file, asked one after another.

    Raises:
        RunError: a logit is not finite.
    """
    return dict(zip(images, _logits(network, [_square(network, read, image) for image in images]), strict=True))


def _square(network: Network, read: Callable[[str], bytes], image: str) -> Gray | str:
    """(size, size, 1) uint8 as the network takes it, or why the file is no film."""
    try:
        return prepare_bytes(read(image), size_px=network.size_px, resize=network.resize)
    except BadImageError as error:
        return str(error)


def _logits(network: Network, squares: Sequence[Gray | str]) -> list[float | str]:
    """The logit of each square; reasons stay what they are."""
    films = [square for square in squares if not isinstance(square, str)]
    logits = network.predict(np.stack(films)) if films else np.zeros(0)
    if not np.isfinite(logits).all():
        raise RunError(f"run {network.run_id} gives a logit that is not finite: its weights are not usable")
    found = iter(logits.tolist())
    return [square if isinstance(square, str) else next(found) for square in squares]


def answer_of(network: Network, image: str, found: float | str) -> dict[str, Any]:
    """What is said of an image: of its logit the probability, label, threshold and run, else the reason."""
    if isinstance(found, str):
        return {"image": image, "error": found}
    probability = float(sigmoid(found))
    return {
        "image": image,
        "probability": probability,
        "label": network.label_of(probability),
        "threshold": network.threshold,
        "run": network.run_id,
    }
