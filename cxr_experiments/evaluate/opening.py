"""The test images as a run sees them: the very images and the very split of training, and the line in the ledger.

Everything that can be checked is checked before TensorFlow is imported and before the ledger is written.
"""

from __future__ import annotations

from cxr_experiments.config.commands import ShortcutsConfig
from cxr_experiments.config.compose import home
from cxr_experiments.config.schema import ExperimentConfig
from cxr_experiments.evidence.calibration import Threshold
from cxr_experiments.evidence.evaluation import Predictions, predict_split
from cxr_experiments.evidence.shortcuts import of_run
from cxr_experiments.record import console, ledger, shortcut_gate
from cxr_experiments.record.run_folder import RunFolder, write_json
from cxr_experiments.record.run_images import images_of, proven_split


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

    from cxr_experiments.learning.trainer import load_model, logit_function  # TensorFlow, after the cheap checks

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
