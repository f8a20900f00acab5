"""python -m cxr_experiments.export run=ID: a finished run's network for LiteRT, held against Keras on validation."""

from __future__ import annotations

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
    """Write the network for LiteRT into the run's folder, and say how far it agrees with Keras.

    Raises:
        ConfigError: no run is named.
        RunError: it is not finished, or its network cannot be exported.
        DataError: its images are not where they were, or have changed.
        Found: the export answers otherwise than Keras by more than `tolerance`.
    """
    from cxr_experiments.evidence.evaluation import predict_split, read_predictions
    from cxr_experiments.record.exported import keep_export, litert_logits
    from cxr_experiments.record.results import read_threshold
    from cxr_experiments.record.run_images import images_of, proven_split, with_root

    folder = finished_run(config)
    trained, threshold = with_root(load_config(folder.file("config.yaml")), config.data.root), read_threshold(folder)
    store = images_of(trained)
    validation = proven_split(folder, trained, store).val
    from cxr_experiments.learning.portable_model import to_tflite  # TensorFlow, after the cheap checks
    from cxr_experiments.learning.trainer import load_model

    content = to_tflite(load_model(folder.file("model.keras")))
    images = (store.images, store.manifest, validation)
    export = predict_split(litert_logits(content), *images, split="val", run_id=folder.run_id)
    agreement = agreement_of(read_predictions(folder.predictions("val")), export, threshold.value)
    told = {
        "run": folder.run_id,
        "image_size_px": trained.data.image_size_px,
        "resize": trained.data.resize,
        "classes": list(trained.data.classes),
        "threshold": threshold.value,
        "synthetic": store.manifest.synthetic,
        "agreement": asdict(agreement),
    }
    keep_export(folder, content, told)
    say(folder, agreement, synthetic=store.manifest.synthetic)
    if agreement.max_probability_difference > config.tolerance:
        raise Found(f"the export's probabilities are not Keras' within tolerance={config.tolerance:g}")


def finished_run(config: ExportConfig) -> RunFolder:
    """The run that is named, when it is finished."""
    from cxr_experiments.record.run_folder import FINISHED, find_run, read_state

    if not config.run:
        raise ConfigError("no run is named: export run=ID")
    folder = find_run(home() / "runs", config.run, config.experiment_name)
    if (status := read_state(folder).status) != FINISHED:
        raise RunError(f"run {folder.run_id} is {status}: only a finished run is exported")
    return folder


def agreement_of(keras: Predictions, export: Predictions, threshold: float) -> Agreement:
    """The export's answers held against those that Keras gave at training, of the same images in the same order."""
    import numpy as np

    from cxr_experiments.evidence.comparison import Cell, Rows
    from cxr_experiments.evidence.ensemble import paired_difference

    difference = np.abs(export.probability - keras.probability)
    before, after = (Cell(one.run_id, 0, "val", Rows.of(one), one.dataset_digest) for one in (keras, export))
    auroc = paired_difference([before], [after], "auroc")
    return Agreement(
        num_images=len(difference),
        max_probability_difference=float(difference.max()),
        num_other_labels=int(np.sum((export.probability >= threshold) != (keras.probability >= threshold))),
        auroc_difference=float(auroc.value),
        auroc_low=float(auroc.low),
        auroc_high=float(auroc.high),
    )


def say(folder: RunFolder, agreement: Agreement, *, synthetic: bool) -> None:
    """Where it is, how large, and how it agrees."""
    from cxr_experiments.record import console
    from cxr_experiments.record.exported import network_file

    path = network_file(folder)
    export, keras = path.stat().st_size / 2**20, folder.file("model.keras").stat().st_size / 2**20
    console.say(f"{path}: {export:.1f} MiB (model.keras {keras:.1f} MiB)")
    console.say(
        f"beside Keras on {agreement.num_images} validation images: probabilities differ by at most "
        f"{agreement.max_probability_difference:.1e}, {agreement.num_other_labels} labels at the frozen threshold; "
        f"AUROC by {agreement.auroc_difference:.1e} [{agreement.auroc_low:.1e}, {agreement.auroc_high:.1e}]",
        synthetic=synthetic,
    )
    console.say(f"ask it: python -m cxr_experiments.predict run={folder.run_id} engine=litert film.jpg")


if __name__ == "__main__":
    run_command(main, "export", ExportConfig)
