"""One run on the test split: opened, judged at validation's threshold, kept in its folder and told to MLflow."""

from __future__ import annotations

import sys

from cxr_experiments.config.commands import EvaluateConfig, ShortcutsConfig
from cxr_experiments.config.compose import home, load_config
from cxr_experiments.config.schema import ThresholdConfig
from cxr_experiments.errors import TrackingError
from cxr_experiments.evaluate.opening import open_test_split
from cxr_experiments.evidence.calibration import Threshold, choose_threshold
from cxr_experiments.evidence.evaluation import read_predictions
from cxr_experiments.record import console, ledger, results, shortcut_gate, tracking
from cxr_experiments.record.kept_files import TEST_RESULTS
from cxr_experiments.record.results import Evidence
from cxr_experiments.record.run_folder import RunFolder, read_json
from cxr_experiments.record.run_images import with_root
from cxr_experiments.record.twin_in_mlflow import where_told


def evaluate_run(folder: RunFolder, config: EvaluateConfig) -> tuple[Evidence, bool]:
    """Score one run on the test split, and say whether these are its test results or a second judgement of them.

    Predictions that it already has are judged again without reading an image; a new threshold goes into the ledger too.
    """
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
    where = config.tracking or where_told(folder, home())
    place, mlflow_id = tracking.find_place(where, home(), folder.file("mlflow.json"))
    values = results.final_values(evidence.scores)
    tracking.log_final(place, mlflow_id, values, [folder.file(name) for name in TEST_RESULTS])
    alarms = shortcut_gate.told_alarms(shortcut_gate.read_gate(folder))
    tracking.tag_run(place, mlflow_id, {"cxr.shortcuts": alarms})


def frozen_threshold(folder: RunFolder, rule: ThresholdConfig | None) -> Threshold:
    """The threshold as training froze it, or by another rule from the same validation predictions."""
    if rule is None:
        return results.read_threshold(folder)
    validation = read_predictions(folder.predictions("val"))
    rows = (validation.label, validation.probability)
    return choose_threshold(*rows, rule=rule.rule, value=rule.value, split=validation.split)


def record_second_look(folder: RunFolder, threshold: Threshold) -> None:
    """A threshold that this run's test predictions have not been judged at yet is one more look at the test split."""
    opened = read_json(folder.file("test_opening.json"))
    rule = f"{threshold.rule} {threshold.target:g}"
    if rule in opened["rules"]:
        return
    openings = ledger.record_look(home(), folder, {**opened, "rules": [*opened["rules"], rule]}, threshold)
    console.say(f"test predictions of run {folder.run_id} judged again; looks at this test split: {openings}")
