"""Several networks as one: the mean of probabilities, whose threshold it takes, who may be a member, and one look."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Command, Said, Sweep
from hydra import compose, initialize_config_dir
from simulated_arms import make_arms

from cxr_experiments.config.commands import EvaluateConfig
from cxr_experiments.config.compose import CONF_DIR, read_config
from cxr_experiments.config.schema import AugmentationConfig, ExperimentConfig, ThresholdConfig
from cxr_experiments.config.study_spec import StudyConfig, arms_of
from cxr_experiments.errors import ComparisonError, ConfigError, RunError
from cxr_experiments.evaluate.__main__ import evaluate_runs
from cxr_experiments.evidence import metrics
from cxr_experiments.evidence.calibration import Threshold
from cxr_experiments.evidence.ensemble import (
    EACH_VALIDATION,
    ensemble_id,
    ensemble_threshold,
    mean_predictions,
    paired_difference,
    share_images,
)
from cxr_experiments.evidence.evaluation import Predictions, read_predictions, read_scores
from cxr_experiments.evidence.stats import patient_weights
from cxr_experiments.record.cells import CellCard, keep_cell
from cxr_experiments.record.run_folder import RunFolder, read_json, read_json_lines
from cxr_experiments.study import __main__ as study_command
from cxr_experiments.study.confirm import protocol_digest
from cxr_experiments.study.plan import compose_arms
from cxr_experiments.study.reporting import report
from cxr_experiments.train import run_experiment

assert study_command  # importing a command registers its schema

# Seconds each: 40 phantom patients at 16 px, one epoch of one convolution.
TINY = (
    *("data=phantom", "data.num_patients=40", "data.image_size_px=16", "depth.filters=[8]", "depth.convolutions=[1]"),
    *("pooling.dense_units=16", "training.epochs=1", "training.batch_size=16", "training.patience=0"),
)


def predictions(logit: Sequence[float], run_id: str = "a", *, split: str = "val") -> Predictions:
    """Rows of images 0, 1, ... of a patient each, the second half positive."""
    count = len(logit)
    names = np.array([f"{split}/{number}" for number in range(count)])
    label = (np.arange(count) >= count / 2).astype(np.int8)
    values = np.array(logit, dtype=np.float64)
    return Predictions(names, names, split, label, values, metrics.sigmoid(values), run_id, "d" * 64)


def reversed_rows(one: Predictions) -> Predictions:
    rows = {name: getattr(one, name)[::-1] for name in ("image_id", "patient", "label", "logit", "probability")}
    return replace(one, **rows)


def test_probabilities_are_averaged_image_by_image_whatever_the_order_of_rows() -> None:
    first, second = predictions([-1.0, 0.5, 2.0, 0.0]), predictions([3.0, -0.5, 1.0, 4.0], "b")
    joint = mean_predictions([first, reversed_rows(second)], "both")
    assert joint.probability == pytest.approx((first.probability + second.probability) / 2)
    assert joint.probability == pytest.approx(metrics.sigmoid(joint.logit))
    assert joint.image_id.tolist() == first.image_id.tolist()
    assert joint.run_id == "both"


def test_images_that_every_member_is_sure_of_are_still_told_apart() -> None:
    joint = mean_predictions([predictions([40.0, 800.0]), predictions([50.0, 900.0], "b")], "both")
    assert joint.probability.tolist() == [1.0, 1.0]
    assert joint.logit[0] == pytest.approx(40 + np.log(2), abs=1e-3)
    assert joint.logit[1] > joint.logit[0]


def test_log_loss_of_the_mean_is_never_above_the_members_mean() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        members = [predictions(rng.normal(0, 3, 30).tolist(), str(number)) for number in range(4)]
        joint = mean_predictions(members, "all")
        own = [metrics.log_loss(one.label, one.probability) for one in members]
        assert metrics.log_loss(joint.label, joint.probability) <= np.mean(own)


def test_other_images_labels_or_missing_logits_are_refused() -> None:
    first, other = predictions([0.0, 1.0, 2.0, 3.0]), predictions([0.0, 1.0], "b")
    with pytest.raises(ComparisonError, match="runs a and b were judged on different images: 2 stand in one alone"):
        mean_predictions([first, other], "x")
    with pytest.raises(ComparisonError, match="disagree on the label"):
        mean_predictions([first, replace(first, label=1 - first.label)], "x")
    with pytest.raises(ComparisonError, match="has no logits"):
        mean_predictions([first, replace(first, logit=np.full(4, np.nan))], "x")
    assert not share_images([first, other])


def test_threshold_is_frozen_on_shared_validation_and_else_the_members_mean() -> None:
    own = [Threshold(0.2, "sensitivity_at", 0.95, 10), Threshold(0.5, "sensitivity_at", 0.95, 12)]
    shared = predictions([-2.0, -1.0, 1.0, 2.0])
    chosen = ensemble_threshold(shared, own)
    assert (chosen.value, chosen.set_on, chosen.num_images) == (pytest.approx(metrics.sigmoid(1.0)), "val", 4)
    mean = ensemble_threshold(None, own)
    assert (mean.value, mean.set_on, mean.num_images) == (pytest.approx(0.35), EACH_VALIDATION, 22)
    given = Threshold(0.4, "fixed", 0.4, 10)
    assert ensemble_threshold(shared, [given, given]) == ensemble_threshold(None, [given, given]) == given


def test_ensemble_is_named_by_its_members_and_copies() -> None:
    assert ensemble_id(["a", "b"]) == ensemble_id(["b", "a"])
    assert len({ensemble_id(["a", "b"]), ensemble_id(["a", "b"], 4), ensemble_id(["a", "c"])}) == 3


@pytest.mark.parametrize("metric", ["auroc", "log_loss", "accuracy"])
def test_paired_difference_is_as_wide_as_a_bootstrap_over_patients(metric: str) -> None:
    baseline, option = make_arms([0.8], num_seeds=3, num_patients=160, per_patient=2, seed=3)
    found = paired_difference(baseline.cells, option.cells, metric)
    function = getattr(metrics, metric)
    weights = next(patient_weights(baseline.cells[0].rows.patient, num_draws=1500, seed=0))
    drawn = np.zeros(len(weights))
    for one, other in zip(baseline.cells, option.cells, strict=True):
        extra = {"threshold": 0.5} if metric == "accuracy" else {}
        values = [function(cell.rows.label, cell.rows.probability, weights=weights, **extra) for cell in (other, one)]
        drawn += (values[0] - values[1]) / 3
    assert found.value == pytest.approx(float(drawn.mean()), abs=0.1 * float(drawn.std()))
    assert (found.high - found.low) / 3.92 == pytest.approx(float(drawn.std()), rel=0.12)


def test_protocols_that_ask_for_no_ensemble_keep_their_digest() -> None:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        composed = compose("study", ["study=four_choices"], return_hydra_config=True)
        spec = read_config(composed, StudyConfig).study
    locked = CONF_DIR.parent / "results" / "test_ledger.jsonl"
    (lock,) = [line for line in read_json_lines(locked) if line.get("lock") == "four_choices"]
    assert protocol_digest(spec) == lock["study_sha256"]
    assert protocol_digest(replace(spec, ensemble=True)) != lock["study_sha256"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with three runs of one setting: seeds 0 and 1, and one that shares the first one's split."""
    place = tmp_path_factory.mktemp("ensemble")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CXR_HOME", str(place))
        for words in (["seed=0"], ["seed=1"], ["seed=2", "seeds.split=302893680"]):  # that of seed 0
            with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
                more = (*TINY, "tracking=disabled", "experiment_name=trio", *words)
                composed = compose("config", list(more), return_hydra_config=True)
                config = read_config(composed, ExperimentConfig)
            run_experiment(config)
        yield place


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that home."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    monkeypatch.setenv("CXR_HOME", str(tmp_path))
    return tmp_path


def runs_of(home: Path) -> dict[int, RunFolder]:
    """Position in the fixture -> run."""
    folders = [RunFolder(path.parent) for path in (home / "runs" / "phantom-trio").glob("*/split.csv")]
    inits = {read_json(folder.file("identity.json"))["seeds"]["init"]: folder for folder in folders}
    from cxr_experiments.config.seeds import derive

    return {seed: inits[derive(seed, "init")] for seed in range(3)}


def looks(home: Path) -> list[dict[str, object]]:
    path = home / "test_ledger.jsonl"
    return list(read_json_lines(path)) if path.is_file() else []


def ensembles(home: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in sorted((home / "runs" / "phantom-trio").glob("ensemble-*"))]


def test_test_split_is_opened_once_for_all_members_and_not_again(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = EvaluateConfig(experiment_name="phantom-trio", ensemble=True)
    evaluate_runs(replace(asked, validation_only=True))
    assert (looks(place), ensembles(place)) == ([], []), "validation alone opens and keeps nothing"
    evaluate_runs(asked)
    said = capsys.readouterr().out
    assert "test split opened for 3 of 3 runs" in said
    assert "mean of the members' thresholds, sensitivity_at 0.95, each frozen on its own validation images" in said
    assert "no validation score of the ensemble" in said
    (folder,), members = ensembles(place), runs_of(place).values()
    (line,) = looks(place)
    assert line["run_ids"] == sorted(member.run_id for member in members)
    assert line["ensemble"] == folder.run_id
    joint = read_predictions(folder.predictions("test"))
    own = [read_predictions(member.predictions("test")) for member in members]
    assert joint.probability == pytest.approx(np.mean([one.probability for one in own], axis=0), abs=1e-12)
    scores = {one.name: one for one in read_scores(folder.file("scores.csv"))}
    assert "test_auroc" in scores
    assert scores["test_sensitivity_at_frozen"].num_patients > 0
    assert not any(name.startswith("val_") for name in scores)
    values = [json.loads(member.file("threshold.json").read_text())["value"] for member in members]
    assert line["threshold"] == pytest.approx(np.mean(values))

    before = {path: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
    evaluate_runs(asked)
    assert len(looks(place)) == 1, "the same command again is no look"
    assert {path: path.read_bytes() for path in before} == before

    evaluate_runs(replace(asked, threshold=ThresholdConfig("fixed", 0.5)))
    assert len(looks(place)) == 2, "another threshold is one"
    assert {path: path.read_bytes() for path in before} == before
    assert folder.file("scores_test_fixed_0.5.csv").is_file()


def test_members_that_share_a_validation_split_freeze_the_threshold_on_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = runs_of(place)
    evaluate_runs(EvaluateConfig(run=f"{runs[0].run_id},{runs[2].run_id}", ensemble=True))
    said = capsys.readouterr().out
    assert "SYNTHETIC val AUROC, ensemble" in said
    (folder,) = ensembles(place)
    joint = read_predictions(folder.predictions("val"))
    frozen = json.loads(folder.file("threshold_test.json").read_text())
    assert (frozen["set_on"], frozen["num_images"]) == ("val", len(joint.label))
    assert (joint.probability[joint.label == 1] >= frozen["value"]).mean() >= 0.95
    names = {one.name for one in read_scores(folder.file("scores.csv"))}
    assert {"val_auroc", "test_auroc", "test_sensitivity_at_redrawn"} <= names


def test_augmented_copies_are_judged_on_validation_first_and_kept_apart(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs_of(place)[1]
    asked = EvaluateConfig(run=run.run_id, tta=2, validation_only=True)
    evaluate_runs(asked)
    said = capsys.readouterr().out
    assert "SYNTHETIC val log loss, with copies" in said
    assert "the test split was not opened" in said
    assert looks(place) == []
    apart = run.path / "tta-2"
    copies, plain = read_predictions(apart / "predictions_val.csv"), read_predictions(run.predictions("val"))
    assert copies.image_id.tolist() == plain.image_id.tolist()
    assert (copies.logit != plain.logit).any()
    evaluate_runs(replace(asked, validation_only=False))
    (line,) = looks(place)
    assert (line["run_id"], line["tta"]) == (run.run_id, 2)
    assert not run.predictions("test").exists(), "the plain images were not looked at"
    assert {"val_auroc", "test_auroc"} <= {one.name for one in read_scores(apart / "scores.csv")}


def test_copies_depend_on_the_seed_and_not_on_the_images_beside() -> None:
    from cxr_experiments.evidence.ensemble import logit_of_mean
    from cxr_experiments.learning.test_time import with_augmented_copies

    images = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 1), dtype=np.uint8)

    def predict(batch: np.ndarray) -> np.ndarray:
        return batch[:, :12].mean(axis=(1, 2, 3)) / 64 - 2.0

    def answers(seed: int, num_draws: int = 3) -> np.ndarray:
        asked = with_augmented_copies(
            predict, AugmentationConfig(), num_draws=num_draws, seed=seed, average=logit_of_mean
        )
        alone = np.concatenate([asked(images[:2]), asked(images[2:])])
        assert np.array_equal(asked(images), alone)
        return alone

    assert np.array_equal(answers(1), answers(1))
    assert not np.array_equal(answers(1), answers(2))
    none = AugmentationConfig(rotation_degrees=0, translation_fraction=0, zoom_fraction=0, contrast_fraction=0)
    with pytest.raises(ConfigError, match="augmentation=none: its copies at test time would all be alike"):
        with_augmented_copies(predict, none, num_draws=1, seed=0, average=logit_of_mean)


def test_runs_of_two_settings_or_one_seed_twice_are_refused_by_name(place: Path) -> None:
    runs = runs_of(place)
    with pytest.raises(RunError, match="ensemble=true needs two runs or more, and there is one"):
        evaluate_runs(EvaluateConfig(run=runs[0].run_id, ensemble=True))
    twin = runs[1].path.with_name("f" * 12)
    shutil.copytree(runs[1].path, twin)
    with pytest.raises(RunError, match="have the same seeds: each seed counts once"):
        evaluate_runs(EvaluateConfig(experiment_name="phantom-trio", ensemble=True))
    identity = read_json(twin / "identity.json")
    identity["config"]["pooling.dropout"] = 0.25
    (twin / "identity.json").write_text(json.dumps(identity))
    with pytest.raises(RunError, match=r"are no ensemble, they differ in pooling.dropout \(0.5 and 0.25\).*alike are"):
        evaluate_runs(EvaluateConfig(experiment_name="phantom-trio", ensemble=True))
    assert looks(place) == []


def test_sweep_over_settings_is_no_ensemble(sweep: Sweep, evaluated: Said, command: Command) -> None:
    assert evaluated.status == 0
    said = command("evaluate", "experiment_name=phantom-two_by_two", "ensemble=true", home=sweep.home)
    assert said.status == 2
    assert "are no ensemble, they differ in" in said.err
    assert len(said.err.splitlines()) == 1


def test_study_that_asks_for_it_reports_the_ensembles_of_its_arms(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = runs_of(place)
    evaluate_runs(EvaluateConfig(run=f"{runs[0].run_id},{runs[1].run_id}"))
    cells = place / "results" / "mine" / "cells"
    for seed in (0, 1):
        card = CellCard("mine", "baseline", "", "", seed, 0, seed, ())
        facts = read_json(keep_cell(runs[seed], cells, card))
        twin = f"{seed}" * 12  # the same network under another arm: its ensemble differs from the baseline's by nothing
        identity = {**facts["identity"], "config": {**facts["identity"]["config"], "pooling.dropout": 0.25}}
        (cells / f"{twin}.json").write_text(json.dumps({**facts, "run_id": twin, "identity": identity}))
        shutil.copy(cells / f"{runs[seed].run_id}.csv", cells / f"{twin}.csv")
    spec = ["study.factors={pooling.dropout: [0.25]}", "study.seeds=[0,1]", "study.margin=0.1", "tracking=disabled"]
    baseline = ",".join(f"'{word}'" for word in TINY)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        words = [*(f"+{word}" if "factors" in word else word for word in spec), f"study.baseline=[{baseline}]"]
        config = read_config(compose("study", words, return_hydra_config=True), StudyConfig)
        arms = compose_arms("mine", config, arms_of(config.study))
        report("mine", config, arms, "test", {})
        folder = place / "results" / "mine" / "test"
        assert not (folder / "ensembles.csv").exists(), "unless it is asked for, a report is what it was"
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        report("mine", replace(config, study=replace(config.study, ensemble=True)), arms, "test", {})
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before} == before
    with open(folder / "ensembles.csv", newline="") as file:
        rows = {(row["arm"], row["measure"]): row for row in csv.DictReader(file)}
    option = next(arm for arm, _ in rows if arm != "baseline")
    joint = mean_predictions([read_predictions(runs[seed].predictions("test")) for seed in (0, 1)], "x")
    expected = metrics.auroc(joint.label, joint.logit)
    for arm in ("baseline", option):
        assert float(rows[arm, "auroc"]["ensemble"]) == pytest.approx(expected)
    assert float(rows[option, "auroc"]["difference"]) == 0.0
    assert rows["baseline", "auroc"]["difference"] == ""
    assert "SYNTHETIC ensemble of baseline: AUROC" in capsys.readouterr().out
    assert (folder / "ensembles.md").read_text().startswith("# Ensembles of the seeds (SYNTHETIC)")
