"""python -m cxr_experiments.evaluate: score finished runs on the test split, and say so in the test ledger.

The only command (beside a confirmed study) that reads test images.  Threshold and model are frozen before it looks.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from cxr_experiments.config.command_line import run_command, run_job
from cxr_experiments.config.commands import EvaluateConfig, ShortcutsConfig
from cxr_experiments.config.compose import CONF_DIR, home, load_config, register
from cxr_experiments.config.schema import ExperimentConfig, ThresholdConfig
from cxr_experiments.errors import ConfigError, DataError, RunError, TrackingError

if TYPE_CHECKING:
    from cxr_experiments.evidence.calibration import Threshold
    from cxr_experiments.evidence.evaluation import Predictions
    from cxr_experiments.images.splits import Split
    from cxr_experiments.images.store import Store
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
        ConfigError: neither is given; the text lists the runs there are.
        RunError: no such run, or it has not finished.
        DataError: the images are not those of training.
        TrackingError: MLflow was not told; raised after every run has been scored.
    """
    folders, untold = chosen_runs(config), list[str]()
    from cxr_experiments.record import console, run_folder, shortcut_gate  # SciPy, once there is something to score

    for folder in folders:
        evidence, is_headline = evaluate_run(folder, config)
        console.say(f"run {folder.run_id} ({folder.experiment_name})")
        console.say_scores(evidence)
        shortcut_gate.say_gate(folder, config.shortcuts, synthetic=evidence.synthetic)
        console.say_leakage(folder, synthetic=evidence.synthetic)
        digest = str(run_folder.read_json(folder.file("identity.json")).get("dataset_digest"))
        console.say_data_state(digest, load_config(folder.file("config.yaml")).data)
        console.say_where(folder, run_folder.mlflow_link(folder))
        try:
            if is_headline:
                tell_mlflow(folder, config, evidence)
        except TrackingError as error:
            untold.append(f"run {folder.run_id}: {error}")
    if untold:
        raise TrackingError("; ".join(untold))


def chosen_runs(config: EvaluateConfig) -> list[RunFolder]:
    """The finished runs that the config names, in the order of their start."""
    from cxr_experiments.record import run_folder

    runs = home() / "runs"
    if config.run:
        folder = run_folder.find_run(runs, config.run, config.experiment_name)
        state = run_folder.read_state(folder)
        if state.status != run_folder.FINISHED:
            raise RunError(f"run {folder.run_id} is {state.status} ({state.reason or 'no reason'}): train it first")
        return [folder]
    folders = [one for one in run_folder.all_runs(runs) if run_folder.read_state(one).status == run_folder.FINISHED]
    if not config.experiment_name:
        known = "".join(f"\n  run={one.run_id}  experiment_name={one.experiment_name}" for one in folders)
        raise ConfigError(f"give run=ID or experiment_name=NAME; finished runs: {known or 'none yet'}")
    named = [one for one in folders if one.experiment_name == config.experiment_name]
    if not named:
        names = ", ".join(sorted({one.experiment_name for one in folders})) or "none yet"
        raise RunError(f"experiment_name={config.experiment_name} has no finished run under {runs}; there are: {names}")
    return named


def evaluate_run(folder: RunFolder, config: EvaluateConfig) -> tuple[Evidence, bool]:
    """Score one run on the test split, and say whether these are its test results or a second judgement of them.

    Predictions that it already has are judged again without reading an image; a new threshold goes into the ledger too.
    """
    from cxr_experiments.evidence.evaluation import read_predictions
    from cxr_experiments.record import results

    trained = with_root(load_config(folder.file("config.yaml")), config.data.root)
    validation = read_predictions(folder.predictions("val"))
    threshold = frozen_threshold(folder, config.threshold)
    if folder.predictions("test").is_file():
        predictions = read_predictions(folder.predictions("test"))
        record_second_look(folder, threshold)
    else:
        predictions = open_test_split(folder, trained, threshold, config.shortcuts)
    synthetic = trained.data.source == "phantom"
    evidence = results.judge_test(predictions, validation, threshold, synthetic=synthetic)
    return evidence, results.keep_test(folder, evidence)


def evaluate_locked(folder: RunFolder, root: str | None) -> None:
    """Score one cell of a study whose protocol is locked, at the threshold that training froze, and tell MLflow."""
    from cxr_experiments.evidence.evaluation import read_predictions
    from cxr_experiments.record import results

    if folder.predictions("test").is_file():
        return
    validation = read_predictions(folder.predictions("val"))
    trained, threshold = with_root(load_config(folder.file("config.yaml")), root), results.read_threshold(folder)
    predictions = open_test_split(folder, trained, threshold, ShortcutsConfig(), locked=True)
    synthetic = trained.data.source == "phantom"
    evidence = results.judge_test(predictions, validation, threshold, synthetic=synthetic)
    results.keep_test(folder, evidence)
    try:
        tell_mlflow(folder, EvaluateConfig(run=folder.run_id), evidence)
    except TrackingError as error:
        print(f"warning: {error}; {folder.path} has everything", file=sys.stderr)


def tell_mlflow(folder: RunFolder, config: EvaluateConfig, evidence: Evidence) -> None:
    """Test metrics and files into the run's twin in MLflow, where it was tracked or where `tracking` says.

    Raises:
        TrackingError: it is not there any more, or cannot be written.
    """
    from cxr_experiments.record import results, shortcut_gate, tracking

    where = config.tracking or load_config(folder.file("config.yaml")).tracking
    place, mlflow_id = tracking.find_place(where, home(), folder.file("mlflow.json"))
    files = ("scores.csv", "calibration.csv", "threshold_test.json", "predictions_test.csv", "figures")
    values = results.final_values(evidence.scores)
    tracking.log_final(place, mlflow_id, values, [folder.file(name) for name in (*files, *shortcut_gate.FILES)])
    alarms = shortcut_gate.told_alarms(shortcut_gate.read_gate(folder))
    tracking.tag_run(place, mlflow_id, {"cxr.shortcuts": alarms})


def frozen_threshold(folder: RunFolder, rule: ThresholdConfig | None) -> Threshold:
    """The threshold as training froze it, or by another rule from the same validation predictions."""
    from cxr_experiments.evidence.calibration import choose_threshold
    from cxr_experiments.evidence.evaluation import read_predictions
    from cxr_experiments.record.results import read_threshold

    if rule is None:
        return read_threshold(folder)
    validation = read_predictions(folder.predictions("val"))
    rows = (validation.label, validation.probability)
    return choose_threshold(*rows, rule=rule.rule, value=rule.value, split=validation.split)


def record_second_look(folder: RunFolder, threshold: Threshold) -> None:
    """A threshold that this run's test predictions have not been judged at yet is one more look at the test split."""
    from cxr_experiments.record import console, ledger
    from cxr_experiments.record.run_folder import read_json

    opened = read_json(folder.file("test_opening.json"))
    rule = f"{threshold.rule} {threshold.target:g}"
    if rule in opened["rules"]:
        return
    openings = ledger.record_look(home(), folder, {**opened, "rules": [*opened["rules"], rule]}, threshold)
    console.say(f"test predictions of run {folder.run_id} judged again; looks at this test split: {openings}")


def open_test_split(
    folder: RunFolder,
    trained: ExperimentConfig,
    threshold: Threshold,
    levels: ShortcutsConfig,
    *,
    locked: bool = False,
) -> Predictions:
    """Write the opening into the ledger, then let the run's model see the test images, once, and the shortcut gate too.

    With `locked` a study has locked its protocol and written the one opening that all its cells share.
    """
    store = images_of(trained)
    split = proven_split(folder, trained, store)

    from cxr_experiments.evidence.evaluation import predict_split
    from cxr_experiments.evidence.shortcuts import of_run
    from cxr_experiments.learning.trainer import load_model, logit_function  # TensorFlow, after the cheap checks
    from cxr_experiments.record import console, ledger, shortcut_gate
    from cxr_experiments.record.run_folder import write_json

    predict = logit_function(load_model(folder.file("model.keras")))
    opening = {
        "test_digest": split.test_digest,
        "source": store.manifest.source,
        "dataset_digest": store.manifest.digest,
        "num_images": len(split.test),
        "rules": [f"{threshold.rule} {threshold.target:g}"],
    }
    if locked:
        write_json(folder.file("test_opening.json"), opening)
    else:
        openings = ledger.record_look(home(), folder, opening, threshold)
        console.say(f"test split opened for run {folder.run_id}; looks at this test split on record: {openings}")
    with console.without_retracing_notes():
        rows = (store.images, store.manifest, split.test)
        predictions = predict_split(predict, *rows, split="test", run_id=folder.run_id)
        gate = of_run(predict, store, split, predictions, levels)
    shortcut_gate.keep_gate(folder, gate, shortcut_gate.of_data_once(store, levels))
    return predictions


def images_of(trained: ExperimentConfig) -> Store:
    """The prepared images of a run.

    Raises:
        DataError: they are not where they were; the text says how to tell where they are now.
    """
    from cxr_experiments.record import console

    try:
        return console.open_counted(trained.data, home() / "runs")
    except DataError as error:
        raise DataError(
            f"{error}\nif the images have moved since training, say where they are: data.root=DIR"
        ) from error


def proven_split(folder: RunFolder, trained: ExperimentConfig, store: Store) -> Split:
    """The run's own split, on the very images it was trained on, with no patient on two sides unless that was asked.

    Raises:
        DataError: images or split are not those of training.
        LeakageError: a patient stands on two sides.
    """
    from cxr_experiments.images.splits import prove_disjoint, read_split

    split = read_split(folder.file("split.csv"), store.manifest)
    require_same(folder, dataset_digest=store.manifest.digest, split_digest=split.digest)
    if trained.split.kind != "image_level":
        prove_disjoint(store.manifest, split, patient_rule=trained.data.patient_rule)
    return split


def require_same(folder: RunFolder, **digests: str) -> None:
    """Images and split must be those that the run was trained on.

    Raises:
        DataError: they are not.
    """
    from cxr_experiments.record.run_folder import read_json

    identity = read_json(folder.file("identity.json"))
    for name, digest in digests.items():
        if identity.get(name) != digest:
            raise DataError(
                f"run {folder.run_id} was trained with {name} {str(identity.get(name))[:12]}, and now it is "
                f"{digest[:12]}: point data.root at the very images it was trained on, and leave its split.csv alone"
            )


def with_root(config: ExperimentConfig, root: str | None) -> ExperimentConfig:
    """The config with the images' present folder, when it has changed."""
    return config if root is None else replace(config, data=replace(config.data, root=root))


if __name__ == "__main__":
    run_command(main, "evaluate", EvaluateConfig)
