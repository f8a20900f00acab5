"""python -m cxr_experiments.evaluate: score finished runs on the test split, and say so in the test ledger.

The only command (beside a confirmed study) that reads test images.  Threshold and model are frozen before it looks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.compose import CONF_DIR, home, load_config, register
from cxr_experiments.config.schema import EvaluateConfig, ExperimentConfig, ThresholdConfig
from cxr_experiments.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from cxr_experiments.evidence.calibration import Threshold
    from cxr_experiments.evidence.evaluation import Predictions
    from cxr_experiments.record.results import Evidence
    from cxr_experiments.record.run_folder import RunFolder

register("evaluate_schema", EvaluateConfig)


@hydra.main(config_path=str(CONF_DIR), config_name="evaluate", version_base="1.3")
def main(composed: DictConfig) -> None:
    """Compose, check, score."""
    run_job(composed, EvaluateConfig, evaluate_runs)


def evaluate_runs(config: EvaluateConfig) -> None:
    """Score the runs that `run` or `experiment_name` names, one after another, each into its own folder and MLflow run.

    Raises:
        ConfigError: neither or both are given; the text lists the runs there are.
        RunError: no such run, or it has not finished.
        DataError: the images are not those of training.
    """
    from cxr_experiments.record import console

    for folder in chosen_runs(config):
        evidence = evaluate_run(folder, config)
        console.say(f"run {folder.run_id} ({folder.experiment_name})")
        console.say_scores(evidence)


def chosen_runs(config: EvaluateConfig) -> list[RunFolder]:
    """The finished runs that the config names, in the order of their start."""
    from cxr_experiments.record import run_folder

    runs = home() / "runs"
    if config.run and not config.experiment_name:
        folders = [run_folder.find_run(runs, config.run)]
        state = run_folder.read_state(folders[0])
        if state.status != run_folder.FINISHED:
            raise RunError(f"run {folders[0].run_id} is {state.status} ({state.reason or 'no reason'}): train it first")
        return folders
    folders = [one for one in run_folder.all_runs(runs) if run_folder.read_state(one).status == run_folder.FINISHED]
    if config.run or not config.experiment_name:
        known = "".join(f"\n  run={one.run_id}  experiment_name={one.experiment_name}" for one in folders)
        raise ConfigError(f"give either run=ID or experiment_name=NAME; finished runs: {known or 'none yet'}")
    named = [one for one in folders if one.experiment_name == config.experiment_name]
    if not named:
        names = ", ".join(sorted({one.experiment_name for one in folders})) or "none yet"
        raise RunError(f"experiment_name={config.experiment_name} has no finished run under {runs}; there are: {names}")
    return named


def evaluate_run(folder: RunFolder, config: EvaluateConfig) -> Evidence:
    """Score one run on the test split; predictions that it already has are judged again, without reading an image."""
    from cxr_experiments.evidence.evaluation import read_predictions, score
    from cxr_experiments.record import results, tracking

    trained = with_root(load_config(folder.file("config.yaml")), config.data.root)
    threshold = frozen_threshold(folder, config.threshold)
    if folder.predictions("test").is_file():
        predictions = read_predictions(folder.predictions("test"))
    else:
        predictions = open_test_split(folder, trained, threshold)
    scores = score(predictions, threshold, patients_verifiable=all(predictions.patient))
    evidence = results.Evidence(predictions, threshold, scores, synthetic=trained.data.source == "phantom")
    results.keep_test(folder, evidence)
    place, mlflow_id = tracking.find_place(config.tracking, home(), folder.file("mlflow.json"))
    files = [folder.file("scores.csv"), folder.predictions("test"), folder.file("figures")]
    tracking.log_final(place, mlflow_id, results.final_values(scores), files)
    return evidence


def frozen_threshold(folder: RunFolder, rule: ThresholdConfig | None) -> Threshold:
    """The threshold as training froze it, or by another rule from the same validation predictions."""
    from cxr_experiments.evidence.calibration import choose_threshold
    from cxr_experiments.evidence.evaluation import read_predictions
    from cxr_experiments.record.results import read_threshold

    if rule is None:
        return read_threshold(folder)
    validation = read_predictions(folder.predictions("val"))
    return choose_threshold(validation.label, validation.probability, rule=rule.rule, value=rule.value)


def open_test_split(folder: RunFolder, trained: ExperimentConfig, threshold: Threshold) -> Predictions:
    """Write the opening into the ledger, then let the run's model see the test images."""
    from cxr_experiments.evidence.evaluation import predict_split
    from cxr_experiments.images.splits import read_split
    from cxr_experiments.record import console, ledger

    store = console.open_counted(trained.data, home() / "runs")
    require_same_data(folder, store.manifest.digest)
    split = read_split(folder.file("split.csv"), store.manifest)

    from cxr_experiments.learning.trainer import load_model, logit_function  # TensorFlow, after the cheap checks

    predict = logit_function(load_model(folder.file("model.keras")))
    entry = {
        "run_id": folder.run_id,
        "experiment_name": folder.experiment_name,
        "source": store.manifest.source,
        "dataset_digest": store.manifest.digest,
        "num_images": len(split.test),
        "threshold": threshold.value,
        "threshold_rule": f"{threshold.rule} {threshold.target:g}",
    }
    openings = ledger.record_opening(home(), split.test_digest, entry)
    console.say(f"test split opened for run {folder.run_id}; openings of it on record: {openings}")
    return predict_split(predict, store.images, store.manifest, split.test, split="test", run_id=folder.run_id)


def require_same_data(folder: RunFolder, digest: str) -> None:
    """The images must be those that the run was trained on.

    Raises:
        DataError: they are not.
    """
    from cxr_experiments.record.run_folder import read_json

    expected = read_json(folder.file("identity.json")).get("dataset_digest")
    if digest != expected:
        raise DataError(
            f"run {folder.run_id} was trained on the data set {str(expected)[:12]}, and these images are "
            f"{digest[:12]}: point data.root at the folder it was trained on"
        )


def with_root(config: ExperimentConfig, root: str | None) -> ExperimentConfig:
    """The config with the images' present folder, when it has changed."""
    return config if root is None else replace(config, data=replace(config.data, root=root))


if __name__ == "__main__":
    run_command(main, "evaluate", EvaluateConfig)
