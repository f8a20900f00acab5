"""What a finished run says of one film: the answer of `predict`, what it meant on validation, and the heat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np

from cxr_experiments.app.finished import ended_s, newest_runs
from cxr_experiments.app.scale import Scale, draw_scale
from cxr_experiments.config.compose import load_config
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.errors import BadImageError, RunError, one_line
from cxr_experiments.evidence.calibration import Threshold
from cxr_experiments.evidence.evaluation import Predictions, Score, read_predictions, read_scores
from cxr_experiments.evidence.evaluation.estimates import STATED_PREVALENCE
from cxr_experiments.evidence.metrics import sigmoid
from cxr_experiments.evidence.similar import SimilarFilms, similar_films
from cxr_experiments.evidence.temperature import Temperature, fit_temperature, prior_shift
from cxr_experiments.images.decode import decode_bytes
from cxr_experiments.images.prepare import prepare_bytes
from cxr_experiments.learning import heatmap
from cxr_experiments.learning.trainer import load_model, logit_function
from cxr_experiments.record.answers import answer_of, asked_logits, is_synthetic, network_of
from cxr_experiments.record.explanations import Worth, read_worth
from cxr_experiments.record.figures import ExplainedFilm, FilmPictures, film_pictures
from cxr_experiments.record.network import Network
from cxr_experiments.record.results import read_threshold
from cxr_experiments.record.run_folder import RunFolder, read_json, read_told

NUM_OPEN = 2  # networks kept in memory: the one asked, and the one before
SHOWN = tuple(f"{split}_{name}_at_frozen" for split in ("val", "test") for name in ("sensitivity", "specificity"))


@dataclass(frozen=True, eq=False)
class AskedRun:
    """A finished run with all that is needed to ask it.

    `scores` are those of SHOWN and the AUROC, by name, as far as the run has them; `leaking` says by how much its split
    leaks, "" when it does not; `shift` is what must be added to tempered logits where positives have
    the stated prevalence, NaN where training did not see the classes as validation has them; `ended_s` counts seconds
    since 1970.
    """

    folder: RunFolder
    config: ExperimentConfig
    digest: str
    network: Network
    heat: heatmap.HeatFunction
    worth: Worth
    validation: Predictions
    temperature: Temperature
    shift: float
    threshold: Threshold
    scores: dict[str, Score]
    leaking: str
    synthetic: bool
    ended_s: float


@dataclass(frozen=True, eq=False)
class FilmAnswer:
    """What a run says of one film.

    `probability`, `label` and `threshold` are those of `predict`.  `tempered` is the probability after the temperature
    that fits validation best, `rarer` the same where positives have the stated prevalence; NaN where there is none.
    `pictures` is None where the network has no heat map, and `no_heat` then says why.
    """

    name: str
    run_id: str
    probability: float
    label: str
    threshold: float
    tempered: float
    rarer: float
    similar: SimilarFilms
    scale: Scale
    pictures: FilmPictures | None
    no_heat: str


def open_run(folder: RunFolder) -> AskedRun:
    """Read a finished run.

    Raises:
        ConfigError, RunError: a file of it is missing or not what a run leaves.
    """
    validation, config = read_predictions(folder.predictions("val")), load_config(folder.file("config.yaml"))
    model = load_model(folder.file("model.keras"))
    shown = {*SHOWN, "val_auroc", "test_auroc"}
    return AskedRun(
        folder=folder,
        config=config,
        digest=str(read_json(folder.file("identity.json")).get("dataset_digest", "")),
        network=network_of(folder, logit_function(model)),
        heat=heatmap.heat_function(model),
        worth=read_worth(folder, heatmap.METHOD),
        validation=validation,
        temperature=fit_temperature(validation.label, validation.logit, split=validation.split),
        shift=_shift(validation, config),
        threshold=read_threshold(folder),
        scores={one.name: one for one in read_scores(folder.file("scores.csv")) if one.name in shown},
        leaking=read_told(folder, "leakage.json"),
        synthetic=is_synthetic(folder),
        ended_s=ended_s(folder),
    )


def ask(run: AskedRun, name: str, content: bytes) -> FilmAnswer:
    """What the run says of one image file in memory.

    Args:
        run: opened.
        name: of the film, to be shown; it names no file that is read.
        content: one JPEG, PNG or DICOM file.

    Raises:
        BadImageError: it is none, or cannot be decoded.
        RunError: the network's weights are not usable.
    """
    found = asked_logits(run.network, (name,), lambda _: content)[name]
    if isinstance(found, str):
        raise BadImageError(found)
    answer = answer_of(run.network, name, found)
    probability = answer["probability"]
    pictures, no_heat = None, ""
    try:
        pictures = _pictures(run, content, answer["label"], probability)
    except RunError as error:
        no_heat = str(error)
    tempered = found / run.temperature.value
    return FilmAnswer(
        name=one_line(name, limit=80),
        run_id=answer["run"],
        probability=probability,
        label=answer["label"],
        threshold=answer["threshold"],
        tempered=float(sigmoid(tempered)),
        rarer=float(sigmoid(tempered + run.shift)),
        similar=similar_films(run.validation, probability),
        scale=draw_scale(run.validation, probability, answer["threshold"]),
        pictures=pictures,
        no_heat=no_heat,
    )


def _shift(validation: Predictions, config: ExperimentConfig) -> float:
    if config.imbalance.kind != "none":
        return math.nan
    return prior_shift(validation.label, prevalence=STATED_PREVALENCE, split=validation.split)


def _pictures(run: AskedRun, content: bytes, label: str, probability: float) -> FilmPictures:
    data = run.config.data
    square = prepare_bytes(content, size_px=data.image_size_px, resize=data.resize)
    found = run.heat(np.asarray(square)[None])[0]
    return film_pictures(ExplainedFilm(decode_bytes(content), found, data.resize, probability, label, ""))


class Desk:
    """The runs of a home, opened when they are first asked; one film at a time, since each takes all cores."""

    def __init__(self, home: Path, first: RunFolder) -> None:
        """`home` holds runs/ and results/; `first` is asked when no other run is named."""
        self.home, self.first = home, first
        self._open = lru_cache(maxsize=NUM_OPEN)(lambda folder, state: open_run(folder))
        self._lock = Lock()

    def runs(self) -> dict[str, RunFolder]:
        """`experiment_name/run_id` -> run: the first one, then the newest finished ones."""
        found = (self.first, *newest_runs(self.home / "runs"))
        return {f"{folder.experiment_name}/{folder.run_id}": folder for folder in found}

    def open(self, folder: RunFolder) -> AskedRun:
        """The run, read when it was not yet, or when `evaluate` has scored it since; errors as `open_run`."""
        with self._lock:
            return self._opened(folder)

    def ask(self, folder: RunFolder, name: str, content: bytes) -> FilmAnswer:
        """Errors as `open_run` and `ask`."""
        with self._lock:
            return ask(self._opened(folder), name, content)

    def _opened(self, folder: RunFolder) -> AskedRun:
        scores = folder.file("scores.csv")
        return self._open(folder, scores.stat().st_mtime_ns if scores.is_file() else 0)
