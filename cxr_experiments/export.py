"""python -m cxr_experiments.export run=ID: a finished run's network for LiteRT, held against Keras on validation."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import Found, run_command, run_job
from cxr_experiments.config.commands import ExportConfig
from cxr_experiments.config.compose import CONF_DIR, home, load_config, register
from cxr_experiments.errors import ConfigError, RunError

if TYPE_CHECKING:
    from cxr_experiments.evidence.evaluation import Predictions
    from cxr_experiments.record.run_folder import RunFolder

register("export_schema", ExportConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="export", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, export."""
    run_job(composed, ExportConfig, export_run)


@dataclass(frozen=True)
class Agreement:
    """How the export answers beside Keras, on the run's validation images.

    Attributes:
        num_images: how many.
        max_probability_difference: the largest between the two.
        num_other_labels: images on the other side of the frozen threshold.
        auroc_difference, auroc_low, auroc_high: export less Keras, with its 95 % interval over patients.
    """

    num_images: int
    max_probability_difference: float
    num_other_labels: int
    auroc_difference: float
    auroc_low: float
    auroc_high: float


def export_run(config: ExportConfig) -> None:
    """Write export/model.tflite and export/export.json into the run's folder, and say how far they agree with Keras.

    Raises:
        ConfigError: no run is named.
        RunError: it is not finished, or its network cannot be exported.
        DataError: its images are not where they were.
        Found: the export answers otherwise than Keras by more than `tolerance`.
    """
    from cxr_experiments.record.run_folder import FINISHED, find_run, read_state, write_json

    if not config.run:
        raise ConfigError("no run is named: export run=ID")
    folder = find_run(home() / "runs", config.run, config.experiment_name)
    if read_state(folder).status != FINISHED:
        raise RunError(f"run {folder.run_id} is {read_state(folder).status}: only a finished run is exported")
    content, trained = network_of(folder), load_config(folder.file("config.yaml"))
    path = folder.file("export") / "model.tflite"
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)
    agreement = compare_with_keras(folder, config)
    told = {
        "run": folder.run_id,
        "sha256": hashlib.sha256(content).hexdigest(),
        "image_size_px": trained.data.image_size_px,
        "resize": trained.data.resize,
        "classes": list(trained.data.classes),
        "threshold": read_json_threshold(folder),
        "synthetic": trained.data.source == "phantom",
        "agreement": asdict(agreement),
    }
    write_json(path.with_name("export.json"), told)
    say(folder, agreement, num_bytes=len(content), synthetic=bool(told["synthetic"]))
    if agreement.max_probability_difference > config.tolerance:
        raise Found(f"the export's probabilities are not Keras' within tolerance={config.tolerance:g}")


def network_of(folder: RunFolder) -> bytes:
    """The run's network as a .tflite file."""
    from cxr_experiments.learning.portable_model import to_tflite  # TensorFlow now
    from cxr_experiments.learning.trainer import load_model

    return to_tflite(load_model(folder.file("model.keras")))


def read_json_threshold(folder: RunFolder) -> float:
    """The threshold that validation froze."""
    from cxr_experiments.record.results import read_threshold

    return float(read_threshold(folder).value)


def compare_with_keras(folder: RunFolder, config: ExportConfig) -> Agreement:
    """Ask the export about the validation images, and hold its answers against those that Keras gave at training."""
    import numpy as np

    from cxr_experiments.evidence.comparison import Cell, Rows
    from cxr_experiments.evidence.ensemble import paired_difference
    from cxr_experiments.evidence.evaluation import read_predictions

    keras, export = read_predictions(folder.predictions("val")), asked_again(folder, config)
    difference = np.abs(export.probability - keras.probability)
    threshold = read_json_threshold(folder)
    before, after = (Cell(folder.run_id, 0, "val", Rows.of(one), one.dataset_digest) for one in (keras, export))
    auroc = paired_difference([before], [after], "auroc")
    return Agreement(
        num_images=len(difference),
        max_probability_difference=float(difference.max()),
        num_other_labels=int(np.sum((export.probability >= threshold) != (keras.probability >= threshold))),
        auroc_difference=float(auroc.value),
        auroc_low=float(auroc.low),
        auroc_high=float(auroc.high),
    )


def asked_again(folder: RunFolder, config: ExportConfig) -> Predictions:
    """The export's predictions of the run's own validation images."""
    from dataclasses import replace

    from cxr_experiments.evidence.evaluation import predict_split
    from cxr_experiments.images.splits import read_split
    from cxr_experiments.portable.litert import portable_logits
    from cxr_experiments.record import console

    trained = load_config(folder.file("config.yaml"))
    data = trained.data if config.data.root is None else replace(trained.data, root=config.data.root)
    store = console.open_counted(data, home() / "runs")
    split = read_split(folder.file("split.csv"), store.manifest)
    predict = portable_logits(folder.file("export") / "model.tflite")
    return predict_split(predict, store.images, store.manifest, split.val, split="val", run_id=folder.run_id)


def say(folder: RunFolder, agreement: Agreement, *, num_bytes: int, synthetic: bool) -> None:
    """Where it is, how large, and how it agrees."""
    from cxr_experiments.record import console

    path = folder.file("export") / "model.tflite"
    keras = folder.file("model.keras").stat().st_size
    console.say(f"{path}: {num_bytes / 2**20:.1f} MiB (model.keras {keras / 2**20:.1f} MiB)")
    console.say(
        f"beside Keras on {agreement.num_images} validation images: probabilities differ by at most "
        f"{agreement.max_probability_difference:.1e}, {agreement.num_other_labels} labels at the frozen threshold; "
        f"AUROC by {agreement.auroc_difference:.1e} [{agreement.auroc_low:.1e}, {agreement.auroc_high:.1e}]",
        synthetic=synthetic,
    )
    console.say(f"ask it: python -m cxr_experiments.predict run={folder.run_id} engine=litert film.jpg")


if __name__ == "__main__":
    run_command(main, "export", ExportConfig)
