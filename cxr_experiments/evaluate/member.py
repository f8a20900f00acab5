"""One run as an ensemble or a judgement with augmented copies asks it: its predictions, read where they are kept.

Predictions of the plain images lie in the run's folder, those with N augmented copies in its tta-N; neither is ever
written over the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cxr_experiments.config.commands import EvaluateConfig
from cxr_experiments.config.compose import load_config
from cxr_experiments.config.schema import ExperimentConfig, ThresholdConfig
from cxr_experiments.config.seeds import derive, resolve_seeds
from cxr_experiments.evaluate.one_run import evaluate_locked, frozen_threshold
from cxr_experiments.evidence.calibration import Threshold, choose_threshold
from cxr_experiments.evidence.ensemble import logit_of_mean
from cxr_experiments.evidence.evaluation import Predictions, predict_split, read_predictions, write_predictions
from cxr_experiments.images.splits import Split
from cxr_experiments.images.store import Store
from cxr_experiments.record import console
from cxr_experiments.record.run_folder import RunFolder, read_json, write_json
from cxr_experiments.record.run_images import images_of, proven_split, with_root


@dataclass(frozen=True)
class Member:
    """A finished run, the config it was trained with (at the images' present place), and copies per image (0: none)."""

    folder: RunFolder
    trained: ExperimentConfig
    tta: int

    @property
    def kept(self) -> RunFolder:
        """Where the predictions with these copies lie."""
        return RunFolder(self.folder.path / f"tta-{self.tta}") if self.tta else self.folder

    @property
    def synthetic(self) -> bool:
        """Whether its images are phantoms."""
        return self.trained.data.source == "phantom"


def member_of(folder: RunFolder, config: EvaluateConfig) -> Member:
    """The run as `config` asks it."""
    return Member(folder, with_root(load_config(folder.file("config.yaml")), config.data.root), config.tta)


def validation_of(member: Member) -> Predictions:
    """Its predictions of its own validation images; with copies they are made the first time."""
    path = member.kept.predictions("val")
    if not path.is_file():
        store = images_of(member.trained)
        predictions = _with_copies(member, store, proven_split(member.folder, member.trained, store), "val")
        path.parent.mkdir(exist_ok=True)
        write_predictions(path, predictions)
    return read_predictions(path)


def threshold_of(member: Member, rule: ThresholdConfig | None) -> Threshold:
    """Its threshold by the rule of its training or by another one, from its own validation predictions."""
    if not member.tta:
        return frozen_threshold(member.folder, rule)
    rule, validation = rule or member.trained.threshold, validation_of(member)
    rows = (validation.label, validation.probability)
    return choose_threshold(*rows, rule=rule.rule, value=rule.value, split=validation.split)


def has_test(member: Member) -> bool:
    """Whether its test predictions are there, so that no test image has to be read."""
    return member.kept.predictions("test").is_file()


def opening_of(member: Member) -> dict[str, Any]:
    """What the ledger says of its test split: digest, source, data set, number of images; no test image is read."""
    told = member.kept.file("test_opening.json")
    if has_test(member) and told.is_file():
        opening = read_json(told)
        return {name: opening[name] for name in ("test_digest", "source", "dataset_digest", "num_images")}
    store = images_of(member.trained)
    split = proven_split(member.folder, member.trained, store)
    return {
        "test_digest": split.test_digest,
        "source": store.manifest.source,
        "dataset_digest": store.manifest.digest,
        "num_images": len(split.test),
    }


def see_test(member: Member, opening: dict[str, Any]) -> None:
    """Let it predict the test images and keep that; whoever calls has written the opening into the ledger."""
    if not member.tta:
        evaluate_locked(member.folder, member.trained.data.root)
        return
    store = images_of(member.trained)
    predictions = _with_copies(member, store, proven_split(member.folder, member.trained, store), "test")
    write_json(member.kept.file("test_opening.json"), opening)
    write_predictions(member.kept.predictions("test"), predictions)


def _with_copies(member: Member, store: Store, split: Split, name: str) -> Predictions:
    """The mean over each image and its copies, by the run's own training augmentation."""
    from cxr_experiments.learning.test_time import with_augmented_copies
    from cxr_experiments.learning.trainer import load_model, logit_function  # TensorFlow, after the cheap checks

    predict = with_augmented_copies(
        logit_function(load_model(member.folder.file("model.keras"))),
        member.trained.augmentation,
        num_draws=member.tta,
        seed=derive(resolve_seeds(member.trained).augmentation, "test_time"),
        average=logit_of_mean,
    )
    rows = {"val": split.val, "test": split.test}[name]
    with console.without_retracing_notes():
        images = (store.images, store.manifest, rows)
        return predict_split(predict, *images, split=name, run_id=member.folder.run_id)
